//! Programs to the cgroup, kept by links that outlive the agent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::ProgramError;
use thiserror::Error;

use super::link::{KeptLink, Place};
use super::pin::{PinDirectory, PinError};

/// Why a program is not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The cgroup can't be opened.
    #[error("cgroup {}: {source}; --cgroup-root must be a directory of a mounted cgroup2 file system", path.display())]
    Cgroup {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The object lacks a program.
    #[error("the kernel object has no program {0}: object and agent are of different builds")]
    Missing(&'static str),
    /// The program was not loaded.
    #[error("program {name}: {source}")]
    NotLoaded {
        /// The program.
        name: &'static str,
        /// What aya said.
        source: ProgramError,
    },
    /// The link can't be made, kept or given its program.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// One hook: the program and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct HookProgram {
    /// The name users see, and that of its link.
    pub hook: &'static str,
    /// The program in the kernel object.
    pub program: &'static str,
    /// `enum bpf_attach_type` (include/uapi/linux/bpf.h).
    pub(super) attach: u32,
}

/// All hooks, in the order they are attached: those that refuse a call before the one that stops packets, or a connect
/// between the two would hang on a dropped SYN instead of being told no.
pub const HOOKS: [HookProgram; 8] = [
    HookProgram { hook: "sock_create", program: "ringfence_sock_create", attach: 2 },
    HookProgram { hook: "connect4", program: "ringfence_connect4", attach: 10 },
    HookProgram { hook: "connect6", program: "ringfence_connect6", attach: 11 },
    HookProgram { hook: "sendmsg4", program: "ringfence_sendmsg4", attach: 14 },
    HookProgram { hook: "sendmsg6", program: "ringfence_sendmsg6", attach: 15 },
    HookProgram { hook: "egress", program: "ringfence_egress", attach: 1 },
    HookProgram { hook: "ingress", program: "ringfence_ingress", attach: 0 },
    HookProgram { hook: "sock_release", program: "ringfence_sock_release", attach: 34 },
];

impl HookProgram {
    /// Whether a policy with this errno (positive) needs the hook.
    ///
    /// A datagram that egress drops gives its sender EPERM at once. The sendmsg hooks are there for the other errnos:
    /// to judge every datagram twice for the same answer would cost as much as the verdict itself.
    #[must_use]
    pub fn needed(&self, errno: u32) -> bool {
        !self.hook.starts_with("sendmsg") || errno != libc::EPERM.unsigned_abs()
    }
}

/// Puts the programs of hooks at a cgroup and everything below it: into the links that an earlier agent left, else into
/// new ones. What is missing comes first: where a link is gone there is a hole, where it is not an older program judges.
pub(crate) fn attach(
    ebpf: &Ebpf,
    pins: &PinDirectory,
    root: &Path,
    hooks: &[HookProgram],
) -> Result<Vec<KeptLink>, AttachError> {
    let unreadable = |source| AttachError::Cgroup { path: root.to_owned(), source };
    let cgroup = File::open(root).map_err(unreadable)?;
    let id = cgroup.metadata().map_err(unreadable)?.ino();
    let place = |hook: &HookProgram| Place::Cgroup { cgroup: cgroup.as_fd(), id, attach: hook.attach };
    let mut missing = Vec::new();
    let mut standing = Vec::new();
    for hook in hooks {
        let stands = pins.stands(hook.hook, &place(hook))?;
        if stands { &mut standing } else { &mut missing }.push(hook);
    }
    let mut kept = Vec::new();
    for hook in missing.into_iter().chain(standing) {
        kept.push(pins.link(hook.hook, program(ebpf, hook.program)?, &place(hook))?);
        pins.keep_program(hook.program, program(ebpf, hook.program)?)?;
    }
    Ok(kept)
}

/// The descriptor of a loaded program.
pub(crate) fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, AttachError> {
    let program = ebpf.program(name).ok_or(AttachError::Missing(name))?;
    Ok(program.fd().map_err(|source| AttachError::NotLoaded { name, source })?.as_fd())
}
