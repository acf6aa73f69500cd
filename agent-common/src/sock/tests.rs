//! What a socket remembers and what it tells, on a small policy with a clock that the test turns.

extern crate std;
use std::boxed::Box;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::vec::Vec;

use super::{Cached, SLOTS, Sink, Slot, SockState, Who, finished, judge, position, release};
use crate::address::Address;
use crate::bytes::Loop;
use crate::flow::{Direction, Flow, protocol};
use crate::image::{PlaceKind, Policy, Window, fence_flags, head_flags, kind_verdict};
use crate::place_index::PlaceIndex;
use crate::verdict::{Reason, Rules, Verdict, View};
use crate::wire::Phase;

mod proof;
mod told;

const SECOND: u64 = 1_000_000_000;
/// When a story begins: any time but zero.
const START: u64 = 1000 * SECOND;
/// The set whose fence enforces.
const ENFORCED: u32 = 1;
/// The set whose fence only audits.
const AUDITED: u32 = 2;

/// 10.0.0.0/8 is allowed, 20.0.0.0/8 is blocked but for the exception, 127.0.0.0/8 is loopback, the rest is blocked.
struct World {
    policy: Box<Policy>,
    index: &'static PlaceIndex,
}

const ALLOWED: Address = Address::v4(0x0a00_0001);
const BLOCKED: Address = Address::v4(0x1400_0001);
const LOOPBACK: Address = Address::v4(0x7f00_0001);

impl World {
    fn new() -> Self {
        let mut policy = Policy::boxed();
        policy.head.generation = 1;
        policy.head.flags = head_flags::FLOWS;
        policy.places[1] = PlaceKind::Country as u16;
        policy.places[2] = PlaceKind::Country as u16;
        policy.places[3] = PlaceKind::Loopback as u16;
        for (at, flags) in [(0, fence_flags::ENFORCE), (1, 0)] {
            let fence = &mut policy.fences[at];
            fence.flags = flags;
            fence.exceptions = 1;
            fence.exception_count = 1;
            fence.allows = 2;
            fence.kinds = [kind_verdict(Verdict::Block, Reason::Default); 16];
        }
        policy.rules[1] = 2;
        policy.rules[2] = 1;
        for (set, fence) in [(ENFORCED, 0), (AUDITED, 1)] {
            policy.sets[set as usize].len = 1;
            policy.sets[set as usize].fences[0] = fence;
        }
        Self { policy, index: index() }
    }

    /// The enforcing fence lets 20.0.0.0/8 through between two moments.
    fn except(&mut self, from: u64, until: u64) {
        self.policy.fences[0].windows[0] = Window { from, until };
    }
}

/// Made once: a thousand stories begin with it.
fn index() -> &'static PlaceIndex {
    static INDEX: OnceLock<Box<PlaceIndex>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = PlaceIndex::boxed();
        let v4 = [
            (0, 0),
            (10 << 24, 1),
            (11 << 24, 0),
            (20 << 24, 2),
            (21 << 24, 0),
            (127 << 24, 3),
            (128 << 24, 0),
        ];
        index.build(&v4, &[(0, 0)]).unwrap();
        index
    })
}

#[derive(Clone, Copy)]
struct At<'a> {
    world: &'a World,
    now: u64,
}

impl Loop for At<'_> {}

impl Rules for At<'_> {
    fn policy(&self) -> &Policy {
        &self.world.policy
    }
    fn now(&self) -> u64 {
        self.now
    }
}

impl View for At<'_> {
    fn index(&self) -> &PlaceIndex {
        self.world.index
    }
}

/// One event, as much of it as the stories are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    phase: Phase,
    remote: Address,
    generation: u32,
    opened: u64,
    repeats: u64,
    tx_packets: u64,
    rx_bytes: u64,
    blocked: bool,
}

#[derive(Default)]
struct Tape(RefCell<Vec<Told>>);

impl Tape {
    /// The phases told since the last call, with the remote.
    fn phases(&self) -> Vec<(Phase, Address)> {
        self.take().iter().map(|told| (told.phase, told.remote)).collect()
    }

    fn take(&self) -> Vec<Told> {
        self.0.take()
    }
}

impl Sink for Tape {
    fn emit(&self, phase: Phase, state: &SockState, at: usize, _: u32, _: &Who) {
        let slot = &state.slots[at];
        self.0.borrow_mut().push(Told {
            phase,
            remote: slot.remote,
            generation: slot.generation,
            opened: slot.opened,
            repeats: slot.repeats,
            tx_packets: slot.tx_packets,
            rx_bytes: slot.rx_bytes,
            blocked: Cached(slot.decision).blocked(),
        });
    }
    fn key(&self) -> [u64; 2] {
        [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]
    }
}

/// A socket and its world.
struct Story {
    world: World,
    state: SockState,
    tape: Tape,
    who: Who,
    now: u64,
}

impl Story {
    fn of(set: u32) -> Self {
        let who = Who { stamp: 1 << 32 | 1, workload: 7, set };
        Self { world: World::new(), state: fresh(), tape: Tape::default(), who, now: START }
    }

    /// Sends a packet, as the egress hook does.
    fn send(&mut self, flow: &Flow) -> Cached {
        let view = At { world: &self.world, now: self.now };
        let cached = judge(&view, &self.tape, &mut self.state, &self.who, flow, self.now);
        if !cached.blocked() {
            self.state.slots[position(flow)].tx_packets += 1;
        }
        cached
    }

    fn release(&mut self) {
        let view = At { world: &self.world, now: self.now };
        release(&view, &self.tape, &mut self.state, &self.who, self.now);
    }

    /// The last packet left.
    fn finish(&mut self, flow: &Flow, payload: bool) {
        let view = At { world: &self.world, now: self.now };
        finished(&view, &self.tape, &mut self.state, position(flow), &self.who, self.now, payload);
    }

    /// A new policy is in force.
    fn next_generation(&mut self) {
        self.world.policy.head.generation += 1;
        self.who.stamp += 1 << 32;
    }
}

const fn tcp(remote: Address) -> Flow {
    Flow { remote, port: 443, protocol: protocol::TCP, direction: Direction::Outbound, flags: 0 }
}

const fn udp(remote: Address) -> Flow {
    Flow { protocol: protocol::UDP, ..tcp(remote) }
}

/// Storage as the kernel makes it: zeros.
const fn fresh() -> SockState {
    const NOWHERE: Address = Address { hi: 0, lo: 0 };
    let slot = Slot {
        tag: 0,
        decision: 0,
        until: 0,
        remote: NOWHERE,
        port: 0,
        protocol: 0,
        direction: 0,
        generation: 0,
        opened: 0,
        last: 0,
        emitted: 0,
        tx_bytes: 0,
        tx_packets: 0,
        rx_bytes: 0,
        rx_packets: 0,
        repeats: 0,
        reported: 0,
        told: 0,
    };
    SockState {
        cookie: 0,
        cgroup: 0,
        stamp: 0,
        workload: 0,
        flags: 0,
        pid: 0,
        uid: 0,
        comm: [0; 16],
        window: 0,
        events: 0,
        folded: 0,
        early_bytes: 0,
        early_packets: 0,
        local: NOWHERE,
        local_port: 0,
        slots: [slot; SLOTS],
    }
}
