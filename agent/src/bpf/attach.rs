//! Programs to the cgroup. Links are held by the process: when it ends, the kernel detaches.

use std::fs::File;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use thiserror::Error;

/// Why a program is not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The cgroup can't be opened.
    #[error("cgroup {}: {source}; --cgroup-root must be a directory of a mounted cgroup2 file system", path.display())]
    Cgroup {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object lacks a program.
    #[error("the kernel object has no program {0}: object and agent are of different builds")]
    Missing(&'static str),
    /// The kernel refused.
    #[error("attach {name} to {}: {source}", path.display())]
    Refused {
        /// The program.
        name: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
}

/// One hook: the program, and whether it sits on the way in or out where its type does not say.
#[derive(Clone, Copy, Debug)]
pub struct HookProgram {
    /// The name users see, and `--hooks` takes.
    pub hook: &'static str,
    /// The program in the kernel object.
    pub program: &'static str,
    direction: Option<CgroupSkbAttachType>,
}

/// All hooks, in the order they are attached: those that refuse a call before the one that stops packets, or a connect
/// between the two would hang on a dropped SYN instead of being told no.
pub const HOOKS: [HookProgram; 8] = [
    HookProgram { hook: "sock_create", program: "ringfence_sock_create", direction: None },
    HookProgram { hook: "connect4", program: "ringfence_connect4", direction: None },
    HookProgram { hook: "connect6", program: "ringfence_connect6", direction: None },
    HookProgram { hook: "sendmsg4", program: "ringfence_sendmsg4", direction: None },
    HookProgram { hook: "sendmsg6", program: "ringfence_sendmsg6", direction: None },
    HookProgram { hook: "egress", program: "ringfence_egress", direction: Some(CgroupSkbAttachType::Egress) },
    HookProgram {
        hook: "ingress",
        program: "ringfence_ingress",
        direction: Some(CgroupSkbAttachType::Ingress),
    },
    HookProgram { hook: "sock_release", program: "ringfence_sock_release", direction: None },
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

/// Attaches hooks to a cgroup and everything below it.
///
/// aya 0.14's `AllowMultiple` passes a flag that `BPF_LINK_CREATE` refuses; a link is always "multi", so `Single` is
/// right (aya issue 1078).
pub fn attach(ebpf: &mut Ebpf, root: &Path, hooks: &[HookProgram]) -> Result<(), AttachError> {
    let cgroup = File::open(root).map_err(|source| AttachError::Cgroup { path: root.to_owned(), source })?;
    let mode = CgroupAttachMode::Single;
    for h in hooks {
        let program = ebpf.program_mut(h.program).ok_or(AttachError::Missing(h.program))?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum: other kinds of program are not ours")]
        let done = match program {
            Program::CgroupSkb(p) => {
                let direction = h.direction.ok_or(AttachError::Missing(h.program))?;
                p.attach(&cgroup, direction, mode).map(|_| ())
            }
            Program::CgroupSock(p) => p.attach(&cgroup, mode).map(|_| ()),
            Program::CgroupSockAddr(p) => p.attach(&cgroup, mode).map(|_| ()),
            _ => return Err(AttachError::Missing(h.program)),
        };
        done.map_err(|source| AttachError::Refused {
            name: h.program,
            path: root.to_owned(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}
