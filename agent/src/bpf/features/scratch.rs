//! An empty cgroup to attach to: no process is in it, so that what is attached decides about nobody.

use std::io;
use std::path::{Path, PathBuf};

/// Removed when dropped; what is attached to it must be gone by then, or the kernel keeps it until it is.
#[derive(Debug)]
pub struct ScratchCgroup(PathBuf);

impl ScratchCgroup {
    /// Makes one below `root`.
    ///
    /// # Errors
    /// The cgroup file system is read-only, or this is not root.
    pub fn below(root: &Path) -> io::Result<Self> {
        let path = root.join(format!("ringfence-doctor-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchCgroup {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::error!(%error, cgroup = %self.0.display(), "can't remove the scratch cgroup: remove it with rmdir");
        }
    }
}
