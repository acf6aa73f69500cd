//! The end of flows: what is told of them, once, and within the socket's budget.

use crate::image::head_flags;
use crate::sock::{Cached, FLOW_EVENTS_PER_WINDOW, SLOTS, Sink, SockState, Who, sock_flags};
use crate::verdict::View;
use crate::wire::Phase;

/// One flow event more for this socket, within its budget?
#[inline(always)]
pub(super) fn affordable(state: &mut SockState, now: u64) -> bool {
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
pub(super) fn tell_end<V: View, S: Sink>(
    view: &V,
    sink: &S,
    state: &mut SockState,
    at: usize,
    who: &Who,
    now: u64,
) {
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

/// Whether a packet of a blocked TCP flow may pass so that the peer learns of the end: a FIN or RST (`last`) without
/// payload, on a connection that had sent before, when it was allowed. What was never allowed gets nothing through.
#[inline(always)]
pub fn is_goodbye(state: &SockState, at: usize, last: bool, payload: bool) -> bool {
    last && !payload && state.slots[at & (SLOTS - 1)].tx_packets != 0
}
