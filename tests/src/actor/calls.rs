//! Socket calls in the kernel's own terms, for what [`Family`](super::Family) and [`Kind`](super::Kind) can't say:
//! protocols, options and addresses as numbers and bytes, sockets that change hands, processes that change places.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Command;

/// One call. Numbers are those of the kernel's headers (`libc::AF_INET`, …); addresses are `struct sockaddr_*` as bytes,
/// see [`crate::sockaddr`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// `socket`
    Socket {
        /// Name for later commands.
        name: String,
        /// `AF_*`
        domain: i32,
        /// `SOCK_*`
        kind: i32,
        /// `IPPROTO_*`
        protocol: i32,
    },
    /// `setsockopt`
    Option {
        /// Which socket.
        name: String,
        /// `SOL_*` or `IPPROTO_*`
        level: i32,
        /// The option's number.
        option: i32,
        /// Its value, in the machine's byte order where it is a number.
        value: Vec<u8>,
    },
    /// `bind`
    Bind {
        /// Which socket.
        name: String,
        /// Local address.
        to: Vec<u8>,
    },
    /// `listen`
    Listen {
        /// Which socket.
        name: String,
    },
    /// `accept`, bounded by `SO_RCVTIMEO`.
    Accept {
        /// The listening socket.
        name: String,
        /// Name of the new one.
        connection: String,
        /// Time limit, milliseconds.
        limit_ms: u64,
    },
    /// `connect`, bounded by `SO_SNDTIMEO`.
    Connect {
        /// Which socket.
        name: String,
        /// Remote address.
        to: Vec<u8>,
        /// Time limit, milliseconds.
        limit_ms: u64,
    },
    /// `sendto`, or `send` without an address.
    Send {
        /// Which socket.
        name: String,
        /// Remote address; none is `send`.
        to: Option<Vec<u8>>,
        /// The bytes.
        payload: Vec<u8>,
        /// `MSG_*`; `MSG_NOSIGNAL` is added.
        flags: i32,
    },
    /// The socket's descriptor number, as the answer's `bytes`.
    Number {
        /// Which socket.
        name: String,
    },
    /// Sends the socket `name` over the connected unix socket `over` (`SCM_RIGHTS`). It stays open here too.
    Pass {
        /// Which socket.
        name: String,
        /// The unix socket.
        over: String,
    },
    /// Takes a socket that arrives over the unix socket `over`.
    Take {
        /// Name for later commands.
        name: String,
        /// The unix socket.
        over: String,
    },
    /// Takes descriptor `number` out of another process (`pidfd_getfd`, Linux 5.6).
    TakeFrom {
        /// Name for later commands.
        name: String,
        /// The other process.
        pid: u32,
        /// Its descriptor.
        number: i32,
    },
    /// Moves this process: writes `0` to the file.
    MoveTo {
        /// A `cgroup.procs`.
        procs: PathBuf,
    },
    /// Moves this process into the network namespace that the file names; needs CAP_SYS_ADMIN.
    EnterNetns {
        /// `/proc/<pid>/ns/net`, or `/proc/<pid>/fd/<number>` of an open namespace.
        file: PathBuf,
    },
    /// The rest of its life without capabilities: for an actor that needed one to get where it is.
    DropCapabilities,
    /// `socket`, `connect` and `send` by io_uring; the answer is that of the first that failed, or of `send`.
    Uring {
        /// `SOCK_STREAM` or `SOCK_DGRAM`
        kind: i32,
        /// Remote address.
        to: Vec<u8>,
        /// How the requests are carried out.
        way: Uring,
        /// How many bytes.
        bytes: usize,
    },
}

/// Who carries out the requests of an io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uring {
    /// The caller, at submission.
    Inline,
    /// A worker thread of the kernel (`IOSQE_ASYNC`).
    Worker,
    /// The kernel's polling thread (`IORING_SETUP_SQPOLL`).
    Polled,
}

impl Call {
    /// How long the call itself may take.
    pub(super) fn limit(&self) -> Duration {
        match self {
            Self::Accept { limit_ms, .. } | Self::Connect { limit_ms, .. } => {
                Duration::from_millis(*limit_ms)
            }
            Self::Socket { .. }
            | Self::Option { .. }
            | Self::Bind { .. }
            | Self::Listen { .. }
            | Self::Send { .. }
            | Self::Number { .. }
            | Self::Pass { .. }
            | Self::Take { .. }
            | Self::TakeFrom { .. }
            | Self::MoveTo { .. }
            | Self::EnterNetns { .. }
            | Self::DropCapabilities
            | Self::Uring { .. } => Duration::ZERO,
        }
    }
}

impl From<Call> for Command {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}
