//! The parts of an image other than rows and port classes. Each function writes its part whole: what is not used
//! is zero, whatever the memory held before.

use agent_common::image::{
    Fence, FenceSet, Head, KindVerdicts, PlaceKind, Policy, WORKLOAD_PRESENT, Window, fence_flags,
    head_flags, kind_verdict, place_flags, set_flags,
};
use agent_common::limits::{FENCES_PER_SET, MAX_RULES, PORT_CLASSES};
use agent_common::verdict::{Reason, Verdict};

use super::plan::{Plan, Planned};
use super::port_classes::PortClasses;
use super::{Clock, Settings};
use crate::places::PlaceTable;
use crate::policy::manifest::RuleKind;
use crate::policy::schema::{Inbound, Mode};
use crate::policy::set::PolicySet;

const NO_SET: FenceSet = FenceSet { len: 0, flags: 0, fences: [0; FENCES_PER_SET] };

const NO_FENCE: Fence = Fence {
    row: 0,
    flags: 0,
    ported: 0,
    exceptions: 0,
    blocks: 0,
    allows: 0,
    kinds: [0; 16],
    dns: 0,
    exception_count: 0,
    protocols: 0,
    _pad: 0,
    ports: [0; PORT_CLASSES],
    windows: [Window { from: 0, until: 0 }; MAX_RULES],
};

pub(super) fn head(out: &mut Policy, settings: &Settings) {
    out.head = Head {
        generation: settings.generation,
        index_slot: settings.index_slot,
        min_level: settings.min_level,
        max_level: settings.max_level,
        errno: settings.errno,
        flags: if settings.flows { head_flags::FLOWS } else { 0 }
            | if settings.watched.is_empty() { 0 } else { head_flags::WATCHING },
        events_per_second: settings.events_per_second,
        _pad: 0,
    };
}

pub(super) fn places(out: &mut Policy, table: &PlaceTable) {
    out.places.fill(0);
    for (bits, place) in out.places.iter_mut().zip(&table.places) {
        *bits = place.kind as u16 | if place.resolver { place_flags::RESOLVER } else { 0 };
    }
}

pub(super) fn workloads(out: &mut Policy, plan: &Plan) {
    out.workloads.fill(0);
    for workload in &plan.workloads {
        out.workloads[workload.id as usize] = WORKLOAD_PRESENT | workload.set;
    }
}

pub(super) fn sets(out: &mut Policy, set: &PolicySet, plan: &Plan) {
    out.sets.fill(NO_SET);
    for (out, members) in out.sets.iter_mut().zip(&plan.sets) {
        let enforces =
            members.iter().any(|&at| plan.fences[usize::from(at)].fence(set).mode == Mode::Enforce);
        out.len =
            u32::try_from(members.len()).expect("invariant: at most FENCES_PER_SET, checked by the plan");
        out.flags = if enforces { set_flags::ENFORCES } else { 0 };
        out.fences[..members.len()].copy_from_slice(members);
    }
}

pub(super) fn fences(
    out: &mut Policy,
    set: &PolicySet,
    plan: &Plan,
    places: usize,
    classes: &PortClasses<'_>,
    clock: Clock,
) {
    out.fences.fill(NO_FENCE);
    for (at, (out, planned)) in out.fences.iter_mut().zip(&plan.fences).enumerate() {
        out.row = u32::try_from(at * places).expect("invariant: at most RULE_CELLS, checked by compile");
        fence(out, set, planned, classes, clock);
    }
}

fn fence(out: &mut Fence, set: &PolicySet, planned: &Planned, classes: &PortClasses<'_>, clock: Clock) {
    let fence = planned.fence(set);
    if fence.mode == Mode::Enforce {
        out.flags |= fence_flags::ENFORCE;
    }
    if fence.inbound == Inbound::Allow {
        out.flags |= fence_flags::INBOUND_ALLOW;
    }
    out.dns = u32::from(kind_verdict(fence.dns, Reason::Dns));
    out.kinds = kinds(fence);
    out.protocols = fence.protocols.iter().fold(0, |bits, class| bits | class.bit());
    for (bit, planned) in planned.rules(set).iter().enumerate() {
        let mask = 1u64 << bit;
        match planned.kind {
            RuleKind::Exception => out.exceptions |= mask,
            RuleKind::Block => out.blocks |= mask,
            RuleKind::Allow => out.allows |= mask,
        }
        if let Some(exception) = planned.exception {
            out.exception_count += 1;
            out.windows[bit] = Window {
                from: exception.not_before.map_or(0, |moment| clock.boot_ns(moment)),
                until: clock.boot_ns(exception.expires_at),
            };
        }
        if planned.rule.ports.is_empty() {
            continue;
        }
        out.ported |= mask;
        for &class in classes.of(&planned.rule.ports) {
            out.ports[usize::from(class)] |= mask;
        }
        // Port unknown: what can't be seen is never allowed by a guess, and never let out of a block.
        if planned.kind == RuleKind::Block {
            out.ports[0] |= mask;
        }
    }
}

/// What a fence says of each kind of place where no rule matches.
fn kinds(fence: &crate::policy::set::Fence) -> KindVerdicts {
    // Numbers that no kind has can't be met; if they were, they would be blocked as what is not known.
    let mut kinds = [kind_verdict(Verdict::Block, Reason::Unknown); 16];
    for kind in PlaceKind::ALL {
        kinds[kind as usize] = match kind {
            PlaceKind::Loopback => kind_verdict(Verdict::Allow, Reason::Loopback),
            PlaceKind::Cluster => kind_verdict(fence.internal.cluster, Reason::Internal),
            PlaceKind::Private => kind_verdict(fence.internal.private, Reason::Internal),
            PlaceKind::LinkLocal => kind_verdict(fence.internal.link_local, Reason::Internal),
            PlaceKind::Metadata => kind_verdict(Verdict::Block, Reason::Metadata),
            PlaceKind::Unknown | PlaceKind::Anycast | PlaceKind::Multicast | PlaceKind::Reserved => {
                kind_verdict(fence.unknown, Reason::Unknown)
            }
            PlaceKind::Country => kind_verdict(fence.default, Reason::Default),
        };
    }
    kinds
}
