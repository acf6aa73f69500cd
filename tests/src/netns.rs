//! A network namespace, held by a file descriptor and by nothing else: no name under `/run/netns`, no
//! `ip` command, no trace once it is dropped.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The calling thread's own namespace. `thread-self`, because namespaces belong to threads.
const OWN: &str = "/proc/thread-self/ns/net";

/// One network namespace. It lives as long as this value, or a socket or process in it.
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes an empty namespace: a loopback device that is down, no address, no route.
    ///
    /// # Errors
    /// Needs CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        // A thread of its own enters the new namespace and ends; the caller stays where it is.
        on_own_thread(|| {
            // SAFETY: NEWNET does not touch the file descriptor table, the only hazard of this call.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .context("cannot make a network namespace: run as root, with CAP_SYS_ADMIN")?;
            let file = File::open(OWN).with_context(|| format!("cannot open {OWN}: is /proc mounted?"))?;
            Ok(Self { file })
        })
    }

    /// Runs `work` on a thread inside the namespace and returns its answer. Sockets that it makes stay in
    /// the namespace, whoever uses them later.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` failed.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the test's network namespace")?;
            work()
        })
    }

    /// The descriptor, as the kernel wants it to place the end of a veth pair.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What tells namespaces apart: the inode number, as `ls -l /proc/<pid>/ns/net` shows it.
    ///
    /// # Errors
    /// The descriptor cannot be examined.
    pub fn inode(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.file).context("fstat of a namespace")?.st_ino)
    }
}

/// Runs `work` on a new thread; a panic in it goes on in the caller.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}
