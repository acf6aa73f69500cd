//! What tests and actors say to each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
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
    /// A call in the kernel's own terms.
    Call(Call),
    /// What needs CAP_NET_RAW or CAP_NET_ADMIN.
    Raw(Raw),
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
            Self::Connect { limit_ms, .. } | Self::Receive { limit_ms, .. } => {
                Duration::from_millis(*limit_ms)
            }
            Self::Load { for_ms, .. } => Duration::from_millis(*for_ms),
            Self::Call(call) => call.limit(),
        }
    }
}

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

    /// [`Command::Load`]: how many calls there were to `to`.
    pub fn calls(&self, to: SocketAddr) -> u64 {
        self.tally.get(&to.to_string()).map_or(0, |of| of.values().sum())
    }
}
