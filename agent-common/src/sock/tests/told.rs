//! What is told, and what is folded.

extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::{
    ALLOWED, AUDITED, Address, BLOCKED, ENFORCED, LOOPBACK, Phase, SECOND, START, Story, Told, position, tcp,
    udp,
};
use crate::sock::{FLOW_EVENTS_PER_WINDOW, UDP_IDLE, adopt, clear, find, is_goodbye, sock_flags};

/// The first remote in 10.0.0.0/8 after ALLOWED that shares its slot, or that does not.
fn neighbour(shares: bool) -> Address {
    let remotes = (2..1000).map(|i| Address::v4(0x0a00_0000 + i));
    let home = position(&udp(ALLOWED));
    remotes.into_iter().find(|remote| (position(&udp(*remote)) == home) == shares).unwrap()
}

#[test]
fn a_blocked_flow_is_told_at_once_and_then_once_a_second() {
    let mut story = Story::of(ENFORCED);
    for tick in 0..500 {
        story.now = START + tick * SECOND / 100;
        assert!(story.send(&tcp(BLOCKED)).blocked());
    }
    let told = story.tape.take();
    let phases: Vec<_> = told.iter().map(|t| (t.phase, t.repeats)).collect();
    let expected = [(Phase::Open, 0), (Phase::Repeat, 100), (Phase::Repeat, 200), (Phase::Repeat, 300)];
    assert_eq!(phases, [&expected[..], &[(Phase::Repeat, 400)]].concat());
    story.release();
    assert_eq!(
        story.tape.take().iter().map(|t| (t.phase, t.repeats)).collect::<Vec<_>>(),
        [(Phase::Close, 499)]
    );
}

#[test]
fn a_blocked_flow_has_no_end_if_all_was_told() {
    let mut story = Story::of(ENFORCED);
    story.send(&tcp(BLOCKED));
    story.now += SECOND;
    story.send(&tcp(BLOCKED));
    assert_eq!(story.tape.phases(), [(Phase::Open, BLOCKED), (Phase::Repeat, BLOCKED)]);
    story.release();
    assert_eq!(story.tape.phases(), [], "nothing passed, nothing is untold");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_pace_no_repeat_is_lost_and_none_is_told_twice_a_second(
        pauses in prop::collection::vec(0u64..3 * SECOND, 1..200),
    ) {
        let mut story = Story::of(AUDITED);
        story.send(&tcp(BLOCKED));
        for pause in &pauses {
            story.now += pause;
            prop_assert!(!story.send(&tcp(BLOCKED)).blocked());
        }
        let told = story.tape.take();
        let seconds = (story.now - START) / SECOND;
        prop_assert!(told.len() as u64 <= 1 + seconds, "{} events in {seconds} s", told.len());
        story.release();
        let end = story.tape.take();
        prop_assert_eq!(end.len(), 1);
        prop_assert_eq!((end[0].phase, end[0].repeats), (Phase::Close, pauses.len() as u64));
    }
}

#[test]
fn a_tcp_flow_goes_on_under_a_new_policy_and_tells_only_a_new_verdict() {
    let mut story = Story::of(ENFORCED);
    story.send(&tcp(ALLOWED));
    story.next_generation();
    story.send(&tcp(ALLOWED));
    assert_eq!(story.tape.phases(), [(Phase::Open, ALLOWED)], "the verdict is the same");
    story.next_generation();
    story.world.policy.rules[1] = 0;
    story.now += SECOND;
    assert!(story.send(&tcp(ALLOWED)).blocked());
    let told = story.tape.take();
    let expected = Told {
        phase: Phase::Verdict,
        remote: ALLOWED,
        generation: 3,
        opened: START,
        repeats: 0,
        tx_packets: 2,
        rx_bytes: 0,
        blocked: true,
    };
    assert_eq!(told, [expected]);
}

#[test]
fn a_udp_flow_ends_with_its_generation() {
    let mut story = Story::of(ENFORCED);
    story.send(&udp(ALLOWED));
    story.tape.take();
    story.next_generation();
    story.now += SECOND;
    story.send(&udp(ALLOWED));
    let told: Vec<_> = story.tape.take().iter().map(|t| (t.phase, t.generation, t.opened)).collect();
    assert_eq!(told, [(Phase::Close, 1, START), (Phase::Open, 2, START + SECOND)]);
}

#[test]
fn a_udp_flow_ends_when_it_was_silent_and_a_tcp_flow_does_not() {
    for (flow, expected) in
        [(udp(ALLOWED), vec![(Phase::Close, ALLOWED), (Phase::Open, ALLOWED)]), (tcp(ALLOWED), vec![])]
    {
        let mut story = Story::of(ENFORCED);
        story.send(&flow);
        story.now += UDP_IDLE;
        story.send(&flow);
        assert_eq!(
            story.tape.phases(),
            [(Phase::Open, ALLOWED)],
            "thirty seconds to the nanosecond are no end"
        );
        story.now += UDP_IDLE + 1;
        story.send(&flow);
        assert_eq!(story.tape.phases(), expected);
    }
}

#[test]
fn an_exception_opens_and_closes_a_flow_on_time() {
    let mut story = Story::of(ENFORCED);
    story.world.except(START + SECOND, START + 2 * SECOND);
    let mut at = |now: u64| {
        story.now = now;
        let blocked = story.send(&tcp(BLOCKED)).blocked();
        (blocked, story.tape.phases().first().map(|told| told.0))
    };
    assert_eq!(at(START), (true, Some(Phase::Open)));
    assert_eq!(at(START + SECOND - 1), (true, None));
    assert_eq!(at(START + SECOND), (false, Some(Phase::Verdict)));
    assert_eq!(at(START + 2 * SECOND - 1), (false, None));
    assert_eq!(at(START + 2 * SECOND), (true, Some(Phase::Verdict)));
}

#[test]
fn flows_beyond_the_budget_are_counted_and_violations_are_told_all_the_same() {
    let mut story = Story::of(ENFORCED);
    story.now = START >> 30 << 30;
    let remotes = 1000u64;
    for i in 0..remotes as u32 {
        story.send(&udp(Address::v4(0x0a00_0000 + i)));
    }
    let told = story.tape.take().len() as u64;
    assert_eq!(told, FLOW_EVENTS_PER_WINDOW);
    let still_open = story.state.slots.iter().filter(|slot| slot.opened != 0).count() as u64;
    assert_eq!(
        told + story.state.folded,
        2 * remotes - still_open,
        "each flow opens, and all but the last close"
    );
    story.send(&udp(BLOCKED));
    assert!(story.tape.phases().contains(&(Phase::Open, BLOCKED)));
    story.now += 1 << 30;
    story.send(&udp(Address::v4(0x0a01_0000)));
    assert!(!story.tape.take().is_empty(), "a new window, a new budget");
}

#[test]
fn a_remote_that_needs_the_slot_ends_the_flow_in_it() {
    let (same, other) = (neighbour(true), neighbour(false));
    let mut story = Story::of(ENFORCED);
    story.send(&udp(ALLOWED));
    story.send(&udp(other));
    assert_eq!(story.tape.phases(), [(Phase::Open, ALLOWED), (Phase::Open, other)]);
    story.send(&udp(same));
    assert_eq!(story.tape.phases(), [(Phase::Close, ALLOWED), (Phase::Open, same)]);
    assert_eq!(find(&story.state, &udp(ALLOWED)), None);
    assert_eq!(find(&story.state, &udp(other)), Some(position(&udp(other))));
}

#[test]
fn loopback_leaves_no_record_and_without_flow_events_only_violations_do() {
    let mut story = Story::of(ENFORCED);
    assert!(!story.send(&tcp(LOOPBACK)).blocked());
    story.release();
    assert_eq!(story.tape.phases(), []);
    let mut story = Story::of(ENFORCED);
    story.world.policy.head.flags = 0;
    story.send(&tcp(ALLOWED));
    story.send(&tcp(BLOCKED));
    story.release();
    assert_eq!(story.tape.phases(), [(Phase::Open, BLOCKED)]);
    assert_eq!(story.state.folded, 0);
}

#[test]
fn what_leaves_after_the_caller_closed_is_told_again() {
    let mut story = Story::of(ENFORCED);
    story.send(&tcp(ALLOWED));
    story.finish(&tcp(ALLOWED), true);
    assert_eq!(story.tape.phases(), [(Phase::Open, ALLOWED)], "the peer closed, the caller did not");
    story.release();
    assert_eq!(
        story.tape.take().iter().map(|t| (t.phase, t.tx_packets)).collect::<Vec<_>>(),
        [(Phase::Close, 1)]
    );
    story.send(&tcp(ALLOWED));
    story.finish(&tcp(ALLOWED), false);
    assert_eq!(story.tape.phases(), [], "nothing but the FIN left");
    story.send(&tcp(ALLOWED));
    story.send(&tcp(ALLOWED));
    story.finish(&tcp(ALLOWED), false);
    assert_eq!(
        story.tape.take().iter().map(|t| (t.phase, t.tx_packets)).collect::<Vec<_>>(),
        [(Phase::Close, 4)]
    );
}

#[test]
fn an_accepted_socket_forgets_what_its_listener_had() {
    let mut story = Story::of(ENFORCED);
    story.state.cookie = 1;
    story.state.flags = sock_flags::EARLY | sock_flags::VERIFIED | sock_flags::RELEASED;
    story.state.stamp = story.who.stamp;
    story.state.early_bytes = 5;
    story.send(&tcp(BLOCKED));
    let mut child = story.state;
    adopt(&mut child, 1);
    assert_eq!(find(&child, &tcp(BLOCKED)), Some(position(&tcp(BLOCKED))), "its own storage");
    adopt(&mut child, 2);
    assert_eq!((child.cookie, child.stamp, child.early_bytes, child.events, child.folded), (2, 0, 0, 0, 0));
    assert_eq!(child.flags, sock_flags::ACCEPTED | sock_flags::EARLY);
    assert_eq!(find(&child, &tcp(BLOCKED)), None);
    story.tape.take();
    story.state = child;
    story.send(&tcp(BLOCKED));
    assert_eq!(story.tape.phases(), [(Phase::Open, BLOCKED)], "judged anew, told as its own");
}

#[test]
fn a_request_that_came_before_the_first_answer_belongs_to_the_tcp_flow() {
    for (flow, expected) in [(tcp(ALLOWED), 90), (udp(ALLOWED), 0)] {
        let mut story = Story::of(ENFORCED);
        story.state.early_bytes = 90;
        story.state.early_packets = 1;
        story.send(&flow);
        story.release();
        assert_eq!(story.tape.take().last().map(|t| t.rx_bytes), Some(expected));
        assert_eq!((story.state.early_bytes, story.state.early_packets), (0, 0));
    }
}

#[test]
fn the_end_of_a_flow_that_was_allowed_passes_and_nothing_of_one_that_never_was() {
    let mut story = Story::of(ENFORCED);
    let (open, shut) = (tcp(ALLOWED), tcp(BLOCKED));
    story.send(&open);
    story.next_generation();
    story.world.policy.rules[1] = 0;
    assert!(story.send(&open).blocked());
    assert!(story.send(&shut).blocked());
    let passes = |flow, last, payload| is_goodbye(&story.state, position(flow), last, payload);
    assert!(passes(&open, true, false));
    assert!(!passes(&open, true, true), "with payload");
    assert!(!passes(&open, false, false), "an acknowledgement");
    if position(&open) != position(&shut) {
        assert!(!passes(&shut, true, false), "never allowed");
    }
    let mut scan = Story::of(ENFORCED);
    assert!(scan.send(&shut).blocked());
    assert!(!is_goodbye(&scan.state, position(&shut), true, false), "never allowed");
}

#[test]
fn a_scratch_remembers_nothing_but_its_budget() {
    let mut story = Story::of(ENFORCED);
    let mut told = 0;
    for _ in 0..3 * FLOW_EVENTS_PER_WINDOW {
        clear(&mut story.state);
        assert_eq!(story.state.flags, sock_flags::SCRATCH);
        assert!(!story.send(&tcp(ALLOWED)).blocked());
        told += story.tape.take().len() as u64;
    }
    assert_eq!((told, story.state.folded), (FLOW_EVENTS_PER_WINDOW, 2 * FLOW_EVENTS_PER_WINDOW));
    for _ in 0..3 {
        clear(&mut story.state);
        assert!(story.send(&tcp(BLOCKED)).blocked());
        assert_eq!(story.tape.phases(), [(Phase::Open, BLOCKED)], "each violation, up to the workload's cap");
    }
}
