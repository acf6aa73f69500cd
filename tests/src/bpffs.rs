//! A bpf file system of the test's own: what agents pin there is gone with it, also after a test that failed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const PREFIX: &str = "ringfence-bpffs-";

/// A mounted bpf file system. Unmounted and removed when dropped; links that only its pins held are then detached.
#[derive(Debug)]
pub struct Bpffs {
    mount: PathBuf,
}

impl Bpffs {
    /// Mounts a new instance, empty, on a directory of its own.
    ///
    /// # Errors
    /// Not root, or no bpf file system in this kernel.
    pub fn mount() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = std::env::temp_dir();
        if number == 0 {
            sweep(&parent);
        }
        let mount = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&mount).with_context(|| format!("cannot make {}", mount.display()))?;
        let bpffs = Self { mount };
        bpffs.mount_again()?;
        Ok(bpffs)
    }

    /// Mounts a new, empty instance where this one is, or was.
    ///
    /// # Errors
    /// See [`mount`](Self::mount).
    pub fn mount_again(&self) -> Result<()> {
        let at = path(&self.mount)?;
        // SAFETY: three C strings that outlive the call, and no data.
        let r = unsafe { libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
        if r == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| {
            format!("cannot mount a bpf file system on {}: run as root", self.mount.display())
        })
    }

    /// Unmounts it under whoever uses it.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn unmount(&self) -> Result<()> {
        let at = path(&self.mount)?;
        // SAFETY: a C string that outlives the call.
        match unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).context("unmounting the bpf file system"),
        }
    }

    /// A directory on it that does not exist yet: what `--bpffs` takes.
    pub fn pins(&self) -> PathBuf {
        self.mount.join("ringfence")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        take_down(&self.mount);
    }
}

/// Unmounts and removes; whatever is mounted there goes, in use or not.
fn take_down(mount: &Path) {
    if let Ok(at) = path(mount) {
        // An error means that nothing is mounted.
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
    if let Err(error) = fs::remove_dir(mount) {
        eprintln!("cannot remove {}: {error}", mount.display());
    }
}

/// Takes down what suites that were killed have left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            take_down(&entry.path());
        }
    }
}

fn path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
