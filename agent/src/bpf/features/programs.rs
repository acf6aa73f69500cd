//! The real programs on this kernel: does each load, with what effort, and does it attach to an empty cgroup.

use std::fs::File;
use std::path::Path;

use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program};
use aya::{EbpfLoader, VerifierLogLevel};

use super::super::attach::HOOKS;
use super::super::load::LoadError;
use super::super::verified::{Figures, load_program, load_with_figures};
use super::{Feature, Presence, Probed};

/// Programs of layers: a kernel that refuses one lacks the layer, and the hooks enforce all the same.
const LAYERS: [(&str, Feature); 3] = [
    ("ringfence_cgroup_mkdir", Feature::Birth),
    ("ringfence_cgroup_release", Feature::Release),
    ("ringfence_host", Feature::HostLayer),
];

/// One program.
#[derive(Clone, Debug)]
pub struct ProgramReport {
    /// Its name in the kernel object.
    pub name: String,
    /// Its hook, if it is one that attaches to the cgroup.
    pub hook: Option<&'static str>,
    /// The verifier took it; what it said if not.
    pub loads: Result<(), String>,
    /// What that took the verifier, if that was asked for.
    pub figures: Option<Figures>,
    /// It was attached to the scratch cgroup; `None` if that was not tried.
    pub attaches: Option<Result<(), String>>,
}

/// Loads every program of the object, attaches those of hooks to the scratch cgroup, and lets all of it go.
///
/// With `figures` each program is loaded twice, see [`load_with_figures`].
///
/// # Errors
/// The object itself is not taken: its maps, or its type information.
pub fn probe_programs(
    object: &[u8],
    scratch: Option<&Path>,
    figures: bool,
) -> Result<Vec<ProgramReport>, LoadError> {
    if object.is_empty() {
        return Err(LoadError::Stub);
    }
    let mut ebpf = EbpfLoader::new().verifier_log_level(VerifierLogLevel::STATS).load(object)?;
    let reports = ebpf.programs_mut().map(|(name, program)| {
        let (loads, figures) = if figures {
            match load_with_figures(program) {
                Ok(figures) => (Ok(()), Some(figures)),
                Err(error) => (Err(error.to_string()), None),
            }
        } else {
            (load_program(program).map_err(|e| e.to_string()), None)
        };
        let hook = HOOKS.iter().find(|h| h.program == name).map(|h| h.hook);
        let attaches = match (scratch, hook, &loads) {
            (Some(scratch), Some(hook), Ok(())) => Some(attach(program, hook, scratch)),
            (None, _, _) | (_, None, _) | (_, _, Err(_)) => None,
        };
        ProgramReport { name: name.to_owned(), hook, loads, figures, attaches }
    });
    let mut reports: Vec<ProgramReport> = reports.collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

/// Attaches a program to a cgroup until the object is dropped.
#[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum: programs of other types attach to no cgroup")]
fn attach(program: &mut Program, hook: &str, cgroup: &Path) -> Result<(), String> {
    let cgroup = File::open(cgroup).map_err(|e| format!("{}: {e}", cgroup.display()))?;
    // aya's `AllowMultiple` passes a flag that links refuse; a link is always "multi" (aya issue 1078).
    let mode = CgroupAttachMode::Single;
    let way = if hook == "ingress" { CgroupSkbAttachType::Ingress } else { CgroupSkbAttachType::Egress };
    let done = match program {
        Program::CgroupSkb(p) => p.attach(&cgroup, way, mode).map(drop),
        Program::CgroupSock(p) => p.attach(&cgroup, mode).map(drop),
        Program::CgroupSockAddr(p) => p.attach(&cgroup, mode).map(drop),
        _ => return Err("no program for a cgroup".to_owned()),
    };
    done.map_err(|e| e.to_string())
}

/// The layer that a program is of; `None` for programs without which nothing is enforced.
#[must_use]
pub fn layer_of(program: &str) -> Option<Feature> {
    LAYERS.iter().find(|(name, _)| *name == program).map(|(_, feature)| *feature)
}

/// A layer whose program is refused is missing, whatever its smallest probe found.
pub fn take_away_refused_layers(features: &mut [Probed], programs: &[ProgramReport]) {
    for program in programs.iter().filter(|p| p.loads.is_err()) {
        let of = features.iter_mut().find(|f| Some(f.feature) == layer_of(&program.name));
        if let Some(feature) = of {
            feature.presence = Presence::Missing;
            feature.detail = format!("the kernel refuses {}", program.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, Presence, Probed, ProgramReport, take_away_refused_layers};

    #[test]
    fn a_layer_whose_program_is_refused_is_missing_and_no_other() {
        let program = |name: &str, loads| ProgramReport {
            name: name.into(),
            hook: None,
            loads,
            figures: None,
            attaches: None,
        };
        let mut features = [Feature::Birth, Feature::Release].map(|f| Probed::found(f, "tried"));
        let programs = [
            program("ringfence_cgroup_mkdir", Err("too large".into())),
            program("ringfence_cgroup_release", Ok(())),
            program("ringfence_egress", Err("too large".into())),
        ];
        take_away_refused_layers(&mut features, &programs);
        assert_eq!(features.map(|f| f.presence), [Presence::Missing, Presence::Found]);
    }
}
