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
use crate::flow::{Direction, Flow, protocol};
use crate::image::head_flags;
use crate::verdict::{Decision, Outcome, Reason, Verdict, View, decide};
use crate::wire::Phase;

#[cfg(test)]
mod tests;

/// Flows that one socket remembers.
pub const SLOTS: usize = 4;

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
    const fn is_loopback(self) -> bool {
        (self.0 >> 16) as u8 == Reason::Loopback as u8
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
fn tag(key: [u64; 2], flow: &Flow, who: &Who, decision: u64, until: u64) -> u64 {
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
    fn is(&self, flow: &Flow) -> bool {
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

/// Empties a slot for a new flow, field by field: a struct assignment becomes a call to `memset` in BPF.
#[inline(always)]
fn begin(state: &mut SockState, at: usize, flow: &Flow, opened: u64) {
    let (bytes, packets) =
        if flow.protocol == protocol::TCP { (state.early_bytes, state.early_packets) } else { (0, 0) };
    state.early_bytes = 0;
    state.early_packets = 0;
    let slot = &mut state.slots[at & (SLOTS - 1)];
    slot.tag = 0;
    slot.remote.hi = flow.remote.hi;
    slot.remote.lo = flow.remote.lo;
    slot.port = flow.port;
    slot.protocol = flow.protocol;
    slot.direction = flow.direction as u8;
    slot.opened = opened;
    slot.emitted = 0;
    slot.tx_bytes = 0;
    slot.tx_packets = 0;
    slot.rx_bytes = bytes;
    slot.rx_packets = packets;
    slot.repeats = 0;
    slot.reported = 0;
    slot.told = 0;
}

/// One flow event more for this socket, within its budget?
#[inline(always)]
fn affordable(state: &mut SockState, now: u64) -> bool {
    let window = now >> 30;
    if state.window != window {
        state.window = window;
        state.events = 0;
    }
    state.events += 1;
    state.events <= FLOW_EVENTS_PER_WINDOW
}

/// Tells the end of the flow in slot `at`, if there is anything that was not told yet. The slot stays as it is.
#[inline(always)]
pub fn tell_end<V: View, S: Sink>(view: &V, sink: &S, state: &mut SockState, at: usize, who: &Who, now: u64) {
    let slot = &state.slots[at & (SLOTS - 1)];
    if slot.opened == 0 {
        return;
    }
    let cached = Cached(slot.decision);
    let passed = slot.tx_packets | slot.rx_packets != 0;
    let untold = if cached.violation() {
        passed || slot.repeats != slot.reported
    } else {
        !cached.is_loopback() && view.policy().head.flags & head_flags::FLOWS != 0
    };
    if !untold {
        return;
    }
    if cached.violation() || affordable(state, now) {
        sink.emit(Phase::Close, state, at, 0, who);
    } else {
        state.folded += 1;
    }
}

/// The caller closed the socket: every flow's end is told. TCP may still send what is queued: the slots stay.
#[inline(always)]
pub fn release<V: View, S: Sink>(view: &V, sink: &S, state: &mut SockState, who: &Who, now: u64) {
    state.flags |= sock_flags::RELEASED;
    let mut at = 0;
    while at < SLOTS {
        tell_end(view, sink, state, at, who, now);
        state.slots[at].told = state.slots[at].tx_packets;
        at += 1;
    }
}

/// The last packet of a TCP flow left. If the caller had closed before and data was still queued, the end is told
/// again, with what really went out.
#[inline(always)]
pub fn finished<V: View, S: Sink>(
    view: &V,
    sink: &S,
    state: &mut SockState,
    at: usize,
    who: &Who,
    now: u64,
    payload: bool,
) {
    let slot = &mut state.slots[at & (SLOTS - 1)];
    if state.flags & sock_flags::RELEASED == 0 || !(payload || slot.tx_packets > slot.told + 1) {
        return;
    }
    slot.told = slot.tx_packets;
    tell_end(view, sink, state, at, who, now);
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

/// A flow is over if it is not TCP and was silent for too long.
#[inline(always)]
fn idle(slot: &Slot, flow: &Flow, now: u64) -> bool {
    flow.protocol != protocol::TCP && now.wrapping_sub(slot.last) > UDP_IDLE
}

/// The verdict that a flow's slot remembers, if it still holds; counts and tells a repeated violation.
///
/// `now` is the coarse clock (ns).
#[inline(always)]
pub fn recall<V: View, S: Sink>(
    view: &V,
    sink: &S,
    state: &mut SockState,
    who: &Who,
    flow: &Flow,
    now: u64,
) -> Option<Cached> {
    let at = position(flow);
    let slot = &mut state.slots[at];
    let cached = Cached(slot.decision);
    let until = slot.until;
    if slot.tag != tag(sink.key(), flow, who, cached.0, until) || idle(slot, flow, now) {
        return None;
    }
    if until != u64::MAX && view.now() >= until {
        return None;
    }
    slot.last = now;
    if cached.violation() {
        slot.repeats += 1;
        if now.wrapping_sub(slot.emitted) >= REPEAT_INTERVAL {
            slot.emitted = now;
            slot.reported = slot.repeats;
            sink.emit(Phase::Repeat, state, at, flow.flags, who);
        }
    }
    Some(cached)
}

/// Remembers a fresh decision in the flow's slot, and tells what is to be told.
#[expect(clippy::too_many_arguments, reason = "a struct of them would cost the kernel side its stack")]
#[inline(always)]
pub fn record<V: View, S: Sink>(
    view: &V,
    sink: &S,
    state: &mut SockState,
    who: &Who,
    flow: &Flow,
    now: u64,
    decision: Cached,
    until: u64,
) {
    let at = position(flow);
    let slot = &mut state.slots[at];
    let old = Cached(slot.decision);
    let generation = view.policy().head.generation;
    // A TCP flow lives on under a new policy; a UDP flow ends there, so that a record has one generation.
    let goes_on = slot.is(flow)
        && !idle(slot, flow, now)
        && (flow.protocol == protocol::TCP || slot.generation == generation);
    if !goes_on {
        tell_end(view, sink, state, at, who, now);
        begin(state, at, flow, view.now());
    }
    let slot = &mut state.slots[at];
    slot.decision = decision.0;
    slot.until = until;
    slot.generation = generation;
    slot.last = now;
    slot.tag = tag(sink.key(), flow, who, decision.0, until);
    if goes_on && decision.0 == old.0 {
        slot.repeats += decision.0 >> 62 & 1;
        return;
    }
    let phase = if goes_on { Phase::Verdict } else { Phase::Open };
    if decision.violation() {
        slot.emitted = now;
        slot.reported = slot.repeats;
        sink.emit(phase, state, at, flow.flags, who);
    } else if !decision.is_loopback() && view.policy().head.flags & head_flags::FLOWS != 0 {
        if affordable(state, now) {
            sink.emit(phase, state, at, flow.flags, who);
        } else {
            state.folded += 1;
        }
    }
}

/// Judges a flow of a socket: from its slot if the verdict there still holds, else anew. The flow is then in slot
/// [`position`], for the byte counters. The kernel side calls the three steps one by one, to share their stack.
pub fn judge<V: View, S: Sink>(
    view: &V,
    sink: &S,
    state: &mut SockState,
    who: &Who,
    flow: &Flow,
    now: u64,
) -> Cached {
    if let Some(known) = recall(view, sink, state, who, flow, now) {
        return known;
    }
    let decision = decide(view, who.set, flow);
    let cached = Cached::new(&decision);
    record(view, sink, state, who, flow, now, cached, decision.until);
    cached
}

/// The slot of a flow, if it is there: for counting what comes in.
#[inline(always)]
pub fn find(state: &SockState, flow: &Flow) -> Option<usize> {
    let at = position(flow);
    if state.slots[at].is(flow) { Some(at) } else { None }
}
