//! Policies at random, written straight into the image: every corner that the kernel can meet, also those that no
//! document compiles to.

use agent_common::flow::protocol;
use agent_common::image::{
    Fence, PlaceKind, Policy, Window, fence_flags, kind_verdict, place_flags, set_flags,
};
use agent_common::limits::{FENCES_PER_SET, MAX_RULES};
use agent_common::verdict::{Reason, Verdict};

use super::draw::Draw;

/// Places that are used; a row of rules has one cell for each.
pub(super) const PLACES: usize = 48;
/// Fences that are used.
const FENCES: usize = 40;
/// Sets that are used; set 0 is empty, the last is full.
pub(super) const SETS: usize = 18;
/// Ports that rules tell apart.
pub(super) const PORTS: [u16; 8] = [0, 22, 53, 80, 443, 8443, 40000, 65535];

/// Fills `policy`; exceptions begin and end at some of the `moments`, which are many times less than exceptions.
pub(super) fn fill(policy: &mut Policy, draw: &mut Draw, moments: &[u64]) {
    policy.head.generation = draw.u32() | 1;
    for (id, place) in policy.places.iter_mut().enumerate().take(PLACES) {
        // Each kind at least once.
        let kind = PlaceKind::ALL.get(id).copied().unwrap_or(draw.of(&PlaceKind::ALL));
        *place = kind as u16 | if draw.one_in(4) { place_flags::RESOLVER } else { 0 };
    }
    for fence in 0..FENCES {
        write_fence(&mut policy.fences[fence], fence, draw, moments);
        for cell in &mut policy.rules[fence * PLACES..][..PLACES] {
            *cell = if draw.one_in(3) { 0 } else { draw.sparse(3) };
        }
    }
    for classes in &mut policy.port_classes {
        classes.fill(1);
        for port in PORTS {
            classes[usize::from(port)] = draw.below(9) as u8;
        }
    }
    for set in 1..SETS {
        let len = if set == SETS - 1 { FENCES_PER_SET } else { set % FENCES_PER_SET };
        let fences: Vec<usize> = (0..len).map(|turn| set + turn).collect();
        let enforces = fences.iter().any(|at| policy.fences[*at].flags & fence_flags::ENFORCE != 0);
        let set = &mut policy.sets[set];
        for (slot, fence) in set.fences.iter_mut().zip(&fences) {
            *slot = *fence as u16;
        }
        set.len = len as u32;
        set.flags = if enforces { set_flags::ENFORCES } else { 0 };
    }
}

fn write_fence(fence: &mut Fence, number: usize, draw: &mut Draw, moments: &[u64]) {
    fence.row = (number * PLACES) as u32;
    fence.flags = draw.of(&[
        0,
        fence_flags::ENFORCE,
        fence_flags::INBOUND_ALLOW,
        fence_flags::ENFORCE | fence_flags::INBOUND_ALLOW,
    ]);
    // As the compiler lays them out: exceptions, then blocks, then allows.
    let exceptions = draw.of(&[0, 1, 5, MAX_RULES as u32]);
    let blocks = draw.below(u64::from(MAX_RULES as u32 - exceptions) + 1) as u32;
    let low = |bits: u32| if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    fence.exception_count = exceptions;
    fence.exceptions = low(exceptions);
    fence.blocks = low(exceptions + blocks) & !low(exceptions);
    fence.allows = !low(exceptions + blocks);
    fence.ported = draw.sparse(1);
    fence.protocols = draw.u32();
    for verdict in &mut fence.kinds {
        let reason = draw.of(&[Reason::Metadata, Reason::Internal, Reason::Unknown, Reason::Default]);
        *verdict = kind_verdict(draw.of(&[Verdict::Allow, Verdict::Block]), reason);
    }
    fence.dns = kind_verdict(draw.of(&[Verdict::Allow, Verdict::Block]), Reason::Dns).into();
    for class in &mut fence.ports {
        *class = draw.sparse(1);
    }
    for window in &mut fence.windows {
        // Some end before they begin: they never hold.
        *window = Window { from: draw.of(moments), until: draw.of(moments) };
    }
}

/// Protocols with and without ports.
pub(super) const PROTOCOLS: [u8; 9] = [
    protocol::TCP,
    protocol::TCP,
    protocol::UDP,
    protocol::UDP,
    protocol::UDPLITE,
    protocol::ICMP,
    protocol::ICMPV6,
    protocol::SCTP,
    99,
];
