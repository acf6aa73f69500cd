//! `decide` itself, over images made by hand: what the compiler never makes, and the edges of time.

use std::net::IpAddr;

use agent::policy::host_view::HostView;
use agent_common::address::Address;
use agent_common::flow::protocol::{GRE, ICMP, IGMP, TCP, UDP};
use agent_common::flow::{Direction, Flow, flags};
use agent_common::image::{PlaceKind, Policy, Window, fence_flags, kind_verdict, place_flags, set_flags};
use agent_common::place_index::PlaceIndex;
use agent_common::protocols::Class;
use agent_common::sock::Cached;
use agent_common::verdict::{NONE, Reason, Verdict, decide, outcomes};

/// Two places: 20.0.0.0/8 is a country, 10.0.0.0/8 is private with a resolver; 127.0.0.0/8 is loopback, the rest
/// unknown.
fn index() -> Box<PlaceIndex> {
    let mut index = PlaceIndex::boxed();
    let v4 =
        [(0, 0), (10 << 24, 2), (11 << 24, 0), (20 << 24, 1), (21 << 24, 0), (127 << 24, 3), (128 << 24, 0)];
    index.build(&v4, &[(0, 0)]).expect("few ranges fit");
    index
}

/// One enforcing fence in set 1 that says Block for everything but private places.
fn policy() -> Box<Policy> {
    let mut policy = Policy::boxed();
    policy.places[..4].copy_from_slice(&[
        PlaceKind::Unknown as u16,
        PlaceKind::Country as u16,
        PlaceKind::Private as u16 | place_flags::RESOLVER,
        PlaceKind::Loopback as u16,
    ]);
    policy.sets[1].len = 1;
    let fence = &mut policy.fences[0];
    fence.flags = fence_flags::ENFORCE;
    fence.kinds[PlaceKind::Unknown as usize] = kind_verdict(Verdict::Block, Reason::Unknown);
    fence.kinds[PlaceKind::Country as usize] = kind_verdict(Verdict::Block, Reason::Default);
    fence.kinds[PlaceKind::Private as usize] = kind_verdict(Verdict::Allow, Reason::Internal);
    fence.dns = u32::from(kind_verdict(Verdict::Block, Reason::Dns));
    policy
}

fn flow(to: &str, protocol: u8, port: u16) -> Flow {
    let remote = Address::from(to.parse::<IpAddr>().expect("an address"));
    Flow { remote, port, protocol, direction: Direction::Outbound, flags: 0 }
}

#[track_caller]
fn says(policy: &Policy, now: u64, flow: &Flow, verdict: Verdict, reason: Reason) -> u64 {
    let index = index();
    let view = HostView { policy, index: &index, now };
    let decision = decide(&view, 1, flow);
    assert_eq!((decision.enforced, decision.outcome.reason()), (verdict, reason as u8));
    decision.until
}

#[test]
fn a_set_without_fences_asks_nobody() {
    let (policy, index) = (policy(), index());
    let view = HostView { policy: &policy, index: &index, now: 0 };
    let decision = decide(&view, 0, &flow("20.0.0.1", TCP, 443));
    assert_eq!((decision.would_be, decision.outcome.reason()), (Verdict::Allow, Reason::NoFence as u8));
    assert_eq!((decision.outcome.fence(), decision.outcome.rule(), decision.until), (NONE, NONE, u64::MAX));
    outcomes(&view, 0, &flow("20.0.0.1", TCP, 443), |_| panic!("there is no fence"));
}

#[test]
fn a_window_is_open_from_its_first_nanosecond_to_the_one_before_its_end() {
    let mut policy = policy();
    policy.rules[1] = 1;
    let fence = &mut policy.fences[0];
    (fence.exceptions, fence.exception_count) = (1, 1);
    fence.windows[0] = Window { from: 100, until: 200 };
    let to = flow("20.0.0.1", TCP, 443);
    assert_eq!(says(&policy, 99, &to, Verdict::Block, Reason::Default), 100);
    assert_eq!(says(&policy, 100, &to, Verdict::Allow, Reason::Exception), 200);
    assert_eq!(says(&policy, 199, &to, Verdict::Allow, Reason::Exception), 200);
    assert_eq!(says(&policy, 200, &to, Verdict::Block, Reason::Default), u64::MAX);
}

#[test]
fn an_exception_beats_a_block_and_a_block_beats_an_allow() {
    let mut policy = policy();
    policy.rules[1] = 0b110;
    let fence = &mut policy.fences[0];
    (fence.exceptions, fence.exception_count) = (1, 1);
    (fence.blocks, fence.allows) = (0b010, 0b100);
    fence.windows[0] = Window { from: 0, until: u64::MAX };
    let to = flow("20.0.0.1", TCP, 443);
    says(&policy, 5, &to, Verdict::Block, Reason::BlockRule);
    policy.rules[1] = 0b111;
    says(&policy, 5, &to, Verdict::Allow, Reason::Exception);
    policy.rules[1] = 0b100;
    says(&policy, 5, &to, Verdict::Allow, Reason::AllowRule);
}

#[test]
fn dns_is_port_53_of_a_resolver_and_nothing_else() {
    let policy = policy();
    says(&policy, 0, &flow("10.0.0.1", UDP, 53), Verdict::Block, Reason::Dns);
    says(&policy, 0, &flow("10.0.0.1", TCP, 53), Verdict::Block, Reason::Dns);
    says(&policy, 0, &flow("10.0.0.1", UDP, 54), Verdict::Allow, Reason::Internal);
    says(&policy, 0, &flow("20.0.0.1", UDP, 53), Verdict::Block, Reason::Default);
    let hidden = Flow { flags: flags::NO_PORT, ..flow("10.0.0.1", UDP, 53) };
    says(&policy, 0, &hidden, Verdict::Allow, Reason::Internal);
}

#[test]
fn a_packet_that_routes_itself_is_blocked_wherever_it_says_it_goes() {
    let mut policy = policy();
    let routed = Flow { flags: flags::ROUTED, ..flow("10.0.0.1", TCP, 443) };
    says(&policy, 0, &routed, Verdict::Block, Reason::Routed);
    policy.fences[0].flags |= fence_flags::INBOUND_ALLOW;
    let inbound = Flow { direction: Direction::Inbound, ..routed };
    says(&policy, 0, &inbound, Verdict::Allow, Reason::Inbound);
}

#[test]
fn a_protocol_that_is_not_opened_is_blocked_before_any_exception_and_one_that_is_goes_by_its_place() {
    let mut policy = policy();
    policy.rules[1] = 0b11;
    let fence = &mut policy.fences[0];
    (fence.exceptions, fence.exception_count, fence.allows) = (1, 1, 2);
    fence.windows[0] = Window { from: 0, until: u64::MAX };
    let to = |protocol| Flow { flags: flags::NO_PORT, ..flow("20.0.0.1", protocol, 0) };
    for protocol in (0..=255).filter(|p| ![TCP, UDP].contains(p)) {
        says(&policy, 5, &to(protocol), Verdict::Block, Reason::Protocol);
        policy.fences[0].protocols = Class::of_number(protocol).expect("neither TCP nor UDP").bit();
        says(&policy, 5, &to(protocol), Verdict::Allow, Reason::Exception);
        policy.fences[0].protocols = !policy.fences[0].protocols;
        says(&policy, 5, &to(protocol), Verdict::Block, Reason::Protocol);
        policy.fences[0].protocols = 0;
    }
    says(&policy, 5, &to(TCP), Verdict::Allow, Reason::Exception);
    says(&policy, 5, &flow("127.0.0.1", GRE, 0), Verdict::Allow, Reason::Loopback);
}

#[test]
fn a_socket_is_judged_by_its_protocol_alone_and_a_raw_one_needs_raw() {
    let mut policy = policy();
    // As the kernel writes it where there is no remote: 0.0.0.0 is LOOPBACK, and must not help.
    let socket =
        |protocol, raw| Flow { flags: flags::SOCKET | flags::NO_PORT | raw, ..flow("0.0.0.0", protocol, 0) };
    says(&policy, 0, &socket(ICMP, 0), Verdict::Block, Reason::Protocol);
    policy.fences[0].protocols = Class::Icmp.bit();
    says(&policy, 0, &socket(ICMP, 0), Verdict::Allow, Reason::Protocol);
    says(&policy, 0, &socket(ICMP, flags::RAW), Verdict::Block, Reason::Protocol);
    says(&policy, 0, &socket(TCP, flags::RAW), Verdict::Block, Reason::Protocol);
    policy.fences[0].protocols = Class::Raw.bit();
    says(&policy, 0, &socket(TCP, flags::RAW), Verdict::Allow, Reason::Protocol);
    says(&policy, 0, &socket(ICMP, 0), Verdict::Block, Reason::Protocol);
    policy.fences[0].flags = 0;
    let index = index();
    let decision = decide(&HostView { policy: &policy, index: &index, now: 0 }, 1, &socket(ICMP, 0));
    assert_eq!((decision.enforced, decision.would_be), (Verdict::Allow, Verdict::Block), "an Audit fence");
}

#[test]
fn what_a_stack_needs_passes_near_by_and_nowhere_else() {
    let mut policy = policy();
    policy.fences[0].blocks = 1;
    policy.rules[2] = 1;
    let life = |to, protocol| Flow { flags: flags::NO_PORT | flags::STACK, ..flow(to, protocol, 0) };
    says(&policy, 0, &life("10.0.0.1", ICMP), Verdict::Allow, Reason::Stack);
    says(&policy, 0, &life("224.0.0.22", IGMP), Verdict::Allow, Reason::Stack);
    let routed = Flow { flags: flags::NO_PORT | flags::STACK | flags::ROUTED, ..life("224.0.0.22", IGMP) };
    says(&policy, 0, &routed, Verdict::Allow, Reason::Stack);
    let far = Flow { flags: routed.flags, ..life("20.0.0.1", IGMP) };
    says(&policy, 0, &far, Verdict::Block, Reason::Routed);
    says(&policy, 0, &life("20.0.0.1", ICMP), Verdict::Block, Reason::Protocol);
    says(&policy, 0, &life("20.0.0.1", UDP), Verdict::Block, Reason::Default);
    // Near is the packet's own destination, not what a translator makes of it.
    says(&policy, 0, &life("64:ff9b::10.0.0.1", UDP), Verdict::Block, Reason::BlockRule);
    let formless = Flow { flags: flags::NO_PORT, ..life("10.0.0.1", ICMP) };
    says(&policy, 0, &formless, Verdict::Block, Reason::Protocol);
}

#[test]
fn the_canary_is_refused_to_everybody_and_its_neighbours_are_loopback() {
    let (policy, index) = (policy(), index());
    let view = HostView { policy: &policy, index: &index, now: 0 };
    for to in ["127.114.102.1", "::ffff:127.114.102.1"] {
        for set in [0, 1] {
            let decision = decide(&view, set, &flow(to, TCP, 443));
            let cached = Cached::new(&decision);
            assert!(cached.blocked() && !cached.violation(), "no violation: nobody is told");
            assert_eq!(cached.reason(), Reason::Loopback as u8, "loopback leaves no record");
        }
    }
    says(&policy, 0, &flow("127.114.102.2", TCP, 443), Verdict::Allow, Reason::Loopback);
}

#[test]
fn a_socket_without_a_fence_is_nobodys_business() {
    let (policy, index) = (policy(), index());
    let socket = Flow { flags: flags::SOCKET | flags::NO_PORT, ..flow("0.0.0.0", ICMP, 0) };
    let decision = decide(&HostView { policy: &policy, index: &index, now: 0 }, 0, &socket);
    assert_eq!((decision.would_be, decision.outcome.reason()), (Verdict::Allow, Reason::NoFence as u8));
    assert_eq!(decision.outcome.fence(), NONE);
}

#[test]
fn what_can_not_be_read_is_blocked_where_a_fence_enforces() {
    let mut policy = policy();
    let unreadable = Flow { flags: flags::UNREADABLE, ..flow("127.0.0.1", TCP, 443) };
    let index = index();
    let decision = |policy: &Policy, set| {
        let decision = decide(&HostView { policy, index: &index, now: 0 }, set, &unreadable);
        (decision.enforced, decision.would_be, decision.outcome.reason())
    };
    let fault = Reason::Fault as u8;
    assert_eq!(decision(&policy, 1), (Verdict::Allow, Verdict::Block, fault), "an Audit fence");
    policy.sets[1].flags = set_flags::ENFORCES;
    assert_eq!(decision(&policy, 1), (Verdict::Block, Verdict::Block, fault));
    assert_eq!(decision(&policy, 0), (Verdict::Allow, Verdict::Allow, fault), "no fence");
}

#[test]
fn an_audit_fence_says_block_and_enforces_nothing() {
    let mut policy = policy();
    policy.fences[0].flags = 0;
    let index = index();
    let view = HostView { policy: &policy, index: &index, now: 0 };
    let decision = decide(&view, 1, &flow("20.0.0.1", ICMP, 0));
    assert_eq!((decision.enforced, decision.would_be), (Verdict::Allow, Verdict::Block));
    assert!(!decision.outcome.enforces());
}

#[test]
fn teredo_is_blocked_if_either_end_is() {
    let policy = policy();
    // Server 10.0.0.1, client 20.0.0.1 (inverted), and the other way round.
    for to in ["2001:0:a00:1::ebff:fffe", "2001:0:1400:1::f5ff:fffe"] {
        says(&policy, 0, &flow(to, TCP, 443), Verdict::Block, Reason::Default);
    }
    says(&policy, 0, &flow("2001:0:a00:1::f5ff:fffe", TCP, 443), Verdict::Allow, Reason::Internal);
}

#[test]
fn loopback_is_never_judged() {
    let mut policy = policy();
    policy.rules[3] = 1;
    policy.fences[0].blocks = 1;
    says(&policy, 0, &flow("127.0.0.1", TCP, 443), Verdict::Allow, Reason::Loopback);
}
