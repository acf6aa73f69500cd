//! A flow and everything known of it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_common::protocols;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::words::{Direction, Hook, Mode, Phase, Reason, Severity, Verdict};

/// A flow (one socket's exchange with one remote address and port) and what was decided about it.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowEvent {
    /// Where in its life the flow is.
    pub phase: Phase,
    /// What happened to the bytes.
    pub verdict: Verdict,
    /// `Block` if any fence, Audit included, says so.
    pub would_be: Verdict,
    /// A fence with mode Enforce blocked it.
    pub enforced: bool,
    /// The step of the evaluation that decided.
    pub reason: Reason,
    /// The fence that decided; `None` where none judged.
    pub fence: Option<Arc<str>>,
    /// The rule or exception that decided, or the word of the fence that did (`default`, `internal`…);
    /// `None` where no fence judged.
    pub rule: Option<Arc<str>>,
    /// What each matching fence said.
    pub outcomes: Arc<[FenceOutcome]>,
    /// The policy image that judged; 0 = none.
    pub generation: u64,
    /// What the remote address is known to be.
    pub place: Arc<Place>,
    /// The other side.
    pub remote: Endpoint,
    /// Our side, where known.
    pub local: Option<Endpoint>,
    /// What carries the bytes.
    pub protocol: Protocol,
    /// Who opened the exchange.
    pub direction: Direction,
    /// Where in the kernel the verdict was given.
    pub hook: Hook,
    /// Who did it; `None` where the kernel acts for nobody in particular.
    pub process: Option<Process>,
    /// Path of the socket's cgroup below the cgroup2 mount; `None` where it is gone already.
    pub cgroup: Option<Arc<str>>,
    /// The kernel's id of that cgroup.
    pub cgroup_id: u64,
    /// Name of the workload.
    pub workload: Option<Arc<str>>,
    /// How bad, in the rule's words.
    pub severity: Option<Severity>,
    /// Transfer basis, in the rule's words.
    pub basis: Option<Arc<str>>,
    /// What the fence says is being sent, for what, to whom.
    pub record: Option<Arc<ProcessingRecord>>,
    /// Bytes and packets so far, or in all at close; `None` before the first count.
    pub traffic: Option<Traffic>,
    /// When the flow opened; `None` where it is older than the agent.
    pub opened: Option<Timestamp>,
    /// How long it lasted; `None` before close.
    pub duration: Option<Duration>,
    /// How often the violation was repeated since the flow began.
    pub repeats: u64,
    /// Other flows of this socket that were counted and not recorded, since the socket began.
    pub folded: u64,
    /// A layer that the fence needs is missing on this node.
    pub partial: bool,
}

impl FlowEvent {
    /// Some fence blocks it, or would.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.verdict == Verdict::Block || self.would_be == Verdict::Block
    }
}

/// What one fence said of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FenceOutcome {
    /// Name of the fence.
    pub fence: Arc<str>,
    /// Whether this fence acts on its verdict.
    pub mode: Mode,
    /// This fence's own verdict.
    pub verdict: Verdict,
    /// The rule or exception that decided, or the word of the fence that did.
    pub rule: Option<Arc<str>>,
    /// The step of the evaluation that gave the verdict.
    pub reason: Reason,
}

/// What an address is known to be, and which source said so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Place {
    /// ISO 3166-1 alpha-2 code as the data gives it, also where the place is anycast; what counts is `jurisdictions`.
    pub country: Option<Arc<str>>,
    /// Country of registration, where the source tells it apart.
    pub registered_country: Option<Arc<str>>,
    /// Provider that runs the address.
    pub provider: Option<Arc<str>>,
    /// The provider's own name of the region.
    pub region: Option<Arc<str>>,
    /// Autonomous system number.
    pub asn: Option<u32>,
    /// The data set that answered.
    pub source: Option<Arc<str>>,
    /// Date of that data set.
    pub data_date: Option<Date>,
    /// Jurisdictions that contain this place: country code, groups, specials.
    pub jurisdictions: Arc<[Arc<str>]>,
    /// The address answers from many countries at once.
    pub anycast: bool,
}

/// One end of a flow. An IPv4-mapped IPv6 address is held as the IPv4 address it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: IpAddr,
    port: u16,
}

impl Endpoint {
    /// An end of a flow; `port` in host byte order, 0 for protocols without ports.
    #[must_use]
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address: address.to_canonical(), port }
    }

    /// The address; never IPv4-mapped.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The port in host byte order; 0 for protocols without ports.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// IANA protocol number. Printed as the usual word where there is one, as the number otherwise.
/// <https://www.iana.org/assignments/protocol-numbers>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Protocol 6.
    pub const TCP: Self = Self(6);
    /// Protocol 17.
    pub const UDP: Self = Self(17);

    /// The protocol of that name (`tcp`) or number (`6`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        protocols::number_of(text).or_else(|| text.parse().ok()).map(Self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match protocols::name_of(self.0) {
            Some(name) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The process on whose behalf the kernel acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id in the node's own namespace.
    pub pid: u32,
    /// User id in the node's own namespace.
    pub uid: u32,
    /// The kernel's short name of the thread.
    pub comm: Arc<str>,
}

/// Counters of a flow, by the sizes of IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
}

/// Copied from the fence's `record`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ProcessingRecord {
    /// Categories of data.
    pub data_categories: Vec<String>,
    /// Purpose of the processing.
    pub purpose: Option<String>,
    /// Recipients.
    pub recipients: Vec<String>,
}
