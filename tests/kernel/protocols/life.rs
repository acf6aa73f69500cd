//! What a network stack needs to live: each form stays near. Written by hand through a raw socket that the fence opens,
//! because a workload's own stack sends most of it from sockets of the kernel's own, which no fence is asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_tests::actor::{Actor, Call, Outcome as Ended};
use agent_tests::craft::{Header, ROUTER_ALERT_V4, icmp, router_alert_v6};
use agent_tests::frame::UDP;
use agent_tests::netlink::Netlink;
use agent_tests::sockaddr;
use agent_tests::world::{NEAR, NEAR_LINK};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use super::{frames, policy, send, told};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
/// `IPV6_HDRINCL` (`linux/in6.h`, 4.5).
const IPV6_HDRINCL: i32 = 36;
const RAW_V4: &str = "raw v4";
const RAW_V6: &str = "raw v6";

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(Place::Anywhere, "protocols::what_a_stack_needs_passes_near_by_and_never_to_the_world", near)]
}

/// One need. A packet of the form to an address, with the hop limit that it must have or another.
struct Form {
    name: &'static str,
    near: IpAddr,
    hops: u8,
    packet: fn(IpAddr, u8) -> Vec<u8>,
    /// Why the fence blocks it when it goes into the world.
    reason: &'static str,
}

fn forms() -> [Form; 6] {
    let v6 = |last: [u16; 2]| IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, last[0], last[1]));
    [
        Form {
            name: "IGMP",
            reason: "Routed",
            near: Ipv4Addr::new(224, 0, 0, 22).into(),
            hops: 1,
            packet: |to, hops| {
                let header = Header::new(NEAR.0, to, IGMP).hops(hops).options(&ROUTER_ALERT_V4);
                header.packet(&icmp(0x22, 0, &[0; 4]))
            },
        },
        Form {
            name: "DHCP",
            reason: "Default",
            near: Ipv4Addr::new(10, 77, 0, 1).into(),
            hops: 64,
            packet: |to, hops| Header::new(NEAR.0, to, UDP).hops(hops).udp((68, 67), &[1; 240]),
        },
        Form {
            name: "MLD",
            reason: "Protocol",
            near: v6([0, 0x16]),
            hops: 1,
            packet: |to, hops| {
                let header = Header::new(NEAR.1, to, HOP_BY_HOP).hops(hops);
                header.packet(&[router_alert_v6(ICMPV6), header.icmpv6(143, 0, &[0; 4])].concat())
            },
        },
        Form {
            name: "neighbour solicitation",
            reason: "Protocol",
            near: v6([0, 0x77]),
            hops: 255,
            packet: |to, hops| {
                let header = Header::new(NEAR.1, to, ICMPV6).hops(hops);
                header.packet(&header.icmpv6(135, 0, &[0; 20]))
            },
        },
        Form {
            name: "router solicitation to a neighbour",
            reason: "Protocol",
            near: NEAR_NEIGHBOUR,
            hops: 255,
            packet: |to, hops| {
                let header = Header::new(NEAR.1, to, ICMPV6).hops(hops);
                header.packet(&header.icmpv6(133, 0, &[0; 4]))
            },
        },
        Form {
            name: "DHCPv6",
            reason: "Default",
            near: v6([1, 2]),
            hops: 64,
            packet: |to, hops| Header::new(NEAR.1, to, UDP).hops(hops).udp((546, 547), &[1; 40]),
        },
    ]
}

/// Far's own address on the link: PRIVATE.
const NEAR_NEIGHBOUR: IpAddr = agent_tests::world::FAR.1;

fn near() -> Result<Outcome> {
    let scene = Scene::new()?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    // `internal: Block`: a fence that lets nothing near pass either, so that only the form can.
    let closed = format!("{}\x20 internal: Block\n", policy(&scene, "Enforce", &["raw"]));
    let setup = scene.agent()?.policy(&closed)?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    raw_sockets(&mut crm)?;
    raw_sockets(&mut other)?;
    let interface = scene.near().run(|| Ok(Netlink::open()?.link(NEAR_LINK)?.index))?;
    for (number, form) in (0u8..).zip(forms()) {
        let name = form.name;
        let (unfenced, fenced) = worlds(number, form.near);
        let count = |actor: &mut Actor, to: IpAddr, hops: u8| -> Result<(u64, Ended)> {
            let mut ended = Ended::Done;
            let arrived = frames(&scene.sniffer, to, || {
                ended = send_raw(actor, to, &(form.packet)(to, hops), interface)?;
                Ok(())
            })?;
            Ok((arrived, ended))
        };
        let open = count(&mut other, unfenced, form.hops)?;
        ensure!(open.0 == 1, "{name}: unfenced, nothing arrives in the world: {open:?}");
        let passed = count(&mut crm, form.near, form.hops)?;
        ensure!(passed.0 >= 1, "{name}: near by, it does not pass: {passed:?}");
        let leaked = count(&mut crm, fenced, form.hops)?;
        ensure!(leaked.0 == 0 && leaked.1.is_error("EPERM"), "{name}: LEAK to the world: {leaked:?}");
        told(&watch, fenced, form.reason)?;
        if !name.starts_with("DHCP") {
            let wide = count(&mut crm, form.near, if form.hops == 1 { 2 } else { form.hops - 1 })?;
            ensure!(wide.0 == 0, "{name}: with another hop limit it passes: {wide:?}");
        }
    }
    let near_told = watch.events().iter().any(|event| event.is("reason", "Stack"));
    ensure!(!near_told, "what passes by its form leaves no record");
    Ok(Outcome::Passed)
}

/// Addresses in the United States that only this form is sent to: from outside the fence, from inside.
fn worlds(number: u8, near: IpAddr) -> (IpAddr, IpAddr) {
    if near.is_ipv4() {
        let v4 = |third| Ipv4Addr::new(13, 110, third, number).into();
        return (v4(81), v4(82));
    }
    let v6 = |part| Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, part, number.into()).into();
    (v6(0x81), v6(0x82))
}

/// Two sockets that write whole packets.
fn raw_sockets(actor: &mut Actor) -> Result<()> {
    let (kind, protocol) = (libc::SOCK_RAW, libc::IPPROTO_RAW);
    for (name, domain) in [(RAW_V4, libc::AF_INET), (RAW_V6, libc::AF_INET6)] {
        let answer = actor.call(Call::Socket { name: name.into(), domain, kind, protocol })?;
        ensure!(answer.is_done(), "{name}: {:?}", answer.outcome);
    }
    let value = 1i32.to_ne_bytes().to_vec();
    let whole = Call::Option { name: RAW_V6.into(), level: libc::IPPROTO_IPV6, option: IPV6_HDRINCL, value };
    ensure!(actor.call(whole)?.is_done(), "IPV6_HDRINCL");
    let value = 1i32.to_ne_bytes().to_vec();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_BROADCAST);
    ensure!(
        actor.call(Call::Option { name: RAW_V4.into(), level, option, value })?.is_done(),
        "SO_BROADCAST"
    );
    Ok(())
}

fn send_raw(actor: &mut Actor, to: IpAddr, packet: &[u8], interface: u32) -> Result<Ended> {
    match to {
        IpAddr::V4(_) => send(actor, RAW_V4, sockaddr::inet(SocketAddr::new(to, 0)), packet),
        IpAddr::V6(ip) => {
            let scope = if ip.is_multicast() { interface } else { 0 };
            send(actor, RAW_V6, sockaddr::scoped(ip, 0, scope), packet)
        }
    }
}
