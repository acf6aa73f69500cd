//! A remembered verdict is used only for exactly what it was given for.

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{ALLOWED, Address, At, BLOCKED, ENFORCED, START, Story, position, tcp};
use crate::flow::{Direction, Flow, protocol};
use crate::sock::{SLOTS, Who, recall};

/// What the slots remember for a question.
fn remembered(story: &mut Story, who: &Who, flow: &Flow) -> bool {
    let mut state = story.state;
    let view = At { world: &story.world, now: story.now };
    recall(&view, &story.tape, &mut state, who, flow, story.now).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// All slots hold the same bytes, so that a hit does not depend on where the changed question looks.
    #[test]
    fn no_other_question_gets_the_answer(
        remote in any::<(u64, u64)>(), port in any::<u16>(), next in 1u8.., bit in 0u32..64, what in 0usize..9,
    ) {
        let mut story = Story::of(ENFORCED);
        let flow = Flow { port, ..tcp(Address { hi: remote.0, lo: remote.1 }) };
        story.send(&flow);
        let slot = story.state.slots[position(&flow)];
        story.state.slots = [slot; SLOTS];
        let who = story.who;
        prop_assert!(remembered(&mut story, &who, &flow), "the very question");

        let (mut other, mut whose) = (flow, who);
        match what {
            0 => other.remote.hi ^= 1 << bit,
            1 => other.remote.lo ^= 1 << bit,
            2 => other.port ^= 1 << (bit & 15),
            3 => other.protocol = protocol::TCP.wrapping_add(next),
            4 => other.direction = Direction::Inbound,
            5 => other.flags ^= 1 << (bit % 3),
            6 => whose.workload ^= 1 << (bit & 31),
            7 => whose.stamp ^= 1 << bit,
            _ => whose.stamp = whose.stamp.wrapping_add(1 << 32),
        }
        prop_assert!(!remembered(&mut story, &whose, &other), "{other:?} {whose:?} got the answer of {flow:?} {who:?}");
    }

    /// A slot that another CPU is halfway through writing.
    #[test]
    fn no_torn_slot_is_believed(bit in 0u32..64, field in 0usize..3) {
        let mut story = Story::of(ENFORCED);
        story.send(&tcp(BLOCKED));
        let slot = &mut story.state.slots[position(&tcp(BLOCKED))];
        let whole = *slot;
        match field {
            0 => slot.decision ^= 1 << bit,
            1 => slot.until ^= 1 << bit,
            _ => slot.tag ^= 1 << bit,
        }
        let who = story.who;
        prop_assert!(!remembered(&mut story, &who, &tcp(BLOCKED)));
        // The packet is judged again, and the slot is whole again.
        prop_assert!(story.send(&tcp(BLOCKED)).blocked());
        let slot = &story.state.slots[position(&tcp(BLOCKED))];
        prop_assert_eq!((slot.decision, slot.until, slot.tag), (whole.decision, whole.until, whole.tag));
    }
}

/// The verdict of one remote with the remote of another: what two CPUs leave that write one slot.
#[test]
fn a_verdict_is_not_believed_for_another_remote() {
    let mut story = Story::of(ENFORCED);
    story.send(&tcp(ALLOWED));
    let slot = story.state.slots[position(&tcp(ALLOWED))];
    story.state.slots = [slot; SLOTS];
    for slot in &mut story.state.slots {
        slot.remote = BLOCKED;
    }
    assert!(story.send(&tcp(BLOCKED)).blocked());
}

#[test]
fn a_verdict_is_not_remembered_beyond_its_time() {
    let mut story = Story::of(ENFORCED);
    story.world.except(START, START + 10);
    assert!(!story.send(&tcp(BLOCKED)).blocked());
    let who = story.who;
    story.now = START + 9;
    assert!(remembered(&mut story, &who, &tcp(BLOCKED)));
    story.now = START + 10;
    assert!(!remembered(&mut story, &who, &tcp(BLOCKED)));
}

#[test]
fn an_empty_slot_remembers_nothing() {
    let mut story = Story::of(ENFORCED);
    let nobody = Who { stamp: 0, workload: 0, set: 0 };
    let nothing = Flow { port: 0, protocol: 0, ..tcp(Address { hi: 0, lo: 0 }) };
    assert!(!remembered(&mut story, &nobody, &nothing));
}
