//! One packet or call of a flow: recall what is remembered, else decide and record.

use crate::flow::{Flow, protocol};
use crate::image::head_flags;
use crate::sock::end::{affordable, tell_end};
use crate::sock::{Cached, REPEAT_INTERVAL, SLOTS, Sink, Slot, SockState, UDP_IDLE, Who, position, tag};
use crate::verdict::{View, decide};
use crate::wire::Phase;

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
    let same = goes_on && decision.0 == old.0;
    let recorded = !decision.is_loopback() && view.policy().head.flags & head_flags::FLOWS != 0;
    if !goes_on {
        tell_end(view, sink, state, at, who, now);
    }
    let told = !same && (decision.violation() || recorded && affordable(state, now));
    if !goes_on {
        // The exact clock costs more than the rest of this together: it is for flows that somebody is told of. The
        // coarse one differs by a tick, and by what the machine slept.
        begin(state, at, flow, if told { view.now() } else { now });
    }
    let slot = &mut state.slots[at];
    slot.decision = decision.0;
    slot.until = until;
    slot.generation = generation;
    slot.last = now;
    slot.tag = tag(sink.key(), flow, who, decision.0, until);
    if same {
        slot.repeats += decision.0 >> 62 & 1;
    } else if told {
        if decision.violation() {
            slot.emitted = now;
            slot.reported = slot.repeats;
        }
        let phase = if goes_on { Phase::Verdict } else { Phase::Open };
        sink.emit(phase, state, at, flow.flags, who);
    } else if recorded {
        state.folded += 1;
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
