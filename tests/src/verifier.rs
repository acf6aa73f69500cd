//! Every program of an object, loaded by a process with the least privilege: what the kernel's verifier says of it.

use std::collections::BTreeMap;
use std::path::Path;

use agent::bpf::verified::{Figures, FiguresError, load_with_figures};
use anyhow::{Context, Result, ensure};
use aya::{EbpfLoader, VerifierLogLevel};
use caps::{CapSet, Capability, CapsHashSet};

/// Set in the environment of a process that loads objects and reports; the value is a list of paths with `:`.
pub const MARK: &str = "RINGFENCE_LOADER";
/// All that loading needs (`facts`: without PERFMON the verifier's speculation rules refuse the index).
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// Loads and reports, and does not return, if this process was started for that. Call it first in `main`.
pub fn serve_if_asked() {
    let Some(objects) = std::env::var_os(MARK) else { return };
    let code = match std::env::split_paths(&objects).try_for_each(|object| report(&object)) {
        Ok(()) => 0,
        Err(error) => {
            println!("LOAD FAILED {error:#}");
            1
        }
    };
    std::process::exit(code);
}

/// Drops every capability but [`NEEDED`], loads, prints one `VERIFIER` line a program.
fn report(object: &Path) -> Result<()> {
    keep_only_needed_capabilities()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
    let mut refused = Vec::new();
    for (program, result) in load(object)? {
        match result {
            Ok(Figures { instructions, stack }) => println!(
                "VERIFIER kernel={} program={program} insns={instructions} stack={stack}",
                kernel.trim()
            ),
            Err(error) => {
                println!("LOAD FAILED program {program}: {error}");
                refused.push(program);
            }
        }
    }
    ensure!(refused.is_empty(), "{}: {} refused", object.display(), refused.join(", "));
    Ok(())
}

fn keep_only_needed_capabilities() -> Result<()> {
    let needed = CapsHashSet::from(NEEDED);
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let wanted = if matches!(set, CapSet::Inheritable) { CapsHashSet::new() } else { needed.clone() };
        caps::set(None, set, &wanted).with_context(|| format!("cannot reduce the {set:?} capabilities"))?;
    }
    let left = caps::read(None, CapSet::Permitted)?;
    ensure!(left == needed, "capabilities after the reduction: {left:?}");
    Ok(())
}

/// Loads every program of the object; nothing is attached. A program that the kernel refuses has an error with the
/// end of the verifier's log.
///
/// # Errors
/// The object itself (its maps, its BTF) cannot be loaded, or has no programs.
pub fn load(object: &Path) -> Result<BTreeMap<String, Result<Figures, FiguresError>>> {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load_file(object)
        .with_context(|| format!("cannot load {}", object.display()))?;
    let programs = ebpf.programs_mut();
    let figures: BTreeMap<_, _> =
        programs.map(|(name, program)| (name.to_owned(), load_with_figures(program))).collect();
    ensure!(!figures.is_empty(), "{} has no programs", object.display());
    Ok(figures)
}
