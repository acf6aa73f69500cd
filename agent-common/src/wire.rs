//! The record that goes through the ring buffers: integers only, native byte order, every pad named.

use core::mem::offset_of;

use crate::address::Address;

/// What happened to a flow.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// First packet or call of the flow.
    Open = 1,
    /// The verdict on a flow changed: a new policy, or an exception began or ended.
    Verdict = 2,
    /// The same violation again; at most once a second.
    Repeat = 3,
    /// The flow ended.
    Close = 4,
}

/// Which hook saw it.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// `cgroup/connect4`.
    Connect4 = 1,
    /// `cgroup/connect6`.
    Connect6 = 2,
    /// `cgroup/sendmsg4`.
    Sendmsg4 = 3,
    /// `cgroup/sendmsg6`.
    Sendmsg6 = 4,
    /// `cgroup_skb/egress`.
    Egress = 5,
    /// `cgroup/sock_release`.
    Release = 6,
    /// `cgroup/sock_create`: no remote yet, all zeros.
    SockCreate = 7,
    /// The host side of the workload's interface (tcx or clsact ingress).
    Host = 8,
}

impl Hook {
    /// All hooks, by their number.
    pub const ALL: [Self; 8] = [
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Egress,
        Self::Release,
        Self::SockCreate,
        Self::Host,
    ];
}

/// Bits of [`Event::flags`].
pub mod event_flags {
    /// The bytes were stopped.
    pub const BLOCKED: u8 = 1;
    /// Some fence, Audit included, says Block.
    pub const VIOLATION: u8 = 2;
    /// `local` and `local_port` are known.
    pub const LOCAL: u8 = 4;
    /// The socket is older than the agent: who made it is not known.
    pub const EARLY: u8 = 8;
    /// The socket's storage could not be had: judged by this packet or call alone, nothing is remembered of the flow.
    pub const NO_STORAGE: u8 = 16;
}

/// One event.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When (`CLOCK_BOOTTIME` ns).
    pub time: u64,
    /// When the flow began (`CLOCK_BOOTTIME` ns).
    pub opened: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// Id of the socket's cgroup.
    pub cgroup: u64,
    /// Remote address.
    pub remote: Address,
    /// Local address, if [`event_flags::LOCAL`].
    pub local: Address,
    /// IP bytes sent, headers included, segments of a GSO packet counted as they leave.
    pub tx_bytes: u64,
    /// IP packets sent.
    pub tx_packets: u64,
    /// IP bytes received.
    pub rx_bytes: u64,
    /// IP packets received.
    pub rx_packets: u64,
    /// How often the violation was repeated since the flow began.
    pub repeats: u64,
    /// Flows of this socket that were counted and not recorded, since the socket began.
    pub folded: u64,
    /// Generation of the policy that decided.
    pub generation: u32,
    /// Workload id; 0 if no subject.
    pub workload: u32,
    /// Process id in the initial namespace of who connected or made the socket; 0 if not known.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// [`Outcome`](crate::verdict::Outcome) that decided.
    pub outcome: u32,
    /// Remote port, host order.
    pub port: u16,
    /// Local port, host order, if [`event_flags::LOCAL`].
    pub local_port: u16,
    /// Place id.
    pub place: u16,
    /// [`Phase`].
    pub phase: u8,
    /// [`Hook`].
    pub hook: u8,
    /// IP protocol.
    pub protocol: u8,
    /// [`Direction`](crate::flow::Direction).
    pub direction: u8,
    /// [`event_flags`].
    pub flags: u8,
    /// Zero.
    pub _pad: u8,
    /// Its command name, NUL-padded, not necessarily UTF-8.
    pub comm: [u8; 16],
    /// The set of fences that was asked.
    pub set: u16,
    /// Which fences of the set say Block: bit `i` is the set's fence `i`.
    pub blocking: u16,
    /// [`flow::flags`](crate::flow::flags) of the packet that was judged.
    pub flow_flags: u32,
}

const _: () = assert!(size_of::<Event>() == 168);
const _: () = assert!(offset_of!(Event, tx_bytes) == 64);
const _: () = assert!(offset_of!(Event, generation) == 112);
const _: () = assert!(offset_of!(Event, comm) == 144);
const _: () = assert!(offset_of!(Event, set) == 160);

/// Counters that the kernel side keeps, by position in its per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Counter {
    /// Violation events that were to be written.
    Violations = 0,
    /// Flow events that were to be written.
    Flows = 1,
    /// Violation events lost: ring full.
    ViolationsLost = 2,
    /// Flow events lost: ring full.
    FlowsLost = 3,
    /// Violation events beyond a workload's cap: counted, not written.
    Suppressed = 4,
    /// Packets that could not be read.
    Unreadable = 5,
    /// Socket storage that could not be had.
    NoStorage = 6,
    /// A map that should be there was not.
    NoImage = 7,
    /// New cgroups whose id or path could not be read: left to the agent.
    CgroupUnread = 8,
    /// New cgroups of subjects that the identity table had no room for: left to the agent.
    CgroupUnnamed = 9,
    /// Host layer: packets on an interface that is nobody's (any more).
    NoVeth = 10,
    /// Packets that a network stack needs to live, let through by their form.
    StackLife = 11,
}

impl Counter {
    /// All counters, by their number.
    pub const ALL: [Self; 12] = [
        Self::Violations,
        Self::Flows,
        Self::ViolationsLost,
        Self::FlowsLost,
        Self::Suppressed,
        Self::Unreadable,
        Self::NoStorage,
        Self::NoImage,
        Self::CgroupUnread,
        Self::CgroupUnnamed,
        Self::NoVeth,
        Self::StackLife,
    ];

    /// As metrics and the stream call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Violations => "violations",
            Self::Flows => "flows",
            Self::ViolationsLost => "violations_lost",
            Self::FlowsLost => "flows_lost",
            Self::Suppressed => "suppressed",
            Self::Unreadable => "unreadable",
            Self::NoStorage => "no_storage",
            Self::NoImage => "no_image",
            Self::CgroupUnread => "cgroup_unread",
            Self::CgroupUnnamed => "cgroup_unnamed",
            Self::NoVeth => "no_veth",
            Self::StackLife => "stack_life",
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod decode;
#[cfg(not(target_arch = "bpf"))]
pub use decode::DecodeError;
