//! Packets that name their own route, and sockets that no socket call touches.

use std::net::{IpAddr, SocketAddr};

use agent_tests::actor::{Actor, Call, Family, Kind, Profile, Uring};
use agent_tests::sockaddr;
use anyhow::{Result, ensure};

use super::fate::{Fate, Finding};
use super::stage::{AT_CONNECT, Stage, Told, all};
use super::{Row, rows_of};
use crate::flows::PORT;

const AS_ROUTED: Told<'_> = Told { reason: "Routed", hooks: &["Egress"] };

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("ipv6-routing-header", ipv6_routing_header),
            ("ipv4-source-route", ipv4_source_route),
            ("io-uring", io_uring),
        ],
    )
}

/// `struct ipv6_sr_hdr` (`linux/seg6.h`, RFC 8754 section 2) with two segments, one left. The kernel writes the last
/// segment itself, from the address of the call, and sends the packet to `hop` (`ipv6_push_rthdr4`).
fn segment_routing_header(hop: [u8; 16]) -> Vec<u8> {
    const LENGTH: u8 = 4; // in units of 8 bytes, the first not counted
    const SEGMENT_ROUTING: u8 = 4;
    let mut header = vec![0, LENGTH, SEGMENT_ROUTING, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(hop);
    header
}

/// Loose source route (RFC 791 section 3.1) over one hop, padded to four bytes. The kernel sends the packet to the hop
/// and writes the call's address at the end of the route.
fn loose_source_route(hop: [u8; 4]) -> Vec<u8> {
    const LSRR: u8 = 131;
    let mut option = vec![LSRR, 7, 4];
    option.extend(hop);
    option.push(0);
    option
}

/// Sends a datagram to `home`, which the fence allows, by way of `hop`.
fn send_by_way_of(actor: &mut Actor, hop: SocketAddr, home: SocketAddr) -> Result<()> {
    let (family, level, option, value) = match hop.ip() {
        IpAddr::V4(ip) => (Family::V4, libc::IPPROTO_IP, libc::IP_OPTIONS, loose_source_route(ip.octets())),
        IpAddr::V6(ip) => {
            (Family::V6, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, segment_routing_header(ip.octets()))
        }
    };
    ensure!(actor.open("s", family, Kind::Udp)?.is_done(), "no socket");
    let set = actor.call(Call::Option { name: "s".into(), level, option, value })?;
    ensure!(set.is_done(), "the route was refused: {:?}", set.outcome);
    actor.send_to("s", home, 32).map(drop)
}

/// The first segment of the allowed arm is an allowed place too: routes are refused, wherever they lead.
fn ipv6_routing_header(stage: &mut Stage) -> Result<Finding> {
    let home = SocketAddr::new(stage.remotes(Family::V6)?.allowed, PORT);
    let way = |actor: &mut Actor, hop| send_by_way_of(actor, hop, home);
    all([stage.judge_way("ipv6-routing-header", Family::V6, &AS_ROUTED, way)?])
}

fn ipv4_source_route(stage: &mut Stage) -> Result<Finding> {
    let home = SocketAddr::new(stage.remotes(Family::V4)?.allowed, PORT);
    let remotes = stage.remotes(Family::V4)?;
    let arms = stage.try_way("ipv4-source-route", Profile::NetRaw, remotes, |actor, hop| {
        send_by_way_of(actor, hop, home)
    })?;
    let fate = arms.fate()?;
    if fate != Fate::OutOfScope {
        stage.told(remotes.forbidden, &AS_ROUTED)?;
    }
    Ok(Finding::Fate(fate))
}

fn io_uring(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for way in [Uring::Inline, Uring::Worker, Uring::Polled] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let what = format!("io-uring, {way:?}, type {kind}");
            fates.push(stage.judge_way(&what, Family::V4, &AT_CONNECT, |actor, to| {
                actor.call(Call::Uring { kind, to: sockaddr::inet(to), way, bytes: 32 }).map(drop)
            })?);
        }
    }
    all(fates)
}
