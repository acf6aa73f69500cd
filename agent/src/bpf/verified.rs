//! What the kernel's verifier says of a program: how many instructions it walked, how deep the stack is.
//!
//! The figures are in the verifier's log, which aya returns only when a load *fails*. So a program is loaded
//! twice. First with no file descriptor left to this process: giving the program a descriptor is the last step of
//! `BPF_PROG_LOAD` (`bpf_prog_new_fd` in `kernel/bpf/syscall.c`), so the load fails with EMFILE *after* the
//! verifier has accepted and written its statistics. Then in earnest.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::{Program, ProgramError};
use rustix::io::{Errno, dup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::xlated::deepest_chain;

/// The verifier's limit of instructions walked (`BPF_COMPLEXITY_LIMIT_INSNS` in include/linux/bpf.h).
pub const INSTRUCTIONS_LIMIT: u64 = 1_000_000;
/// Our bar for instructions: a quarter of the limit, on any kernel.
pub const INSTRUCTIONS_BAR: u64 = INSTRUCTIONS_LIMIT / 4;
/// The kernel's limit of stack, in bytes (`MAX_BPF_STACK` in include/linux/filter.h).
pub const STACK_LIMIT: u64 = 512;
/// Our bar for stack, in bytes, on any kernel: each kernel rounds frames up in its own way.
pub const STACK_BAR: u64 = 400;
/// Lines of the verifier's log that an error shows, from its end.
const LOG_LINES: usize = 20;

/// The verifier's figures for one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Instructions that the verifier walked, over all paths, of [`INSTRUCTIONS_LIMIT`].
    pub instructions: u64,
    /// Bytes of stack of the deepest chain of calls, of [`STACK_LIMIT`].
    pub stack: u64,
}

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum FiguresError {
    /// The kernel does not take the program.
    #[error("the kernel refused it: {source}\n{log}")]
    Refused {
        /// What it said.
        source: io::Error,
        /// The end of the verifier's log.
        log: String,
    },
    /// The load failed in another way.
    #[error(transparent)]
    Load(#[from] Box<ProgramError>),
    /// It was loaded where it could not be.
    #[error("it was loaded although no file descriptor was left: something else in this process closed one")]
    LoadedAnyway,
    /// The limit of descriptors can't be moved.
    #[error("{call}: {source}")]
    Limit {
        /// What was tried.
        call: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// The log has another form.
    #[error("no statistics in the verifier's log: {0}")]
    NoStatistics(String),
    /// The kernel does not tell the program's instructions.
    #[error("BPF_OBJ_GET_INFO_BY_FD: {0}")]
    Info(io::Error),
    /// What it tells is not understood.
    #[error("the program's layout is not understood: {0}")]
    Layout(&'static str),
}

/// Loads a program, and says what that took. The object must be loaded with `VerifierLogLevel::STATS`.
///
/// For a moment no descriptor can be made in the whole process: not for a process with other threads.
///
/// # Errors
/// The kernel refuses the program, or says nothing about it. In the latter case it may be loaded all the same.
pub fn load_with_figures(program: &mut Program) -> Result<Figures, FiguresError> {
    let log = match without_descriptors(|| load_program(program))? {
        Err(ProgramError::LoadError { io_error, verifier_log })
            if io_error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) =>
        {
            verifier_log.to_string()
        }
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = end_of(&verifier_log.to_string());
            return Err(FiguresError::Refused { source: io_error, log });
        }
        Err(other) => return Err(Box::new(other).into()),
        Ok(()) => return Err(FiguresError::LoadedAnyway),
    };
    load_program(program).map_err(Box::new)?;
    let (instructions, stacks) = statistics(&log).ok_or_else(|| FiguresError::NoStatistics(end_of(&log)))?;
    let fd = program.fd().map_err(Box::new)?;
    let stack = deepest_chain(fd.as_fd(), &stacks)?;
    Ok(Figures { instructions, stack })
}

/// Loads a program of any type that ringfence has.
///
/// # Errors
/// The kernel refuses it, or ringfence has no such type.
#[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum; what ringfence doesn't load is refused")]
pub fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The last lines of a log.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Runs `call` while no descriptor can be made: the limit is set to the lowest free number.
fn without_descriptors<T>(call: impl FnOnce() -> T) -> Result<T, FiguresError> {
    let lowest_free = dup(io::stderr()).map_err(|source| FiguresError::Limit { call: "dup", source })?;
    let none_left = u64::from(lowest_free.as_raw_fd().unsigned_abs());
    drop(lowest_free);
    let before = getrlimit(Resource::Nofile);
    let set = |limit, call| {
        setrlimit(Resource::Nofile, limit).map_err(|source| FiguresError::Limit { call, source })
    };
    set(Rlimit { current: Some(none_left), ..before }, "lowering RLIMIT_NOFILE")?;
    let result = call();
    set(before, "restoring RLIMIT_NOFILE")?;
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
    use super::{end_of, statistics};

    #[test]
    fn statistics_are_read_from_the_kernels_log() {
        let log = "verification time 812 usec\nstack depth 160+8+0+88\n\
                   processed 2039 insns (limit 1000000) max_states_per_insn 4 total_states 7 peak_states 7 mark_read 5\n";
        assert_eq!(statistics(log), Some((2039, vec![160, 8, 0, 88])));
        assert_eq!(statistics("no such line"), None);
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        let log: String = (0..50).map(|n| format!("{n}\n")).collect();
        assert!(end_of(&log).starts_with("30\n") && end_of(&log).ends_with("49"));
        assert_eq!(end_of(""), "");
    }
}
