//! What is kept per socket: its identity, and a few of the flows it carries.
//!
//! A flow's record and its cached verdict are one [`Slot`], found by a hash of the remote (direct-mapped, so that a
//! packet costs one probe and never a search). A TCP socket uses one slot; a UDP socket that talks to more remotes
//! than there are slots ends flows early and opens them again, within a budget of events; what is beyond the budget
//! is counted in [`SockState::folded`].
//!
//! Packets of one UDP socket run on several CPUs at once, without a lock. A cached verdict is therefore trusted only
//! with its proof: [`Slot::tag`] is a keyed hash of the verdict *and everything it depends on*; a slot that another
//! CPU is rewriting fails the comparison and the flow is simply judged again.

use crate::address::Address;
use crate::flow::{Direction, Flow};
use crate::verdict::{Decision, Outcome, Reason, Verdict};
use crate::wire::Phase;

mod end;
mod step;
#[cfg(test)]
mod tests;

pub use end::{finished, is_goodbye, release};
pub use step::{judge, recall, record};

/// Flows that one socket remembers.
///
/// Two keep the whole state in a 512-byte allocation. Storage is made for every socket and freed after a grace period,
/// so it is always cold memory: each cache line of it is paid for by every connection.
pub const SLOTS: usize = 2;

/// A UDP flow that was silent for so long has ended (ns).
pub const UDP_IDLE: u64 = 30_000_000_000;

/// A violation is repeated in the stream at most this often (ns).
pub const REPEAT_INTERVAL: u64 = 1_000_000_000;

/// Flow events that one socket may emit in a window of 2^30 ns.
pub const FLOW_EVENTS_PER_WINDOW: u64 = 64;

/// Bits of [`SockState::flags`].
pub mod sock_flags {
    /// The socket connected, or sent the first SYN.
    pub const CONNECTED: u32 = 1;
    /// The socket came out of accept.
    pub const ACCEPTED: u32 = 2;
    /// The caller closed it.
    pub const RELEASED: u32 = 4;
    /// It is older than the agent.
    pub const EARLY: u32 = 8;
    /// `workload` was found by the socket's own cgroup, not by the task's.
    pub const VERIFIED: u32 = 16;
    /// `local` and `local_port` are known.
    pub const LOCAL: u32 = 32;
    /// Not the socket's own storage, which could not be had, but a scratch for one packet or call.
    pub const SCRATCH: u32 = 64;
}

/// What is kept per socket, in socket storage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SockState {
    /// The socket's cookie. Another one than the socket has: this is a copy of the listener's storage.
    pub cookie: u64,
    /// Id of the cgroup that the socket was made in.
    pub cgroup: u64,
    /// The stamp ([`Who::stamp`]) under which `workload` was found; 0: never.
    pub stamp: u64,
    /// Workload id; 0 if no subject.
    pub workload: u32,
    /// [`sock_flags`].
    pub flags: u32,
    /// Who made or connected it.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// Its command name.
    pub comm: [u8; 16],
    /// Which window of 2^30 ns `events` counts in.
    pub window: u64,
    /// Flow events in this window.
    pub events: u64,
    /// Flows that were counted here and not recorded.
    pub folded: u64,
    /// IP bytes that came in before the socket's TCP flow was opened by its first answer.
    pub early_bytes: u64,
    /// IP packets that came in before.
    pub early_packets: u64,
    /// Local address, if [`sock_flags::LOCAL`].
    pub local: Address,
    /// Local port, if [`sock_flags::LOCAL`].
    pub local_port: u64,
    /// The flows.
    pub slots: [Slot; SLOTS],
}

/// One flow of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Keyed hash that proves `decision` and `until` for this remote, workload and stamp.
    pub tag: u64,
    /// [`Cached`] decision.
    pub decision: u64,
    /// Until when the decision holds (boot-time ns).
    pub until: u64,
    /// Remote address.
    pub remote: Address,
    /// Remote port.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// [`Direction`].
    pub direction: u8,
    /// Generation of the policy that decided.
    pub generation: u32,
    /// When the flow began (boot-time ns); 0: the slot is empty.
    pub opened: u64,
    /// When it was last seen (coarse clock, ns).
    pub last: u64,
    /// When its violation was last emitted (coarse clock, ns).
    pub emitted: u64,
    /// IP bytes sent.
    pub tx_bytes: u64,
    /// IP packets sent.
    pub tx_packets: u64,
    /// IP bytes received.
    pub rx_bytes: u64,
    /// IP packets received.
    pub rx_packets: u64,
    /// How often the violation was repeated.
    pub repeats: u64,
    /// `repeats` when it was last emitted.
    pub reported: u64,
    /// `tx_packets` when the caller closed the socket; what leaves later is told by a second record.
    pub told: u64,
}

const _: () = assert!(size_of::<Slot>() == 128);
const _: () = assert!(size_of::<SockState>() == 120 + SLOTS * size_of::<Slot>());

/// A decision in one word: outcome in bits 0..32, place 32..44, blocking fences 44..60, verdicts on top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cached(pub u64);

impl Cached {
    const BLOCKED: u64 = 1 << 63;
    const VIOLATION: u64 = 1 << 62;

    /// Packs a decision.
    #[inline(always)]
    #[must_use]
    pub const fn new(d: &Decision) -> Self {
        Self(
            d.outcome.0 as u64
                | (d.place as u64 & 0xfff) << 32
                | (d.blocking as u64) << 44
                | (d.enforced as u64) << 63
                | (d.would_be as u64) << 62,
        )
    }

    /// Unpacks it again.
    #[inline(always)]
    #[must_use]
    pub const fn decision(self, until: u64) -> Decision {
        Decision {
            enforced: self.enforced(),
            would_be: if self.violation() { Verdict::Block } else { Verdict::Allow },
            outcome: Outcome(self.outcome()),
            place: self.place(),
            blocking: self.blocking(),
            until,
        }
    }

    /// The bytes are stopped.
    #[inline(always)]
    #[must_use]
    pub const fn blocked(self) -> bool {
        self.0 & Self::BLOCKED != 0
    }

    /// Some fence says Block.
    #[inline(always)]
    #[must_use]
    pub const fn violation(self) -> bool {
        self.0 & Self::VIOLATION != 0
    }

    /// What is enforced.
    #[inline(always)]
    #[must_use]
    pub const fn enforced(self) -> Verdict {
        if self.blocked() { Verdict::Block } else { Verdict::Allow }
    }

    /// The [`Outcome`]'s word.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> u32 {
        self.0 as u32
    }

    /// The reason's number.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> u8 {
        Outcome(self.outcome()).reason()
    }

    /// The place id.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> u16 {
        (self.0 >> 32) as u16 & 0xfff
    }

    /// Which fences of the set say Block.
    #[inline(always)]
    #[must_use]
    pub const fn blocking(self) -> u16 {
        (self.0 >> 44) as u16
    }

    /// Loopback is never judged and leaves no record.
    #[inline(always)]
    pub(crate) const fn is_loopback(self) -> bool {
        self.reason() == Reason::Loopback as u8
    }
}

/// For whom a flow is judged.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Generation of the policy and epoch of the identity table: what was found under another stamp is found anew.
    pub stamp: u64,
    /// Workload id.
    pub workload: u32,
    /// Its set of fences.
    pub set: u32,
}

/// Where events go, and the secrets of this boot.
pub trait Sink {
    /// Writes an event of the flow in slot `at`, or counts it as lost. `flags` are the flow's.
    fn emit(&self, phase: Phase, state: &SockState, at: usize, flags: u32, who: &Who);
    /// Two secret words, the same until reboot.
    fn key(&self) -> [u64; 2];
}

#[inline(always)]
const fn mix(h: u64, x: u64) -> u64 {
    let h = (h ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ h >> 29
}

/// The proof of a cached verdict.
#[inline(always)]
pub(crate) fn tag(key: [u64; 2], flow: &Flow, who: &Who, decision: u64, until: u64) -> u64 {
    let ports = (flow.port as u64)
        | (flow.protocol as u64) << 16
        | (flow.direction as u64) << 24
        | (flow.flags as u64 & 0x7f) << 25
        | (who.workload as u64) << 32;
    let h = mix(mix(mix(key[0], flow.remote.hi), flow.remote.lo), ports);
    // Zero marks an empty slot.
    mix(mix(mix(h, who.stamp), decision), until ^ key[1]) | 1
}

/// Which slot a remote lives in.
#[inline(always)]
#[must_use]
pub fn position(flow: &Flow) -> usize {
    let h = mix(flow.remote.lo ^ flow.remote.hi, u64::from(flow.port));
    (h >> 32) as usize & (SLOTS - 1)
}

impl Slot {
    #[inline(always)]
    pub(crate) fn is(&self, flow: &Flow) -> bool {
        self.opened != 0
            && self.remote.hi == flow.remote.hi
            && self.remote.lo == flow.remote.lo
            && self.port == flow.port
            && self.protocol == flow.protocol
    }

    /// The flow that the slot holds.
    #[inline(always)]
    #[must_use]
    pub fn flow(&self) -> Flow {
        let direction =
            if self.direction == Direction::Inbound as u8 { Direction::Inbound } else { Direction::Outbound };
        Flow { remote: self.remote, port: self.port, protocol: self.protocol, direction, flags: 0 }
    }
}

/// Storage that a socket got as a copy of its listener's becomes its own.
#[inline(always)]
pub fn adopt(state: &mut SockState, cookie: u64) {
    if state.cookie == cookie {
        return;
    }
    state.cookie = cookie;
    state.stamp = 0;
    state.flags = sock_flags::ACCEPTED | (state.flags & sock_flags::EARLY);
    state.window = 0;
    state.events = 0;
    state.folded = 0;
    state.early_bytes = 0;
    state.early_packets = 0;
    let mut at = 0;
    while at < SLOTS {
        state.slots[at].opened = 0;
        state.slots[at].tag = 0;
        at += 1;
    }
}

/// Makes a scratch ready for one packet or call of a socket that has no storage. Its budget of flow events goes on:
/// it is all that holds back a socket of which nothing is remembered.
#[inline(always)]
pub fn clear(state: &mut SockState) {
    state.cookie = 0;
    state.cgroup = 0;
    state.stamp = 0;
    state.workload = 0;
    state.flags = sock_flags::SCRATCH;
    state.pid = 0;
    state.uid = 0;
    state.early_bytes = 0;
    state.early_packets = 0;
    let mut at = 0;
    while at < SLOTS {
        state.slots[at].opened = 0;
        state.slots[at].tag = 0;
        at += 1;
    }
}

/// The slot of a flow, if it is there: for counting what comes in.
#[inline(always)]
pub fn find(state: &SockState, flow: &Flow) -> Option<usize> {
    let at = position(flow);
    if state.slots[at].is(flow) { Some(at) } else { None }
}
