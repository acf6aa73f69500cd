//! Links that outlive the agent. For whoever attaches something (cgroup hooks, the host layer, tracepoints):
//!
//! ```text
//! let kept = pins.link("egress", program_fd, &Place::Cgroup { .. })?;   adopted, or attached anew; pinned either way
//! pins.unlink("veth-12")?;                                              no longer needed
//! ```
//!
//! One name, one link. If a link is pinned under the name and sits where it should, its program is replaced
//! (`BPF_LINK_UPDATE`: no packet passes between the two, measured). Where the kernel can't replace it (tracepoints), the
//! new one is attached beside, and the old one goes with [`KeptLink::settle`], when nothing needs it any more: programs
//! of another layout fill other maps, and the hooks that read the old ones must have been replaced. A pin of a dead link (its cgroup or interface is gone, or somebody
//! detached it) is replaced by a new link. The caller keeps the [`KeptLink`]: it holds the link even if somebody removes
//! the pin.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::pin::{PinDirectory, PinError, detach, forget, step};
use super::sys::{self, At, LinkInfo};

pub(crate) use super::sys::Place;

/// Ends the name of a pin that has not settled yet.
const BESIDE: &str = "-new";

/// A pinned link that this agent holds.
#[derive(Debug)]
pub(crate) struct KeptLink {
    /// Its name in the pin directory.
    pub(crate) name: String,
    /// How it came to be held.
    pub(crate) how: How,
    fd: OwnedFd,
    path: PathBuf,
    /// Where it is pinned until it settles.
    beside: Option<PathBuf>,
}

/// How a link came to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing was pinned under its name.
    Attached,
    /// An earlier agent's, with our program in it.
    Adopted,
    /// An earlier agent's pin held nothing any more: a gap in enforcement may have been.
    Replaced,
}

impl KeptLink {
    /// What the kernel says of it now.
    pub(crate) fn info(&self) -> io::Result<LinkInfo> {
        sys::link_info(self.fd.as_fd())
    }

    /// Where it is pinned.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of the link that had the name before.
    pub(crate) fn settle(&mut self) -> Result<(), PinError> {
        let Some(beside) = &self.beside else { return Ok(()) };
        fs::rename(beside, &self.path).map_err(step("renaming to", &self.path))?;
        self.beside = None;
        Ok(())
    }

    /// Whether its pin is there and is this link.
    pub(crate) fn is_pinned(&self) -> bool {
        let pinned = || sys::link_info(sys::open_pin(&self.path)?.as_fd());
        matches!((pinned(), self.info()), (Ok(pin), Ok(own)) if pin.id == own.id)
    }

    /// Gives it its program back. Cgroup and tcx links only.
    pub(crate) fn give_back(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        sys::update_link(self.fd.as_fd(), program)
    }

    /// Attaches anew what was detached. Held from now on; its pin is still that of the dead link.
    pub(crate) fn attach_again(&mut self, program: BorrowedFd<'_>, place: &Place<'_>) -> io::Result<()> {
        self.fd = sys::create_link(program, place)?;
        Ok(())
    }

    /// Pins it again, after somebody removed the pin.
    pub(crate) fn pin_again(&self) -> Result<(), PinError> {
        forget(&self.path)?;
        sys::pin(self.fd.as_fd(), &self.path).map_err(step("pinning", &self.path))
    }
}

impl PinDirectory {
    /// Attaches a program under a name, or puts it into the link that has the name already.
    ///
    /// # Errors
    /// The kernel refuses; what was attached under the name still is.
    pub(crate) fn link(
        &self,
        name: &str,
        program: BorrowedFd<'_>,
        place: &Place<'_>,
    ) -> Result<KeptLink, PinError> {
        let path = self.link_path(name);
        let kept = |how, fd, beside| KeptLink { name: name.to_owned(), how, fd, path: path.clone(), beside };
        let old = self.pinned(name)?;
        if let Some((fd, info)) = &old
            && place.holds(info)
            && !matches!(place, Place::Tracepoint { .. })
        {
            match sys::update_link(fd.as_fd(), program) {
                Ok(()) => {
                    let fd = fd.try_clone().map_err(step("holding", &path))?;
                    return Ok(kept(How::Adopted, fd, None));
                }
                // Detached between the look and the update.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                Err(error) => return Err(step("replacing the program of", &path)(error)),
            }
        }
        let fd = sys::create_link(program, place).map_err(step("attaching", &path))?;
        let (how, at) = match &old {
            None => (How::Attached, path.clone()),
            Some((_, info)) if place.holds(info) => {
                (How::Adopted, self.link_path(&format!("{name}{BESIDE}")))
            }
            Some(_) => (How::Replaced, path.clone()),
        };
        forget(&at)?;
        sys::pin(fd.as_fd(), &at).map_err(step("pinning", &at))?;
        let beside = (at != path).then_some(at);
        Ok(kept(how, fd, beside))
    }

    /// Detaches what is pinned under a name; true if something was.
    pub(crate) fn unlink(&self, name: &str) -> Result<bool, PinError> {
        detach(&self.link_path(&format!("{name}{BESIDE}")))?;
        detach(&self.link_path(name))
    }

    /// The link that is pinned under a name.
    fn pinned(&self, name: &str) -> Result<Option<(OwnedFd, LinkInfo)>, PinError> {
        let path = self.link_path(name);
        let fd = match sys::open_pin(&path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(step("opening", &path)(error)),
        };
        let info = sys::link_info(fd.as_fd()).map_err(step("looking at", &path))?;
        Ok(Some((fd, info)))
    }

    /// Whether a link is pinned under a name, alive and where it should be.
    pub(super) fn stands(&self, name: &str, place: &Place<'_>) -> Result<bool, PinError> {
        Ok(self.pinned(name)?.is_some_and(|(_, info)| place.holds(&info)))
    }

    /// The cgroups that pinned links guard, each once. Links whose cgroup is gone guard nothing.
    pub(crate) fn guarded(&self) -> Result<Vec<u64>, PinError> {
        let mut cgroups = Vec::new();
        for name in self.link_names()? {
            if let Some((_, LinkInfo { at: At::Cgroup { id, .. }, .. })) = self.pinned(&name)?
                && id != 0
            {
                cgroups.push(id);
            }
        }
        cgroups.sort_unstable();
        cgroups.dedup();
        Ok(cgroups)
    }
}
