//! The pin directory after somebody took it away: made anew and locked anew, while the agent holds what was in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::PoisonError;

use super::{FILTERS, LINKS, PROGRAMS, PinDirectory, PinError, is_bpffs, make, step};

impl PinDirectory {
    /// Makes the directory and its parts again, if they are gone; true if the directory itself was. It has another lock
    /// then: the one before died with the directory that it was on.
    ///
    /// # Errors
    /// It can't be made: the bpf file system was unmounted, or another agent has made the directory its own.
    pub(crate) fn renew(&self) -> Result<bool, PinError> {
        let gone = !self.is_ours()?;
        if gone {
            if !self.path.exists() {
                if !self.path.parent().is_some_and(is_bpffs) {
                    return Err(PinError::NotBpffs { path: self.path.clone() });
                }
                make(&self.path)?;
            }
            let new = Self::take(&self.path)?.lock.into_inner().unwrap_or_else(PoisonError::into_inner);
            *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
        for name in [LINKS, PROGRAMS, FILTERS] {
            make(&self.path.join(name))?;
        }
        make(&self.maps())?;
        Ok(gone)
    }

    /// Whether the directory is the one that we have locked.
    fn is_ours(&self) -> Result<bool, PinError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let held = rustix::fs::fstat(&*lock).map_err(|e| step("looking at", &self.path)(e.into()))?;
        let now = fs::metadata(&self.path);
        Ok(now.is_ok_and(|now| now.ino() == held.st_ino && now.dev() == held.st_dev))
    }
}
