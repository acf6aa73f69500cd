//! The real programs on this kernel: does each load, with what effort, and does it attach to an empty cgroup.

use std::path::Path;

use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use super::super::attach::{HOOKS, HookProgram, attach};
use super::super::load::LoadError;
use super::super::verified::{Figures, load_program, load_with_figures};

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
    let mut reports: Vec<ProgramReport> = ebpf
        .programs_mut()
        .map(|(name, program)| {
            let (loads, figures) = if figures {
                match load_with_figures(program) {
                    Ok(figures) => (Ok(()), Some(figures)),
                    Err(error) => (Err(error.to_string()), None),
                }
            } else {
                (load_program(program).map_err(|e| e.to_string()), None)
            };
            let hook = HOOKS.iter().find(|h| h.program == name).map(|h| h.hook);
            ProgramReport { name: name.to_owned(), hook, loads, figures, attaches: None }
        })
        .collect();
    if let Some(scratch) = scratch {
        for report in &mut reports {
            report.attaches = attaches(&mut ebpf, report, scratch);
        }
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

fn attaches(ebpf: &mut Ebpf, report: &ProgramReport, scratch: &Path) -> Option<Result<(), String>> {
    let hook: HookProgram = HOOKS.into_iter().find(|h| h.program == report.name)?;
    report.loads.as_ref().ok()?;
    Some(attach(ebpf, scratch, &[hook]).map_err(|e| e.to_string()))
}
