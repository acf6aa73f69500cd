//! A link with all that it takes to see that it holds, and to put it right: its program and its place.
//!
//! What can happen to a link while we hold its descriptor: somebody detaches it (`BPF_LINK_DETACH` by its id, which takes
//! CAP_SYS_ADMIN or the pin), somebody puts another program into it (`BPF_LINK_UPDATE`), somebody removes its pin. All of
//! it is seen and mended with CAP_BPF and CAP_NET_ADMIN.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use aya::Ebpf;
use thiserror::Error;

use super::attach::{AttachError, HOOKS, program};
use super::birth::tracepoints;
use super::link::{KeptLink, Place};
use super::pin::{PinError, step};
use super::sys;

/// Something that was wrong with a link, and what became of it.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// How it was found.
    pub(crate) found: String,
    /// Why it could not be put right; `None`: it was.
    pub(crate) failed: Option<io::Error>,
}

/// Why nothing can be said of a hook.
#[derive(Debug, Error)]
#[error("asking what runs at {hook}: {source}")]
pub(crate) struct QueryError {
    hook: String,
    source: io::Error,
}

/// Programs of a hook that are not ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Company {
    /// All that run, first to last, by program id.
    pub(crate) all: Vec<u32>,
    /// Which one is ours, counted from 0.
    pub(crate) ours: Option<usize>,
}

/// A link that is watched.
#[derive(Debug)]
pub(crate) struct Post {
    link: KeptLink,
    program: OwnedFd,
    /// The kernel's id of the program: nobody else's as long as we hold it.
    id: u32,
    spot: Spot,
}

#[derive(Debug)]
enum Spot {
    Cgroup { cgroup: Arc<File>, id: u64, attach: u32 },
    Tcx { interface: u32, attach: u32 },
    Tracepoint { name: CString },
}

impl Spot {
    fn place(&self) -> Place<'_> {
        match self {
            Self::Cgroup { cgroup, id, attach } => {
                Place::Cgroup { cgroup: cgroup.as_fd(), id: *id, attach: *attach }
            }
            Self::Tcx { interface, attach } => Place::Tcx { interface: *interface, attach: *attach },
            Self::Tracepoint { name } => Place::Tracepoint { name },
        }
    }
}

/// Takes links under watch, in the order in which they are to be put right: tracepoints, hooks that refuse calls, the one
/// that stops packets, the rest.
pub(crate) fn posts(ebpf: &Ebpf, root: &Path, mut links: Vec<KeptLink>) -> Result<Vec<Post>, AttachError> {
    let unreadable = |source| AttachError::Cgroup { path: root.to_owned(), source };
    let cgroup = Arc::new(File::open(root).map_err(unreadable)?);
    let id = std::os::unix::fs::MetadataExt::ino(&cgroup.metadata().map_err(unreadable)?);
    let mut posts = Vec::new();
    let mut take = |name: &str, program_name: &'static str, spot: Spot| -> Result<(), AttachError> {
        let Some(at) = links.iter().position(|link| link.name == name) else { return Ok(()) };
        let fd = program(ebpf, program_name)?.try_clone_to_owned().map_err(unreadable)?;
        let [_, id, ..] = sys::identity(fd.as_fd()).map_err(unreadable)?;
        posts.push(Post { link: links.swap_remove(at), program: fd, id, spot });
        Ok(())
    };
    for (name, program) in tracepoints() {
        let Ok(kernel_name) = CString::new(name) else { continue };
        take(name, program, Spot::Tracepoint { name: kernel_name })?;
    }
    for hook in HOOKS {
        let spot = Spot::Cgroup { cgroup: Arc::clone(&cgroup), id, attach: hook.attach };
        take(hook.hook, hook.program, spot)?;
    }
    Ok(posts)
}

impl Post {
    /// A guard of an interface.
    pub(super) fn tcx(
        link: KeptLink,
        program: BorrowedFd<'_>,
        interface: u32,
        attach: u32,
    ) -> Result<Self, PinError> {
        let held = || -> io::Result<_> {
            let [_, id, ..] = sys::identity(program)?;
            Ok((program.try_clone_to_owned()?, id))
        };
        let (program, id) = held().map_err(step("holding the program of", link.path()))?;
        Ok(Self { link, program, id, spot: Spot::Tcx { interface, attach } })
    }

    /// Name of the link.
    pub(crate) fn name(&self) -> &str {
        &self.link.name
    }

    /// The kernel's id of our program.
    pub(crate) const fn program(&self) -> u32 {
        self.id
    }

    /// Looks at the link, and puts it right. `None`: it is as it should be.
    pub(crate) fn hold(&mut self) -> Option<Wrong> {
        let place = self.spot.place();
        let info = match self.link.info() {
            Ok(info) => info,
            Err(error) => {
                let found = "the kernel does not say what has become of it".to_owned();
                return Some(Wrong { found, failed: Some(error) });
            }
        };
        if !place.holds(&info) {
            let found = format!("link {} was detached", info.id);
            return Some(Wrong::of(found, self.link.attach_again(self.program.as_fd(), &place)));
        }
        if info.program != self.id {
            let found = format!("program {} was put into link {} in place of ours", info.program, info.id);
            return Some(Wrong::of(found, self.link.give_back(self.program.as_fd())));
        }
        None
    }

    /// Looks at the pin, and pins again. `None`: it is as it should be.
    pub(crate) fn keep(&self) -> Option<Result<(), PinError>> {
        if self.link.is_pinned() { None } else { Some(self.link.pin_again()) }
    }

    /// What runs at the hook, ours among it; `None` for a tracepoint, where programs do not touch each other.
    pub(crate) fn company(&self) -> Option<Result<Company, QueryError>> {
        let Spot::Cgroup { cgroup, attach, .. } = &self.spot else { return None };
        let all = sys::effective(cgroup.as_fd(), *attach);
        Some(match all {
            Ok(all) => Ok(Company { ours: all.iter().position(|id| *id == self.id), all }),
            Err(source) => Err(QueryError { hook: self.name().to_owned(), source }),
        })
    }
}

impl Wrong {
    fn of(found: String, mended: io::Result<()>) -> Self {
        Self { found, failed: mended.err() }
    }
}
