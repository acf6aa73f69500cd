//! Notes for the host layer: exchanges that egress let pass for a reason that their addresses do not show.

use agent_common::host::{Note, Tuple, Vouch, note};
use agent_common::parse::ip::parse;
use agent_common::verdict::Rules;
use aya_ebpf::bindings::__sk_buff;

use crate::ctx::{Frame, Skb};
use crate::judge::Ask;
use crate::maps::{Image, guarding, vouch_for, vouched};

/// With the workload id: the tuple without ports.
const PORTLESS: u64 = 1 << 32;

/// Egress: notes a packet that passes, if the host layer would not let it pass by itself.
#[inline(always)]
pub(crate) fn vouch(image: &Image, skb: &Skb, ask: &Ask) {
    let whom = match note(ask.verdict(), &ask.flow, skb.len(), skb.segments()) {
        Note::None => return,
        Note::Exact => u64::from(ask.who.workload),
        Note::Portless => u64::from(ask.who.workload) | PORTLESS,
    };
    if guarding() {
        remember(skb.raw(), image.zero(), whom, ask.now, image.policy().head.generation);
    }
}

/// Out of line, so that its stack is free again before anything else is done: the packet is read once more.
#[inline(never)]
fn remember(skb: *mut __sk_buff, zero: u64, whom: u64, now: u64, generation: u32) {
    let Some(p) = parse(&Skb::new(skb, zero)) else { return };
    let tuple = Tuple::of(&p, whom as u32, whom & PORTLESS != 0);
    if vouched(&tuple).is_some_and(|v| v.is_fresh(now, generation)) {
        return;
    }
    vouch_for(&tuple, &Vouch { at: now, generation: u64::from(generation) });
}

/// Host layer: whether egress noted this packet's exchange, or, for a piece of a datagram, the datagram's.
#[inline(never)]
pub(crate) fn is_vouched_for(
    skb: *mut __sk_buff,
    zero: u64,
    workload: u32,
    now: u64,
    generation: u32,
) -> bool {
    let Some(p) = parse(&Frame::new(skb, zero)) else { return false };
    let holds =
        |portless| vouched(&Tuple::of(&p, workload, portless)).is_some_and(|v| v.holds(now, generation));
    holds(false) || holds(true)
}
