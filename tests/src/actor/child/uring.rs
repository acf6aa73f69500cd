//! A socket that is made, connected and written without one socket call: by requests in an io_uring.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;
use std::os::fd::AsRawFd;

use crate::actor::Uring;

/// How long the kernel's polling thread stays awake without work, milliseconds.
const IDLE_MS: u32 = 100;

/// A ring for one exchange.
pub(super) struct Ring {
    ring: IoUring,
    flags: Flags,
}

impl Ring {
    /// # Errors
    /// This kernel has no io_uring, or does not allow it.
    pub(super) fn new(way: Uring) -> Result<Self> {
        let mut builder = IoUring::builder();
        if way == Uring::Polled {
            builder.setup_sqpoll(IDLE_MS);
        }
        let flags = if way == Uring::Worker { Flags::ASYNC } else { Flags::empty() };
        Ok(Self { ring: builder.build(8).context("cannot make an io_uring")?, flags })
    }

    /// `socket`, `connect`, `send`: the bytes sent, or the first error.
    pub(super) fn exchange(&mut self, kind: i32, to: &[u8], bytes: usize) -> rustix::io::Result<usize> {
        let domain = i32::from(u16::from_ne_bytes(*to.first_chunk().ok_or(Errno::INVAL)?));
        let socket = RawFd::try_from(self.run(opcode::Socket::new(domain, kind, 0).build())?);
        let socket = socket.map_err(|_| Errno::BADF)?;
        // SAFETY: the kernel has just made this descriptor for the caller, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let descriptor = types::Fd(socket.as_raw_fd());
        let length = libc::socklen_t::try_from(to.len()).map_err(|_| Errno::INVAL)?;
        self.run(opcode::Connect::new(descriptor, to.as_ptr().cast(), length).build())?;
        let payload = vec![b'u'; bytes];
        let count = u32::try_from(bytes).map_err(|_| Errno::INVAL)?;
        self.run(opcode::Send::new(descriptor, payload.as_ptr(), count).flags(libc::MSG_NOSIGNAL).build())
    }

    /// Submits one request and waits for its completion.
    fn run(&mut self, entry: Entry) -> rustix::io::Result<usize> {
        let entry = entry.flags(self.flags);
        let mut queue = self.ring.submission();
        // SAFETY: what the request points to outlives this call, which returns only once it is completed.
        unsafe { queue.push(&entry) }.map_err(|_| Errno::NOBUFS)?;
        drop(queue);
        self.ring.submit_and_wait(1).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let result = self.ring.completion().next().ok_or(Errno::IO)?.result();
        usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
    }
}
