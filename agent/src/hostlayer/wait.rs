//! Waiting for something that a look is worth.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, recv};

use super::netlink::{NetlinkError, listen};
use super::rtnl::GROUPS;

/// Ends a wait, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A look is due: a policy came into force, a cgroup appeared, or the agent ends.
    pub fn wake(&self) {
        // An error means that 2^64 calls are waiting: a look is due anyway.
        let _: Result<usize, Errno> = write(&self.0, &1u64.to_ne_bytes());
    }
}

/// What is waited for: changes of interfaces, and [`Waker`]s.
#[derive(Debug)]
pub(super) struct Wait {
    changes: OwnedFd,
    waker: Waker,
}

impl Wait {
    pub(super) fn new() -> Result<Self, NetlinkError> {
        let changes = listen(GROUPS)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags)
            .map_err(|errno| NetlinkError::Call { call: "making an eventfd", source: errno.into() })?;
        Ok(Self { changes, waker: Waker(Arc::new(fd)) })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns at the next change or call, or when `limit` is over. What was noticed is forgotten: one look serves all.
    pub(super) fn wait(&self, limit: Duration) {
        let mut fds = [PollFd::new(&self.changes, PollFlags::IN), PollFd::new(&*self.waker.0, PollFlags::IN)];
        let limit = Timespec::try_from(limit).ok();
        // Interrupted or not: a look too many does no harm.
        let _: Result<usize, Errno> = poll(&mut fds, limit.as_ref());
        let _: Result<usize, Errno> = read(&self.waker.0, &mut [0; 8]);
        // ENOBUFS says that changes were lost: this is one of the looks that find them.
        let mut buffer = [0; 8192];
        while recv(&self.changes, &mut buffer, RecvFlags::empty()).is_ok_and(|(n, _)| n > 0) {}
    }
}
