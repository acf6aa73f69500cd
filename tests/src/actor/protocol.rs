//! What tests and actors say to each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::Call;
use super::raw::Raw;

/// Address family of a socket. A v4-mapped flow is [`Family::V6`] with a target `::ffff:a.b.c.d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6, not v6-only
    V6,
}

/// Type of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// SOCK_STREAM
    Tcp,
    /// SOCK_DGRAM
    Udp,
}

/// What a [`Command::Load`] repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeat {
    /// One datagram over one unconnected socket.
    SendTo,
    /// A new TCP socket: connect, close.
    Connect,
    /// A new UDP socket: one datagram, close.
    Datagram,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Who are you: answers cgroup and namespace.
    Identify,
    /// Opens a socket under a name.
    Open {
        /// Name for later commands.
        name: String,
        /// Address family.
        family: Family,
        /// Type.
        kind: Kind,
    },
    /// `connect`, bounded by `SO_SNDTIMEO`: EINPROGRESS when the time is over.
    Connect {
        /// Which socket.
        name: String,
        /// Remote address.
        to: SocketAddr,
        /// Time limit, milliseconds.
        limit_ms: u64,
    },
    /// `send`
    Send {
        /// Which socket.
        name: String,
        /// How many bytes.
        bytes: usize,
    },
    /// `sendto`
    SendTo {
        /// Which socket.
        name: String,
        /// Remote address.
        to: SocketAddr,
        /// How many bytes.
        bytes: usize,
    },
    /// `recv`, bounded by `SO_RCVTIMEO`: EAGAIN when the time is over.
    Receive {
        /// Which socket.
        name: String,
        /// Time limit, milliseconds.
        limit_ms: u64,
    },
    /// `close`
    Close {
        /// Which socket.
        name: String,
        /// TCP ends with a reset (`SO_LINGER` 0), so that no frame of it follows later.
        reset: bool,
    },
    /// Opens `count` sockets under one name and connects them to the addresses of `to` in turn. Tally by outcome.
    OpenHerd {
        /// Name for later commands.
        name: String,
        /// Type.
        kind: Kind,
        /// Remote addresses.
        to: Vec<SocketAddr>,
        /// How many.
        count: usize,
    },
    /// Listens on a port of every address under the name, with `count` places; [`Command::AcceptHerd`] takes them.
    ListenHerd {
        /// Name for later commands.
        name: String,
        /// Port.
        port: u16,
        /// How many connections may wait.
        count: usize,
    },
    /// Accepts `count` TCP connections that somebody opens within 30 s. Tally by outcome.
    AcceptHerd {
        /// Name of the listener, and of the connections.
        name: String,
        /// How many.
        count: usize,
    },
    /// `send` on each socket of a herd, without waiting for room. Tally by outcome.
    SendHerd {
        /// Which herd.
        name: String,
        /// How many bytes each.
        bytes: usize,
        /// Again and again for so long, milliseconds; 0 is once.
        for_ms: u64,
    },
    /// `recv` on each socket of a herd, one after the other; a stream's end is `end`. Tally by outcome.
    ReceiveHerd {
        /// Which herd.
        name: String,
        /// Time limit of all together, milliseconds. What has nothing to read then is EAGAIN.
        limit_ms: u64,
    },
    /// The same thing to every address of `to` in turn, until the time is over or one outcome was
    /// `until`.
    Load {
        /// What to repeat.
        what: Repeat,
        /// Remote addresses.
        to: Vec<SocketAddr>,
        /// Time limit, milliseconds.
        for_ms: u64,
        /// At most so many times through `to`; 0 is without limit.
        rounds: u64,
        /// Stop at the first call that ends like this.
        until: Option<Outcome>,
        /// Pause between rounds, microseconds; 0 is none.
        pause_us: u64,
    },
    /// Below the cgroup `parent`, one after the other: a cgroup is made, a process born in it sends one datagram at
    /// once, the cgroup is removed. `each_micros` is from `mkdir` until it was sent.
    Births {
        /// Directory of the cgroup.
        parent: PathBuf,
        /// Names of the cgroups.
        names: Vec<String>,
        /// Remote address (IPv4).
        to: SocketAddr,
        /// From one birth to the next, microseconds at least.
        every_us: u64,
    },
    /// What needs CAP_NET_RAW or CAP_NET_ADMIN.
    Raw(Raw),
    /// A call in the kernel's own terms.
    Call(Call),
}

impl Command {
    /// How long the command itself may take.
    pub(crate) fn limit(&self) -> Duration {
        match self {
            Self::Identify
            | Self::Open { .. }
            | Self::Send { .. }
            | Self::SendTo { .. }
            | Self::Close { .. }
            | Self::Raw(_) => Duration::ZERO,
            Self::Connect { limit_ms, .. }
            | Self::Receive { limit_ms, .. }
            | Self::ReceiveHerd { limit_ms, .. } => Duration::from_millis(*limit_ms),
            Self::OpenHerd { .. } | Self::ListenHerd { .. } | Self::AcceptHerd { .. } => HERD,
            Self::SendHerd { for_ms, .. } => HERD + Duration::from_millis(*for_ms),
            Self::Load { for_ms, .. } => Duration::from_millis(*for_ms),
            Self::Call(call) => call.limit(),
            Self::Births { names, every_us, .. } => {
                Duration::from_micros(*every_us) * u32::try_from(names.len()).unwrap_or(u32::MAX)
            }
        }
    }
}

/// How long a call on every socket of a herd may take.
const HERD: Duration = Duration::from_secs(30);
/// Under what a herd's tally stands in [`Answer::tally`].
pub(crate) const HERD_TALLY: &str = "herd";

/// How a socket call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed with the error of this symbolic name.
    Failed(String),
}

impl Outcome {
    /// The call failed with exactly this error, such as `"EPERM"`.
    pub fn is_error(&self, name: &str) -> bool {
        match self {
            Self::Done => false,
            Self::Failed(error) => error == name,
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How the call ended; for a load, how the last one did.
    pub outcome: Outcome,
    /// Bytes sent or received.
    pub bytes: usize,
    /// How long the call took, microseconds.
    pub micros: u64,
    /// [`Command::Identify`]: the line of `/proc/self/cgroup` for v2, without its `0::`.
    pub cgroup: Option<String>,
    /// [`Command::Identify`]: inode of the network namespace.
    pub netns: Option<u64>,
    /// [`Command::Load`]: per target, how often each outcome was seen.
    pub tally: BTreeMap<String, BTreeMap<String, u64>>,
    /// [`Command::Load`]: per call, how long it took, microseconds; at most the first 100,000.
    pub each_micros: Vec<u64>,
}

impl Answer {
    /// The call succeeded.
    pub fn is_done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// [`Command::Load`]: how often calls to `to` ended with `name` (`"done"`, `"EPERM"`, …).
    pub fn times(&self, to: SocketAddr, name: &str) -> u64 {
        self.tally.get(&to.to_string()).and_then(|of| of.get(name)).copied().unwrap_or(0)
    }

    /// Of a herd: how many of its sockets ended with each outcome.
    pub fn herd(&self) -> BTreeMap<String, u64> {
        self.tally.get(HERD_TALLY).cloned().unwrap_or_default()
    }

    /// [`Command::Load`]: how many calls there were to `to`.
    pub fn calls(&self, to: SocketAddr) -> u64 {
        self.tally.get(&to.to_string()).map_or(0, |of| of.values().sum())
    }
}
