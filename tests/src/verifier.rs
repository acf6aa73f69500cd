//! What the kernel's verifier says of every program of an object: does it load with the least privilege,
//! how many instructions did the verifier walk, how deep is the stack.
//!
//! The figures are in the verifier's log, which aya returns only when a load *fails*. So each program is loaded
//! twice. First with no file descriptor left to this process: giving the program a descriptor is the last step of
//! `BPF_PROG_LOAD` (`bpf_prog_new_fd` in `kernel/bpf/syscall.c`), so the load fails with EMFILE *after* the
//! verifier has accepted and written its statistics. Then in earnest.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use caps::{CapSet, Capability, CapsHashSet};
use rustix::io::{Errno, dup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::xlated::deepest_chain;

/// Set in the environment of a process that loads objects and reports; the value is a list of paths with `:`.
pub const MARK: &str = "RINGFENCE_LOADER";
/// All that loading needs (`facts`: without PERFMON the verifier's speculation rules refuse the index).
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// The verifier's figures for one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Instructions that the verifier walked, over all paths; its limit is 1,000,000.
    pub instructions: u64,
    /// Bytes of stack of the deepest chain of calls, of the 512 that there are.
    pub stack: u64,
}

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
                println!("LOAD FAILED program {program}: {error:#}");
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
pub fn load(object: &Path) -> Result<BTreeMap<String, Result<Figures>>> {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load_file(object)
        .with_context(|| format!("cannot load {}", object.display()))?;
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    ensure!(!names.is_empty(), "{} has no programs", object.display());
    Ok(names.into_iter().map(|name| (name.clone(), load_one(&mut ebpf, &name))).collect())
}

fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<Figures> {
    let program = ebpf.program_mut(name).context("vanished")?;
    let log = match without_descriptors(|| load_program(program))? {
        Err(ProgramError::LoadError { io_error, verifier_log })
            if io_error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) =>
        {
            verifier_log.to_string()
        }
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>();
            bail!("the kernel refused it: {io_error}\n{}", end.join("\n"));
        }
        Err(other) => return Err(other.into()),
        Ok(()) => bail!("it was loaded although no file descriptor was left"),
    };
    load_program(program).context("cannot load it in earnest")?;
    let (instructions, stacks) =
        statistics(&log).with_context(|| format!("no statistics in the verifier's log: {log}"))?;
    let stack = deepest_chain(program.fd()?.as_fd(), &stacks)?;
    Ok(Figures { instructions, stack })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum; what the agent doesn't load is refused")]
fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        other => Err(ProgramError::UnexpectedProgramType).inspect_err(|_| {
            println!("LOAD unexpected program type {:?}", other.prog_type());
        }),
    }
}

/// Runs `call` while no descriptor can be made: the limit is set to the lowest free number.
fn without_descriptors<T>(call: impl FnOnce() -> T) -> Result<T> {
    let lowest_free = dup(std::io::stderr()).context("dup")?.as_raw_fd();
    let before = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(u64::try_from(lowest_free)?), ..before };
    setrlimit(Resource::Nofile, none_left).context("cannot lower RLIMIT_NOFILE")?;
    let result = call();
    setrlimit(Resource::Nofile, before).context("cannot restore RLIMIT_NOFILE")?;
    Ok(result)
}

/// Reads `processed 2039 insns (limit 1000000) …` and `stack depth 160+8`: instructions, and stack per subprogram.
fn statistics(log: &str) -> Option<(u64, Vec<u64>)> {
    let processed = log.lines().find_map(|line| line.strip_prefix("processed "))?;
    let depth = log.lines().find_map(|line| line.strip_prefix("stack depth "))?;
    let stacks = depth.split('+').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    Some((processed.split(' ').next()?.parse().ok()?, stacks))
}

#[cfg(test)]
mod tests {
    use super::statistics;

    #[test]
    fn statistics_are_read_from_the_kernels_log() {
        let log = "verification time 812 usec\nstack depth 160+8+0+88\n\
                   processed 2039 insns (limit 1000000) max_states_per_insn 4 total_states 7 peak_states 7 mark_read 5\n";
        assert_eq!(statistics(log), Some((2039, vec![160, 8, 0, 88])));
        assert_eq!(statistics("no such line"), None);
    }
}
