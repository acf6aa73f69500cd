//! Pinned maps and programs, held by descriptor as well: whoever removes their pins takes nothing away, and they can be
//! pinned again. (Links are kept by [`super::link`], the policy in force by [`PolicyPin`](super::adopt::PolicyPin).)

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::adopt::is_policy;
use super::pin::{PinDirectory, PinError, entries, forget, step};
use super::sys::{self, Identity};

/// One of them.
#[derive(Debug)]
struct Keepsake {
    path: PathBuf,
    fd: OwnedFd,
    identity: Identity,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Keepsakes(Vec<Keepsake>);

impl Keepsakes {
    /// Takes hold of every map and program that is pinned now.
    pub(crate) fn of(pins: &PinDirectory) -> Result<Self, PinError> {
        let mut paths = entries(&pins.maps())?;
        paths.retain(|path| !is_policy(path));
        paths.extend(entries(&pins.programs())?);
        paths.push(pins.ledger());
        paths.into_iter().map(Keepsake::of).collect::<Result<_, _>>().map(Self)
    }

    /// Pins again what is no longer pinned under its name; their paths. The directories must be there.
    ///
    /// # Errors
    /// At the first that can't be pinned.
    pub(crate) fn pin_again(&self) -> Result<Vec<&Path>, PinError> {
        let mut again = Vec::new();
        for one in self.0.iter().filter(|one| !one.is_pinned()) {
            forget(&one.path)?;
            sys::pin(one.fd.as_fd(), &one.path).map_err(step("pinning", &one.path))?;
            again.push(one.path.as_path());
        }
        Ok(again)
    }
}

impl Keepsake {
    fn of(path: PathBuf) -> Result<Self, PinError> {
        let fd = sys::open_pin(&path).map_err(step("opening", &path))?;
        let identity = sys::identity(fd.as_fd()).map_err(step("looking at", &path))?;
        Ok(Self { path, fd, identity })
    }

    fn is_pinned(&self) -> bool {
        let found = sys::open_pin(&self.path).and_then(|fd| sys::identity(fd.as_fd()));
        found.is_ok_and(|identity| identity == self.identity)
    }
}
