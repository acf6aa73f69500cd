//! A `NETLINK_ROUTE` socket: one question, one answer. Only what the kernel itself sent is taken for an answer.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, recvfrom, send,
    socket_with,
};
use thiserror::Error;

use super::attributes::{Message, messages, u32_at};
use crate::bpf::strict_netlink;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: what was listed changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const HEADER: usize = 16;
/// The kernel makes no larger datagrams in a dump (`NLMSG_GOODSIZE` and the reader's buffer bound it).
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once; a socket that does not is broken.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a list that changed while it was read is read again.
const ATTEMPTS: u32 = 5;

/// Why the kernel did not answer.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// A system call failed.
    #[error("netlink: {call}: {source}")]
    Call {
        /// Which one.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("netlink: {what}: {source}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// An answer that is none.
    #[error("netlink: {what}: the kernel's answer was cut off")]
    Cut {
        /// What was asked.
        what: &'static str,
    },
    /// A list that never held still.
    #[error("netlink: {what}: the list changed each of {ATTEMPTS} times while it was read")]
    Restless {
        /// What was asked.
        what: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it gave one.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Call { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Cut { .. } | Self::Restless { .. } => None,
        }
    }
}

fn call(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> NetlinkError {
    move |errno| NetlinkError::Call { call, source: errno.into() }
}

/// An open socket, in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

/// A socket that hears of changes: the bits of `groups` are the groups' numbers less one.
pub(super) fn listen(groups: u32) -> Result<OwnedFd, NetlinkError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
        .map_err(call("opening a socket"))?;
    bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(call("joining groups"))?;
    Ok(fd)
}

impl Netlink {
    /// A socket to ask with.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(call("opening a socket"))?;
        set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER)).map_err(call("setting a time limit"))?;
        // Without it the kernel ignores what it does not know in a question, the namespace that is meant among it.
        strict_netlink(&fd)
            .map_err(|source| NetlinkError::Call { call: "asking for strict checks", source })?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Asks for something to be done, and waits until it is.
    pub(crate) fn request(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(), NetlinkError> {
        self.exchange(what, kind, flags | ACK, body, |_| {}).map(drop)
    }

    /// Asks for one thing; `take` sees the answer.
    pub(super) fn get(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        self.exchange(what, kind, ACK, body, |message| take(message.body)).map(drop)
    }

    /// Asks for a list of messages of kind `answer`; read again if it changed meanwhile.
    pub(super) fn list<T>(
        &mut self,
        what: &'static str,
        (kind, answer): (u16, u16),
        body: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            let whole = self.exchange(what, kind, DUMP, body, |message| {
                if message.kind == answer {
                    all.extend(read(message.body));
                }
            })?;
            if whole {
                return Ok(all);
            }
        }
        Err(NetlinkError::Restless { what })
    }

    /// Sends, and hands on every answer until the last; false if the kernel says that the list changed meanwhile.
    fn exchange(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<bool, NetlinkError> {
        self.send(what, kind, flags, body)?;
        let mut buffer = vec![0; BUFFER];
        let mut whole = true;
        loop {
            let (_, length, from) =
                recvfrom(&self.fd, buffer.as_mut_slice(), RecvFlags::TRUNC).map_err(call("reading"))?;
            if !from.is_some_and(is_kernel) {
                continue;
            }
            let datagram = buffer.get(..length).ok_or(NetlinkError::Cut { what })?;
            for message in messages(datagram).filter(|m| m.sequence == self.sequence) {
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    NLMSG_DONE => return done(what, message.body).map(|()| whole),
                    NLMSG_ERROR => return done(what, message.body).map(|()| whole),
                    _ => take(&message),
                }
            }
        }
    }

    fn send(&mut self, what: &'static str, kind: u16, flags: u16, body: &[u8]) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER + body.len());
        let length = u32::try_from(HEADER + body.len()).map_err(|_| NetlinkError::Cut { what })?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        send(&self.fd, &message, SendFlags::empty()).map_err(call("writing"))?;
        Ok(())
    }
}

/// Port 0 is the kernel's; any process may send to a netlink socket.
fn is_kernel(from: SocketAddrAny) -> bool {
    SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == 0)
}

/// The end of an answer: zero, or an error number with its sign turned. A dump's end may lack it.
fn done(what: &'static str, body: &[u8]) -> Result<(), NetlinkError> {
    match u32_at(body, 0).map_or(0, u32::cast_signed) {
        0 => Ok(()),
        code => {
            let source = io::Error::from_raw_os_error(code.saturating_neg());
            Err(NetlinkError::Refused { what, source })
        }
    }
}
