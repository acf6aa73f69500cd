//! Each form, and each way to miss it by one byte.

extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::{any, prop, prop_assert, proptest};

use super::{Life, classify, is_near, may_be};
use crate::address::Address;
use crate::bytes::Slice;
use crate::flow::flags::ROUTED;
use crate::flow::protocol::{ICMP, ICMPV6, IGMP, TCP, UDP};
use crate::image::PlaceKind;
use crate::parse::ip::parse;

const ALERT: [u8; 4] = [148, 4, 0, 0];

fn v4(ttl: u8, protocol: u8, options: &[u8], upper: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 20];
    p[0] = 0x45 + (options.len() / 4) as u8;
    (p[8], p[9]) = (ttl, protocol);
    p[12..20].copy_from_slice(&[10, 0, 0, 1, 224, 0, 0, 22]);
    p.extend_from_slice(options);
    p.extend_from_slice(upper);
    p
}

fn v6(hops: u8, next: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut p = vec![0; 40];
    (p[0], p[6], p[7]) = (0x60, next, hops);
    (p[24], p[25], p[39]) = (0xff, 2, 22);
    p.extend(rest.concat());
    p
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 4]].concat()
}

fn life(p: &[u8]) -> Option<Life> {
    let packet = parse(&Slice(p)).expect("a readable packet");
    may_be(&packet).then(|| classify(&Slice(p), &packet)).flatten()
}

#[test]
fn igmp_needs_one_hop_and_router_alert_alone() {
    let membership = Some(Life::Membership);
    let good = v4(1, IGMP, &ALERT, &[0x22; 8]);
    assert_eq!(life(&good), membership);
    assert_ne!(parse(&Slice(&good)).unwrap().flags & ROUTED, 0, "to the fences it stays routed");
    assert_eq!(life(&v4(2, IGMP, &ALERT, &[0x22; 8])), None, "two hops");
    assert_eq!(life(&v4(1, IGMP, &[], &[0x22; 8])), None, "no router alert");
    assert_eq!(life(&v4(1, IGMP, &[148, 4, 0, 1], &[0x22; 8])), None, "another router alert");
    // Loose source route, then padding; alone and behind the router alert.
    let route = [131, 7, 4, 13, 110, 54, 10, 0];
    assert_eq!(life(&v4(1, IGMP, &route, &[0x22; 8])), None);
    assert_eq!(life(&v4(1, IGMP, &[&ALERT[..], &route].concat(), &[0x22; 8])), None);
    assert_eq!(life(&v4(1, ICMP, &ALERT, &[8; 8])), None, "another protocol");
    for fragment in [0x20, 0x01] {
        let mut p = good.clone();
        p[6] = fragment;
        assert_eq!(life(&p), None, "in pieces");
    }
}

#[test]
fn mld_needs_one_hop_and_a_hop_by_hop_router_alert_alone() {
    let alert = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    for kind in 0..=255u8 {
        let expected = matches!(kind, 130..=132 | 143).then_some(Life::Membership);
        assert_eq!(life(&v6(1, 0, &[&alert, &[kind; 8]])), expected, "{kind}");
        assert_eq!(life(&v6(2, 0, &[&alert, &[kind; 8]])), None, "{kind}: two hops");
    }
    let report = [143; 8];
    assert_eq!(life(&v6(1, ICMPV6, &[&report])), None, "no router alert");
    let other = [ICMPV6, 0, 5, 2, 0, 1, 1, 0];
    assert_eq!(life(&v6(1, 0, &[&other, &report])), None, "router alert of RSVP");
    let home = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    assert_eq!(life(&v6(1, 60, &[&home, &report])), None, "in a destination options header");
    let twice = [0, 0, 5, 2, 0, 0, 1, 0];
    assert_eq!(life(&v6(1, 0, &[&twice, &alert, &report])), None, "two headers");
    let routing = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    assert_eq!(life(&v6(1, 43, &[&routing, &report])), None, "a routing header");
}

#[test]
fn neighbour_discovery_needs_hop_limit_255_and_no_extension_header() {
    for kind in 0..=255u8 {
        let expected = match kind {
            1..=4 => Some(Life::Error),
            133..=137 => Some(Life::Neighbour),
            _ => None,
        };
        assert_eq!(life(&v6(255, ICMPV6, &[&[kind; 24]])), expected, "{kind}");
    }
    assert_eq!(life(&v6(254, ICMPV6, &[&[135; 24]])), None, "it crossed a router");
    assert_eq!(life(&v6(255, 60, &[&[ICMPV6, 0, 1, 4, 0, 0, 0, 0], &[135; 24]])), None);
    assert_eq!(life(&v6(255, 44, &[&[ICMPV6, 0, 0, 1, 0, 0, 0, 7], &[135; 24]])), None, "in pieces");
}

#[test]
fn dhcp_is_from_the_clients_port_to_the_servers() {
    let dhcp = Some(Life::Dhcp);
    assert_eq!(life(&v4(64, UDP, &[], &ports(68, 67))), dhcp);
    assert_eq!(life(&v6(64, UDP, &[&ports(546, 547)])), dhcp);
    for (from, to) in [(67, 68), (67, 67), (1068, 67), (546, 547), (68, 547), (68, 53)] {
        assert_eq!(life(&v4(64, UDP, &[], &ports(from, to))), None, "{from} {to}");
    }
    for (from, to) in [(547, 546), (547, 547), (68, 67), (546, 67), (546, 53)] {
        assert_eq!(life(&v6(64, UDP, &[&ports(from, to)])), None, "{from} {to}");
    }
    assert_eq!(life(&v4(64, TCP, &[], &[&ports(68, 67)[..], &[0; 12]].concat())), None);
    assert_eq!(life(&v4(64, UDP, &ALERT, &ports(68, 67))), None, "with options");
    let mut first = v4(64, UDP, &[], &ports(68, 67));
    first[6] = 0x20;
    assert_eq!(life(&first), None, "the first of several fragments");
}

#[test]
fn icmp_errors_are_told_from_the_rest_of_icmp() {
    for kind in 0..=255u8 {
        let expected = matches!(kind, 3 | 11 | 12).then_some(Life::Error);
        assert_eq!(life(&v4(64, ICMP, &[], &[kind; 8])), expected, "{kind}");
    }
    assert_eq!(life(&v4(64, ICMP, &ALERT, &[3; 8])), None, "with options");
}

#[test]
fn near_is_on_the_link_in_the_cluster_or_private() {
    let at = |text: &str, kind: PlaceKind, number| {
        is_near(Address::from(text.parse::<core::net::IpAddr>().unwrap()), kind as u8, number)
    };
    for kind in PlaceKind::ALL {
        let inside = matches!(kind, PlaceKind::LinkLocal | PlaceKind::Cluster | PlaceKind::Private);
        for to in
            ["13.110.54.10", "2601::1", "224.0.1.1", "ff05::2", "ff0e::1", "239.1.1.1", "255.255.255.254"]
        {
            assert_eq!(at(to, kind, ICMPV6), inside, "{to} {kind:?}");
        }
    }
    for to in ["64:ff9b::10.0.0.1", "2002:a00:1::1", "2001:0:a00:1::f5ff:fffe"] {
        assert!(!at(to, PlaceKind::Private, ICMPV6), "{to}: a translator or a tunnel is on the way");
    }
    for to in ["224.0.0.22", "224.0.0.1", "ff02::16", "ff02::1:ff00:1"] {
        assert!(at(to, PlaceKind::Multicast, IGMP), "{to}");
    }
    assert!(at("255.255.255.255", PlaceKind::Reserved, UDP));
    assert!(!at("255.255.255.255", PlaceKind::Reserved, IGMP), "broadcast is for DHCP");
}

proptest! {
    /// Whatever is accepted has the hop limit that keeps it on the link, or is DHCP, or an error.
    #[test]
    fn nothing_is_accepted_with_another_hop_limit(
        bytes in prop::collection::vec(any::<u8>(), 20..100), six in any::<bool>(), next in any::<u8>()
    ) {
        let mut bytes = bytes;
        bytes[0] = if six { 0x60 } else { 0x45 | bytes[0] & 1 };
        if six { bytes[6] = if next & 1 == 0 { 0 } else { ICMPV6 } }
        let Some(packet) = parse(&Slice(&bytes)) else { return Ok(()) };
        let hops = if six { bytes[7] } else { bytes[8] };
        match classify(&Slice(&bytes), &packet) {
            Some(Life::Neighbour) => prop_assert!(hops == 255),
            Some(Life::Membership) => prop_assert!(hops == 1),
            Some(Life::Dhcp) => prop_assert!(packet.protocol == UDP),
            Some(Life::Error) | None => {}
        }
    }
}
