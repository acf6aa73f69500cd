//! Socket diagnostics: which TCP and connected UDP sockets a network namespace has, and the end of one of them.
//!
//! Kernel: net/ipv4/inet_diag.c, `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY` (since 4.5; CONFIG_INET_DIAG_DESTROY). The
//! socket's cgroup is told since 5.9 (6e3a401fc8af), its BPF storage since 5.7 (085c20cacf2b). To end a socket takes
//! CAP_NET_ADMIN, to read storage CAP_BPF.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agent_common::address::Address;
use agent_common::flow::protocol;
use agent_common::sock::SockState;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use thiserror::Error;

use super::netlink::{ACK, DONE, DUMP, ERROR, attribute, errno, messages, put, request};
use crate::bpf::storage::sock_state;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const INET_DIAG_CGROUP_ID: u16 = 21;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;

/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID: usize = 48;
/// `struct inet_diag_msg`: family, state, timer, retrans, id, five integers.
const DIAG_MSG: usize = 72;
/// More than the kernel puts into one datagram of a dump (32 KiB).
const BUFFER: usize = 128 * 1024;
/// The kernel answers at once; a wait without end would hold up the agent's own end.
const ANSWER: Duration = Duration::from_secs(5);

/// Which sockets a dump lists: bits by TCP state (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct States(u32);

impl States {
    /// All that have a peer and may still send: no TIME_WAIT (6), CLOSE (7), LISTEN (10), and no request without a
    /// socket (12).
    pub(super) const TCP_OPEN: Self =
        Self(1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11);
    /// A UDP socket that is connected counts as ESTABLISHED.
    pub(super) const UDP_CONNECTED: Self = Self(1 << 1);
    /// LISTEN.
    pub(super) const LISTEN: Self = Self(1 << 10);
}

/// A kind of socket that is dumped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: u8,
    /// TCP or UDP.
    pub(super) protocol: u8,
    /// In which states.
    pub(super) states: States,
}

const INET: u8 = 2;
const INET6: u8 = 10;

/// What may have to be ended. An unconnected UDP socket is not among it: the kernel would take its port away, and the
/// program would go on from another one without a word.
pub(super) const ENDABLE: [Kind; 4] = [
    Kind { family: INET, protocol: protocol::TCP, states: States::TCP_OPEN },
    Kind { family: INET6, protocol: protocol::TCP, states: States::TCP_OPEN },
    Kind { family: INET, protocol: protocol::UDP, states: States::UDP_CONNECTED },
    Kind { family: INET6, protocol: protocol::UDP, states: States::UDP_CONNECTED },
];

/// What TCP listens on.
pub(super) const LISTENING: [Kind; 2] = [
    Kind { family: INET, protocol: protocol::TCP, states: States::LISTEN },
    Kind { family: INET6, protocol: protocol::TCP, states: States::LISTEN },
];

/// Why sockets can't be listed or ended.
#[derive(Debug, Error)]
pub(super) enum DiagError {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel ended a dump with an error.
    #[error("list sockets (inet_diag): {source}; are the kernel's tcp_diag and udp_diag there?")]
    Dump {
        /// What the kernel said.
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl Fn(Errno) -> DiagError {
    move |errno| DiagError::Io { what, source: errno.into() }
}

/// What came of ending one socket.
#[derive(Debug)]
pub(super) enum Destroyed {
    /// It is ended and its caller told.
    Done,
    /// It is not there any more, or another one has its addresses.
    Gone,
    /// This kernel cannot (CONFIG_INET_DIAG_DESTROY).
    Unsupported,
    /// The kernel refused.
    Refused(io::Error),
}

impl Destroyed {
    /// `errno` is positive, 0 an acknowledgement; `None` an answer that can't be read.
    fn from_errno(errno: Option<i32>) -> Self {
        match errno {
            Some(0) => Self::Done,
            Some(libc::ENOENT | libc::ESTALE) => Self::Gone,
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            Some(e) => Self::Refused(io::Error::from_raw_os_error(e)),
            None => Self::Refused(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One socket as the kernel lists it.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// What it was listed as.
    pub(super) kind: Kind,
    /// Remote address and port (host order).
    pub(super) remote: (Address, u16),
    /// Local address and port (host order).
    pub(super) local: (Address, u16),
    /// What nothing else has, as long as the machine runs.
    pub(super) cookie: u64,
    /// Id of the cgroup that it was made in; none for what is only half a socket.
    pub(super) cgroup: Option<u64>,
    /// What the kernel programs remember of it, if they have seen it.
    pub(super) state: Option<Box<SockState>>,
    /// As listed, to be named again exactly.
    id: [u8; ID],
}

impl Socket {
    /// For tests: addresses of zeros.
    #[cfg(test)]
    pub(super) fn made_up(kind: Kind, cookie: u64, state: Option<Box<SockState>>) -> Self {
        let zeros = Self::decode(kind, &[0; DIAG_MSG]).expect("invariant: long enough");
        Self { cookie, state, ..zeros }
    }

    /// `None`: the message is cut short.
    fn decode(kind: Kind, body: &[u8]) -> Option<Self> {
        let id: [u8; ID] = *body.get(4..)?.first_chunk()?;
        let family = *body.first()?;
        let attributes = body.get(DIAG_MSG..)?;
        let port = |at: usize| Some(u16::from_be_bytes(*id.get(at..)?.first_chunk()?));
        let address = |at: usize| {
            let bytes: [u8; 16] = *id.get(at..)?.first_chunk()?;
            let [a, b, c, d, ..] = bytes;
            let v4 = || Address::v4(u32::from_be_bytes([a, b, c, d]));
            Some(if family == INET { v4() } else { Address::from_bytes(bytes) })
        };
        // Two halves, the low one first (`sock_diag_save_cookie`).
        let half = |at: usize| Some(u64::from(u32::from_ne_bytes(*id.get(at..)?.first_chunk()?)));
        let cgroup = attribute(attributes, INET_DIAG_CGROUP_ID)
            .and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?)));
        let state = attribute(attributes, INET_DIAG_SK_BPF_STORAGES)
            .and_then(|list| attribute(list, SK_DIAG_BPF_STORAGE))
            .and_then(|one| attribute(one, SK_DIAG_BPF_STORAGE_MAP_VALUE))
            .and_then(sock_state);
        Some(Self {
            kind,
            local: (address(4)?, port(0)?),
            remote: (address(20)?, port(2)?),
            cookie: half(40)? | half(44)? << 32,
            cgroup,
            state,
            id,
        })
    }
}

/// A diagnostics socket, of the network namespace of the thread that opened it.
pub(super) struct Diag {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    pub(super) fn open() -> Result<Self, DiagError> {
        let protocol = Some(netlink::SOCK_DIAG);
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(failed("open a NETLINK_SOCK_DIAG socket"))?;
        set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER)).map_err(failed("set a time limit"))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// All sockets of a kind, each with what the map `storage` has of it.
    pub(super) fn dump(
        &mut self,
        kind: Kind,
        storage: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Socket>, DiagError> {
        let mut body = request_v2(kind, &[0; ID]);
        if let Some(map) = storage {
            let mut list = Vec::new();
            put(&mut list, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &map.as_raw_fd().to_ne_bytes());
            put(&mut body, INET_DIAG_REQ_SK_BPF_STORAGES, &list);
        }
        let sequence = self.ask(SOCK_DIAG_BY_FAMILY, DUMP, &body)?;
        let mut sockets = Vec::new();
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                match message.kind {
                    SOCK_DIAG_BY_FAMILY => sockets.extend(Socket::decode(kind, message.body)),
                    // The end of a dump carries an error too, if it did not get to its end.
                    DONE | ERROR => {
                        return match errno(message.body).filter(|e| *e != 0) {
                            None => Ok(sockets),
                            Some(e) => Err(DiagError::Dump { source: io::Error::from_raw_os_error(e) }),
                        };
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends a socket: TCP sends a reset if its peer would wait for one, and the caller gets ECONNABORTED.
    pub(super) fn destroy(&mut self, socket: &Socket) -> Result<Destroyed, DiagError> {
        let sequence = self.ask(SOCK_DESTROY, ACK, &request_v2(socket.kind, &socket.id))?;
        loop {
            let length = self.receive()?;
            let mut answers = messages(&self.buffer[..length]).filter(|m| m.sequence == sequence);
            if let Some(answer) = answers.find(|m| m.kind == ERROR) {
                return Ok(Destroyed::from_errno(errno(answer.body)));
            }
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<u32, DiagError> {
        self.sequence += 1;
        let bytes = request(kind, flags, self.sequence, body);
        send(&self.fd, &bytes, SendFlags::empty()).map_err(failed("ask for socket diagnostics"))?;
        Ok(self.sequence)
    }

    fn receive(&mut self) -> Result<usize, DiagError> {
        loop {
            match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed("read socket diagnostics")(e)),
            }
        }
    }
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, pad, states, id.
fn request_v2(kind: Kind, id: &[u8; ID]) -> Vec<u8> {
    let mut body = vec![kind.family, kind.protocol, 0, 0];
    body.extend(kind.states.0.to_ne_bytes());
    body.extend(id);
    body
}

#[cfg(test)]
mod tests;
