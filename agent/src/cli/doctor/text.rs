//! The findings for people: one line a feature and program; below what is missing, what is lost and the mend.

use std::io::{self, Write};

use super::report::{FeatureLine, ProgramLine, Report, VerifierLine};
use crate::bpf::features::{Need, Presence};
use crate::cli::output::{Colour, Style, printable};

/// Width of the second column.
const NAME: usize = 24;

pub(super) fn print(report: &Report<'_>, style: Style, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "ringfence {} on Linux {}, with {}",
        report.version,
        report.kernel,
        printable(&report.policy)
    )?;
    writeln!(out)?;
    for feature in &report.features {
        print_feature(feature, style, out)?;
    }
    writeln!(out)?;
    for program in &report.programs {
        print_program(program, style, out)?;
    }
    if let Some(error) = &report.programs_error {
        line(out, &style.paint(Colour::Bad, "refused "), "programs", error)?;
    }
    writeln!(out)?;
    let colour = if report.can_enforce { Colour::Good } else { Colour::Bad };
    writeln!(out, "{}", style.paint(colour, &report.summary))
}

fn line(out: &mut impl Write, word: &str, name: &str, detail: &str) -> io::Result<()> {
    writeln!(out, "{word} {name:<NAME$} {}", printable(detail).trim_end())
}

/// What belongs to the line above.
fn below(out: &mut impl Write, what: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{:8} {:NAME$} {what}: {}", "", "", printable(text))
}

fn print_feature(feature: &FeatureLine<'_>, style: Style, out: &mut impl Write) -> io::Result<()> {
    let info = feature.need == Need::Info.word();
    let missing = feature.presence == Presence::Missing.word();
    let colour = match (info, missing) {
        (true, _) => Colour::Dim,
        (false, true) if feature.need == Need::Required.word() => Colour::Bad,
        (false, true) => Colour::Warn,
        (false, false) if feature.presence == Presence::Unknown.word() => Colour::Warn,
        (false, false) => Colour::Good,
    };
    let word = if info { "info" } else { feature.presence };
    line(out, &style.paint(colour, &format!("{word:<8}")), feature.feature, feature.detail)?;
    if !feature.needed_by.is_empty() {
        below(out, "needed by", &feature.needed_by.join(", "))?;
    }
    if info {
        return Ok(());
    }
    for (what, text) in [("lost", feature.lost), ("mend", feature.mend)] {
        if let Some(text) = text {
            below(out, what, text)?;
        }
    }
    Ok(())
}

fn print_program(program: &ProgramLine<'_>, style: Style, out: &mut impl Write) -> io::Result<()> {
    let (colour, word) =
        if program.error.is_none() { (Colour::Good, "found") } else { (Colour::Bad, "refused") };
    let did = match (program.loads, program.attaches) {
        (false, _) => "the kernel refuses it",
        (true, None) => "loads",
        (true, Some(true)) => "loads and attaches",
        (true, Some(false)) => "loads, and does not attach",
    };
    let figures = program.verifier.map(figures).unwrap_or_default();
    line(out, &style.paint(colour, &format!("{word:<8}")), program.program, &format!("{did}{figures}"))?;
    for text in program.error.into_iter().flat_map(str::lines) {
        below(out, "said", text)?;
    }
    Ok(())
}

fn figures(cost: VerifierLine) -> String {
    let share = |of: u64, bar: u64| {
        let tenths = of.saturating_mul(1000) / bar.max(1);
        format!("{}.{} %", tenths / 10, tenths % 10)
    };
    format!(
        "; {} instructions verified ({} of {}), {} bytes of stack ({} of {})",
        cost.instructions,
        share(cost.instructions, cost.instructions_bar),
        cost.instructions_bar,
        cost.stack_bytes,
        share(cost.stack_bytes, cost.stack_bar_bytes),
        cost.stack_bar_bytes,
    )
}
