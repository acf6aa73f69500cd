//! The findings as they are printed: as JSON, whose fields are stable, or as lines.

use serde::Serialize;

use super::needs::{Needs, Source};
use crate::bpf::features::programs::{ProgramReport, layer_of};
use crate::bpf::features::{Feature, Need, Presence, Probed};
use crate::bpf::load::LoadError;
use crate::bpf::verified::{Figures, INSTRUCTIONS_BAR, STACK_BAR};

/// All of it. Absent is null.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) kernel: String,
    pub(super) version: &'static str,
    /// Nothing that is required is missing.
    pub(super) can_enforce: bool,
    /// That, in plain words.
    pub(super) summary: String,
    /// Whose fences were asked for what they need.
    pub(super) policy: String,
    pub(super) features: Vec<FeatureLine<'a>>,
    /// Empty if the kernel object is not taken at all: see `programs_error`.
    pub(super) programs: Vec<ProgramLine<'a>>,
    pub(super) programs_error: Option<String>,
}

/// One feature.
#[derive(Debug, Serialize)]
pub(super) struct FeatureLine<'a> {
    pub(super) feature: &'static str,
    pub(super) presence: &'static str,
    /// `required`, `wanted` or `info`; of features that a fence requires, `required`.
    pub(super) need: &'static str,
    /// Fences that need it beyond what every fence needs.
    pub(super) needed_by: Vec<&'a str>,
    pub(super) detail: &'a str,
    /// What is lost, if it is missing.
    pub(super) lost: Option<&'static str>,
    /// What to do, if it is missing.
    pub(super) mend: Option<&'static str>,
}

/// One program.
#[derive(Debug, Serialize)]
pub(super) struct ProgramLine<'a> {
    pub(super) program: &'a str,
    pub(super) hook: Option<&'static str>,
    pub(super) loads: bool,
    /// Null if it was not tried.
    pub(super) attaches: Option<bool>,
    pub(super) error: Option<&'a str>,
    pub(super) verifier: Option<VerifierLine>,
}

/// What a program costs the verifier, and its share of the bars.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct VerifierLine {
    pub(super) instructions: u64,
    pub(super) instructions_bar: u64,
    pub(super) stack_bytes: u64,
    pub(super) stack_bar_bytes: u64,
}

impl From<Figures> for VerifierLine {
    fn from(figures: Figures) -> Self {
        Self {
            instructions: figures.instructions,
            instructions_bar: INSTRUCTIONS_BAR,
            stack_bytes: figures.stack,
            stack_bar_bytes: STACK_BAR,
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(
        features: &'a [Probed],
        programs: Result<&'a [ProgramReport], &LoadError>,
        needs: &'a Needs,
    ) -> Self {
        let features: Vec<_> = features.iter().map(|probed| feature_line(probed, needs)).collect();
        let programs_error = programs.err().map(ToString::to_string);
        let programs: Vec<_> = programs.unwrap_or_default().iter().map(program_line).collect();
        let mut broken = required(&features, Presence::Missing);
        if programs_error.is_some() {
            broken.push("programs");
        }
        let needed = programs.iter().filter(|p| p.error.is_some() && layer_of(p.program).is_none());
        broken.extend(needed.map(|p| p.program));
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION"),
            can_enforce: broken.is_empty(),
            summary: summary(&broken, &features),
            policy: policy(&needs.source),
            features,
            programs,
            programs_error,
        }
    }
}

fn feature_line<'a>(probed: &'a Probed, needs: &'a Needs) -> FeatureLine<'a> {
    let feature = probed.feature;
    let needed_by = needs.fences(feature);
    let said = |text: &'static str| {
        let missing = probed.presence == Presence::Missing && !text.is_empty();
        missing.then_some(text)
    };
    FeatureLine {
        feature: feature.name(),
        presence: probed.presence.word(),
        need: if needed_by.is_empty() { feature.need() } else { Need::Required }.word(),
        needed_by,
        detail: &probed.detail,
        lost: said(feature.lost()),
        mend: said(feature.mend()),
    }
}

fn program_line(program: &ProgramReport) -> ProgramLine<'_> {
    let attach_error = program.attaches.as_ref().and_then(|a| a.as_ref().err());
    ProgramLine {
        program: &program.name,
        hook: program.hook,
        loads: program.loads.is_ok(),
        attaches: program.attaches.as_ref().map(Result::is_ok),
        error: program.loads.as_ref().err().or(attach_error).map(String::as_str),
        verifier: program.figures.map(VerifierLine::from),
    }
}

fn required<'a>(features: &[FeatureLine<'a>], presence: Presence) -> Vec<&'a str> {
    let of = features.iter().filter(|f| f.need == Need::Required.word() && f.presence == presence.word());
    of.map(|f| f.feature).collect()
}

fn policy(source: &Source) -> String {
    match source {
        Source::Files(path) => format!("the fences of {}", path.display()),
        Source::Agent(socket) => format!("the fences of the agent on {}", socket.display()),
        Source::Nobody(socket) => {
            format!("no fences: no agent answers on {}, and no --policy was given", socket.display())
        }
    }
}

/// The last line. Each case says what `ringfence run` will do.
fn summary(broken: &[&str], features: &[FeatureLine<'_>]) -> String {
    let of_fences: Vec<&str> = features
        .iter()
        .filter(|f| broken.contains(&f.feature) && !f.needed_by.is_empty())
        .map(|f| f.feature)
        .collect();
    if broken.len() > of_fences.len() {
        return format!("ringfence can't enforce here; missing: {}", broken.join(", "));
    }
    if !of_fences.is_empty() {
        return format!(
            "ringfence can enforce here only in part: fences require what is missing ({}); a first start is refused \
             without --allow-partial",
            of_fences.join(", ")
        );
    }
    let mut text = "ringfence can enforce here".to_owned();
    let untried = required(features, Presence::Unknown);
    if !untried.is_empty() {
        text += &format!(", as far as could be tried: {} could not", untried.join(", "));
    }
    let lost = |f: &&FeatureLine<'_>| f.need == Need::Wanted.word() && f.presence == Presence::Missing.word();
    let lost: Vec<&str> = features.iter().filter(lost).map(|f| f.feature).collect();
    if !lost.is_empty() {
        text += &format!("; without {}, see above for what is lost", lost.join(", "));
    }
    if lost.contains(&Feature::PureCgroups.name()) {
        text += "; on this hybrid host a first start is refused without --allow-hybrid-cgroups";
    }
    text
}
