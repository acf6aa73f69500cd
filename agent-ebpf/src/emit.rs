//! Events to the rings. What can't be written is counted, by reason; violations and flows have a ring each, so that
//! a flood of the one can't drown the other.

use core::ptr;

use agent_common::image::Policy;
use agent_common::sock::{Cached, SLOTS, Sink, Slot, SockState, Who, sock_flags};
use agent_common::wire::{Counter, Event, Phase, event_flags};

use crate::ctx::{argument, boot_time};
use crate::maps::{FLOWS, Image, VIOLATIONS, add, control, count, limit};

/// `BPF_RB_NO_WAKEUP`: the agent looks at the flow ring by itself, a few times a second.
const NO_WAKEUP: u64 = 1;

/// The rings, as one hook sees them.
#[derive(Clone, Copy)]
pub(crate) struct Rings {
    policy: *const Policy,
    hook: u32,
}

impl Rings {
    #[inline(always)]
    pub(crate) const fn new(image: &Image, hook: u32) -> Self {
        Self { policy: image.policy, hook }
    }
}

impl Sink for Rings {
    #[inline(always)]
    fn emit(&self, phase: Phase, state: &SockState, at: usize, flags: u32, who: &Who) {
        let what = phase as u32 | self.hook << 8 | (at as u32) << 16 | flags << 24;
        let whom = u64::from(who.workload) << 32 | u64::from(who.set);
        ringfence_emit(ptr::from_ref(state), what, whom, self.policy);
    }

    #[inline(always)]
    fn key(&self) -> [u64; 2] {
        // Without the map nothing else works either: the image could not be fetched.
        control().map_or([0, 0], |c| c.key)
    }
}

/// Writes one event. `what` is phase, hook, slot and flow flags, a byte each; `whom` workload and set.
///
/// A global function: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_emit(state: *const SockState, what: u32, whom: u64, policy: *const Policy) -> u32 {
    let Some(state) = argument(state) else { return 0 };
    let Some(policy) = argument(policy) else { return 0 };
    let slot = &state.slots[(what >> 16) as usize & (SLOTS - 1)];
    let cached = Cached(slot.decision);
    if !cached.violation() {
        count(Counter::Flows);
        let Some(mut record) = FLOWS.reserve(0) else {
            count(Counter::FlowsLost);
            return 0;
        };
        fill(record.as_mut_ptr(), state, slot, what, whom);
        record.submit(NO_WAKEUP);
        return 1;
    }
    if !affordable(policy, (whom >> 32) as u32) {
        return 0;
    }
    count(Counter::Violations);
    let Some(mut record) = VIOLATIONS.reserve(0) else {
        count(Counter::ViolationsLost);
        return 0;
    };
    fill(record.as_mut_ptr(), state, slot, what, whom);
    record.submit(0);
    1
}

/// Within the workload's budget of violation events? Counts what is not.
#[inline(always)]
fn affordable(policy: &Policy, workload: u32) -> bool {
    let Some(limit) = limit(workload) else { return true };
    let window = boot_time() >> 30;
    if limit.window != window {
        limit.window = window;
        limit.count = 0;
    }
    add(&mut limit.count, 1);
    if limit.count <= u64::from(policy.head.events_per_second) {
        return true;
    }
    add(&mut limit.suppressed, 1);
    count(Counter::Suppressed);
    false
}

/// Field by field through a raw pointer: a struct would be built on the stack and copied.
#[inline(always)]
fn fill(e: *mut Event, state: &SockState, slot: &Slot, what: u32, whom: u64) {
    macro_rules! put {
        ($($field:ident = $value:expr;)*) => { $(
            // SAFETY: `e` is a reserved ring record of an `Event`'s size and alignment.
            unsafe { ptr::write(&raw mut (*e).$field, $value) };
        )* };
    }
    let cached = Cached(slot.decision);
    let mut flags = 0;
    if cached.blocked() {
        flags |= event_flags::BLOCKED;
    }
    if cached.violation() {
        flags |= event_flags::VIOLATION;
    }
    if state.flags & sock_flags::LOCAL != 0 {
        flags |= event_flags::LOCAL;
    }
    if state.flags & sock_flags::EARLY != 0 {
        flags |= event_flags::EARLY;
    }
    if state.flags & sock_flags::SCRATCH != 0 {
        flags |= event_flags::NO_STORAGE;
    }
    // A flow that opens does so now: the clock was read a moment ago.
    let opens = what & 0xff == Phase::Open as u32;
    put! {
        time = if opens { slot.opened } else { boot_time() };
        opened = slot.opened;
        cookie = state.cookie;
        cgroup = state.cgroup;
        remote = slot.remote;
        local = state.local;
        tx_bytes = slot.tx_bytes;
        tx_packets = slot.tx_packets;
        rx_bytes = slot.rx_bytes;
        rx_packets = slot.rx_packets;
        repeats = slot.repeats;
        folded = state.folded;
        generation = slot.generation;
        workload = (whom >> 32) as u32;
        pid = state.pid;
        uid = state.uid;
        outcome = cached.outcome();
        port = slot.port;
        local_port = state.local_port as u16;
        place = cached.place();
        phase = what as u8;
        hook = (what >> 8) as u8;
        protocol = slot.protocol;
        direction = slot.direction;
        flags = flags;
        _pad = 0;
        comm = state.comm;
        set = whom as u16;
        blocking = cached.blocking();
        flow_flags = what >> 24;
    }
}
