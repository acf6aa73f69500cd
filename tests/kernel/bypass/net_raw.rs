//! Rows of CAP_NET_RAW, which container engines give by default: headers, packets and frames of one's own.

use std::net::IpAddr;

use agent_tests::actor::{Answer, Family, Profile, Raw};
use agent_tests::craft::{Header, extension, fragment_v6, segment_routing};
use agent_tests::frame::UDP;
use agent_tests::node::POD_LINK;
use anyhow::{Context, Result, ensure};

use super::fate::{Fate, Finding};
use super::pods::{Aim, Member, Pods};
use super::stage::{Stage, all};
use super::{Row, rows_of};

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("raw-socket", raw_socket),
            ("ip-hdrincl", ip_hdrincl),
            ("older-raw-socket", older_raw_socket),
            ("raw-fragments", raw_fragments),
            ("raw-routing-header", raw_routing_header),
            ("extension-chain", extension_chain),
            ("tunnel-protocols", tunnel_protocols),
            ("af-packet", af_packet),
            ("af-xdp", af_xdp),
        ],
    )
}

/// ICMP: what a raw socket is mostly used for.
const ICMP: u8 = 1;
/// `IPPROTO_RAW`: the sender writes the IP header.
const OWN_HEADER: u8 = 255;
/// How many packets or frames each arm sends.
const TIMES: usize = 3;

/// Opens a raw socket, sends, closes.
fn fresh(member: &Member, family: Family, protocol: u8, to: IpAddr, packet: Vec<u8>) -> Result<Answer> {
    let name = || "fresh".to_owned();
    let opened = member.act(Profile::NetRaw, Raw::Open { name: name(), family, protocol })?;
    if !opened.is_done() {
        return Ok(opened);
    }
    member.act(Profile::NetRaw, Raw::Send { name: name(), to, packets: vec![packet; TIMES] })
}

/// Sends over a raw socket that is older than the fence.
fn old(member: &Member, name: &str, to: IpAddr, packet: Vec<u8>) -> Result<Answer> {
    member.act(Profile::NetRaw, Raw::Send { name: name.into(), to, packets: vec![packet; TIMES] })
}

/// A new raw socket is refused when it is made: EPERM, one event that names the protocol, nothing on the wire.
fn refused_at_birth(
    pods: &Pods,
    aim: Aim,
    protocol: u8,
    act: impl Fn(&Member, IpAddr) -> Result<Answer>,
) -> Result<Finding> {
    let arms = pods.arms(&pods.hooked, aim, &act)?;
    cannot_open(pods, protocol)?;
    pods.hooked_event("the refused raw socket", |event| {
        event.is("hook", "SockCreate") && event.is("reason", "Protocol")
    })?;
    Ok(Finding::Fate(arms.fate()?))
}

/// The fenced workload cannot even make a raw socket of this protocol.
fn cannot_open(pods: &Pods, protocol: u8) -> Result<()> {
    let answer = pods
        .hooked
        .act(Profile::NetRaw, Raw::Open { name: "refused".into(), family: Family::V4, protocol })?;
    ensure!(answer.outcome.is_error("EPERM"), "a raw socket of protocol {protocol}: {:?}", answer.outcome);
    Ok(())
}

fn raw_socket(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    refused_at_birth(pods, Aim::v4(100), ICMP, |member, to| {
        // Echo request; the kernel writes the IP header.
        fresh(member, Family::V4, ICMP, to, agent_tests::craft::icmp(8, 0, &[0, 1, 0, 1]))
    })
}

/// The call names the allowed address, the header the forbidden one: the header counts.
fn ip_hdrincl(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    refused_at_birth(pods, Aim::v4(101), OWN_HEADER, |member, to| {
        let said = Aim::v4(101).allowed;
        fresh(member, Family::V4, OWN_HEADER, said, member.datagram(to))
    })
}

/// Egress judges the header of each packet, not the address that the call names.
fn older_raw_socket(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let aim = Aim::v4(102);
    let arms =
        pods.arms(&pods.hooked, aim, |member, to| old(member, "old-v4", aim.allowed, member.datagram(to)))?;
    pods.hooked_event("the datagram by hand", |event| {
        event.is_to(aim.forbidden) && event.is("hook", "Egress")
    })?;
    Ok(Finding::Fate(arms.fate()?))
}

/// IPv4 and IPv6 fragments that begin in the middle of a datagram: there is no port to see, the address is judged.
fn raw_fragments(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let (v4, v6) = (Aim::v4(103), Aim::v6(0x103));
    let first = pods.arms(&pods.hooked, v4, |member, to| {
        old(member, "old-v4", to, member.header(to, UDP).fragment(185).packet(&[b'r'; 32]))
    })?;
    let second = pods.arms(&pods.hooked, v6, |member, to| {
        let payload = [fragment_v6(UDP, 185, false), vec![b'r'; 32]].concat();
        old(member, "old-v6", to, member.header(to, 44).packet(&payload))
    })?;
    for aim in [v4, v6] {
        pods.hooked_event("the later fragment", |event| event.is_to(aim.forbidden))?;
    }
    all([first.fate()?, second.fate()?])
}

/// The packet goes to the header's destination first, and from there to where the routing header says. Whatever the
/// two are, it is refused.
fn raw_routing_header(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let aim = Aim::v6(0x104);
    let last = "2601:600::1104".parse().context("an address")?;
    let arms = pods.arms(&pods.hooked, aim, |member, to| {
        let IpAddr::V6(first) = to else { unreachable!("the aim is IPv6") };
        let header = member.header(to, 43);
        let datagram = header.udp_payload((40_000, 443), b"ringfence");
        let packet = header.packet(&[segment_routing(UDP, last, first), datagram].concat());
        old(member, "old-v6", to, packet)
    })?;
    pods.hooked_event("the routing header", |event| {
        event.is("reason", "Routed") && event.is_to(aim.forbidden)
    })?;
    Ok(Finding::Fate(arms.fate()?))
}

/// Eight extension headers are walked; nine make a packet unreadable. Unfenced, both arrive.
fn extension_chain(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let chained = |member: &Member, to: IpAddr, count: usize| {
        let header = member.header(to, 60);
        let mut payload = extension(60).repeat(count - 1);
        payload.extend(extension(UDP));
        payload.extend(header.udp_payload((40_000, 443), b"ringfence"));
        old(member, "old-v6", to, header.packet(&payload))
    };
    // Seven, so that with the upper header there are eight steps: still read, and judged by its address.
    let short = pods.arms(&pods.hooked, Aim::v6(0x105), |member, to| chained(member, to, 7))?;
    ensure!(short.fate()? == Fate::Judged, "a chain that can be walked: {short:?}");
    let arms = pods.arms(&pods.hooked, Aim::v6(0x106), |member, to| chained(member, to, 9))?;
    pods.hooked_event("the unreadable chain", |event| event.is("reason", "Fault"))?;
    Ok(Finding::Fate(arms.fate()?))
}

/// Tunnels to an *allowed* relay are refused too: what is inside goes on from there.
fn tunnel_protocols(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let mut fates = Vec::new();
    for (number, (socket, protocol)) in
        [("old-sit", 41), ("old-ipip", 4), ("old-gre", 47)].into_iter().enumerate()
    {
        let aim = Aim::v4(107 + u8::try_from(number)?);
        let inner = |member: &Member| {
            let secret =
                Header::new(member.pod.v4, Aim::v4(199).forbidden, UDP).udp((40_000, 443), b"ringfence");
            if protocol == 47 { [vec![0, 0, 8, 0], secret].concat() } else { secret }
        };
        let arms = pods.arms(&pods.hooked, aim, |member, to| old(member, socket, to, inner(member)))?;
        for to in [aim.forbidden, aim.allowed] {
            pods.hooked_event("the tunnelled packet", |event| {
                event.is_to(to) && event.is("reason", "Protocol")
            })?;
        }
        cannot_open(pods, protocol)?;
        fates.push(arms.fate()?);
    }
    all(fates)
}

/// Packet sockets: of the pod's own address, of a foreign one, of both families.
fn af_packet(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let send = |member: &Member, to: IpAddr| member.frames(vec![member.frame(&member.datagram(to)); TIMES]);
    spoofed(pods)?;
    past_the_hooks(pods, Aim::v4(110), Aim::v6(0x110), send)
}

/// Under another pod's address not even an allowed place is reached: nobody could say whose flow it was.
fn spoofed(pods: &Pods) -> Result<()> {
    let aim = Aim::v4(112);
    let arms = pods.only_the_host_layer(aim, |member, to| {
        let packet = Header::new(pods.open.pod.v4, to, UDP).udp((40_000, 443), b"ringfence");
        member.frames(vec![member.frame(&packet); TIMES])
    })?;
    ensure!(arms.fate()? == Fate::Blocked, "frames under another pod's address: {arms:?}");
    for to in [aim.forbidden, aim.allowed] {
        pods.layered_event("the foreign source", |event| event.is_to(to) && event.is("reason", "Spoofed"))?;
    }
    Ok(())
}

/// AF_XDP in copy mode, from a transmit ring.
fn af_xdp(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let send = |member: &Member, to: IpAddr| {
        let frames = vec![member.frame(&member.datagram(to)); TIMES];
        let answer = member.act(Profile::NetRaw, Raw::Xdp { link: POD_LINK.into(), frames })?;
        ensure!(answer.is_done(), "AF_XDP: {:?}", answer.outcome);
        Ok(answer)
    };
    past_the_hooks(pods, Aim::v4(111), Aim::v6(0x111), send)
}

fn past_the_hooks(
    pods: &Pods,
    v4: Aim,
    v6: Aim,
    send: impl Fn(&Member, IpAddr) -> Result<Answer>,
) -> Result<Finding> {
    let first = pods.only_the_host_layer(v4, &send)?;
    let second = pods.only_the_host_layer(v6, &send)?;
    for aim in [v4, v6] {
        pods.layered_event("the frame that the host layer stopped", |event| {
            event.is_to(aim.forbidden) && event.is("hook", "Host")
        })?;
    }
    all([first.fate()?, second.fate()?])
}
