//! What a network stack needs to live passes in its narrow form, and in no other: the same packet to an address in the
//! world is judged like any flow.
//!
//! Each is sent twice: as a frame through a packet socket (what the host layer sees), and as a packet through a raw
//! socket that is older than the fence (what egress sees).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_tests::actor::{Profile, Raw};
use agent_tests::craft::{BROADCAST, Mac, ROUTER_ALERT_V4, framed, icmp, router_alert_v6};
use agent_tests::frame::UDP;
use anyhow::{Result, ensure};

use super::fate::{Arms, Finding};
use super::pods::{Aim, Member, Pods};
use super::stage::{Stage, all};
use super::{Row, rows_of};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("neighbour-discovery", neighbour_discovery),
            ("multicast-listeners", multicast_listeners),
            ("igmp-reports", igmp_reports),
            ("dhcp", dhcp),
            ("icmp-errors", icmp_errors),
        ],
    )
}

/// Makes the packet that goes from a member to an address.
type Packet = fn(&Member, IpAddr) -> Vec<u8>;

/// One form: `narrow` is where the stack itself sends it.
struct Form {
    narrow: IpAddr,
    aim: Aim,
    packet: Packet,
    /// The same kind of packet to the *narrow* destination that breaks one condition of the form.
    wide: Option<Packet>,
}

/// A neighbour solicitation, hop limit 255, to the target's solicited-node address (RFC 4861 section 4.3).
fn neighbour_discovery(stage: &mut Stage) -> Result<Finding> {
    fn solicitation(member: &Member, to: IpAddr, hops: u8) -> Vec<u8> {
        let header = member.header(to, ICMPV6).hops(hops);
        let target: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0xab, 0xcdef);
        let mut body = vec![0; 4];
        body.extend(target.octets());
        body.extend([1, 1]); // source link-layer address
        body.extend(member.pod.mac);
        header.packet(&header.icmpv6(135, 0, &body))
    }
    let narrow = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xffab, 0xcdef).into();
    lives(
        stage.pods()?,
        &Form {
            narrow,
            aim: Aim::v6(0x140),
            packet: |member, to| solicitation(member, to, 255),
            wide: Some(|member, to| solicitation(member, to, 64)),
        },
    )
}

/// An MLD report, hop limit 1, with router alert (RFC 2710 section 3).
fn multicast_listeners(stage: &mut Stage) -> Result<Finding> {
    fn report(member: &Member, to: IpAddr, hops: u8) -> Vec<u8> {
        let header = member.header(to, HOP_BY_HOP).hops(hops);
        let mut body = vec![0; 4];
        body.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x1234).octets());
        header.packet(&[router_alert_v6(ICMPV6), header.icmpv6(131, 0, &body)].concat())
    }
    lives(
        stage.pods()?,
        &Form {
            narrow: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x1234).into(),
            aim: Aim::v6(0x141),
            packet: |member, to| report(member, to, 1),
            wide: Some(|member, to| report(member, to, 64)),
        },
    )
}

/// An IGMP report, TTL 1, with router alert (RFC 2236 section 2).
fn igmp_reports(stage: &mut Stage) -> Result<Finding> {
    fn report(member: &Member, to: IpAddr, hops: u8) -> Vec<u8> {
        let header = member.header(to, IGMP).hops(hops).options(&ROUTER_ALERT_V4);
        header.packet(&icmp(0x16, 0, &[224, 0, 0, 123]))
    }
    lives(
        stage.pods()?,
        &Form {
            narrow: Ipv4Addr::new(224, 0, 0, 123).into(),
            aim: Aim::v4(142),
            packet: |member, to| report(member, to, 1),
            wide: Some(|member, to| report(member, to, 64)),
        },
    )
}

/// DHCP from the client's port to the server's (RFC 2131 section 4.1, RFC 8415 section 7.2).
fn dhcp(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let v4 = lives_arms(
        pods,
        &Form {
            narrow: Ipv4Addr::BROADCAST.into(),
            aim: Aim::v4(143),
            packet: |member, to| member.header(to, UDP).udp((68, 67), &[1; 240]),
            wide: Some(|member, to| member.header(to, UDP).udp((68, 443), &[1; 240])),
        },
    )?;
    let v6 = lives_arms(
        pods,
        &Form {
            narrow: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2).into(),
            aim: Aim::v6(0x143),
            packet: |member, to| member.header(to, UDP).udp((546, 547), &[1; 40]),
            wide: Some(|member, to| member.header(to, UDP).udp((546, 443), &[1; 40])),
        },
    )?;
    let fates = v4.into_iter().chain(v6).map(|arms| arms.fate()).collect::<Result<Vec<_>>>()?;
    all(fates)
}

/// Errors that the kernel sends about packets it received. Forged ones to the world are flows like any other.
fn icmp_errors(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let aim = Aim::v4(144);
    let unreachable = |member: &Member, to: IpAddr| {
        // As the kernel would quote it: the datagram that came from there, to a port that nobody has.
        let quoted = agent_tests::craft::Header::new(to, member.pod.v4, UDP).udp((443, 40_000), b"ringfence");
        let mut body = vec![0; 4];
        body.extend(quoted);
        member.header(to, ICMP).packet(&icmp(3, 3, &body))
    };
    let arms = pods
        .only_the_host_layer(aim, |member, to| member.frames(vec![member.frame(&unreachable(member, to))]))?;
    Ok(Finding::Fate(arms.fate()?))
}

fn lives(pods: &Pods, form: &Form) -> Result<Finding> {
    let fates = lives_arms(pods, form)?.into_iter().map(Arms::fate).collect::<Result<Vec<_>>>()?;
    all(fates)
}

/// The narrow form passes, wider ones to the same place do not, and neither passes to an address in the world. The
/// arms: *allowed* is the narrow form.
fn lives_arms(pods: &Pods, form: &Form) -> Result<Vec<Arms>> {
    let mut all = Vec::new();
    for (said, member) in [("host layer", &pods.layered), ("egress", &pods.hooked)] {
        let send = |member: &Member, packet: Vec<u8>, to: IpAddr| {
            if said == "host layer" {
                member.frames(vec![framed(link_address(to), member.pod.mac, &packet)])
            } else {
                let name = if to.is_ipv4() { "old-v4" } else { "old-v6" };
                member.act(Profile::NetRaw, Raw::Send { name: name.into(), to, packets: vec![packet] })
            }
        };
        let count = |member: &Member, packet: Packet, to: IpAddr| -> Result<u64> {
            let before = pods.sniffer.frames_to(to)?.frames;
            send(member, packet(member, to), to)?;
            Ok(pods.sniffer.frames_to(to)?.frames - before)
        };
        let arms = Arms {
            unfenced: count(&pods.open, form.packet, form.aim.forbidden)?,
            forbidden: count(member, form.packet, form.aim.forbidden)?,
            allowed: count(member, form.packet, form.narrow)?,
        };
        println!(
            "  {said}: to {} {} frames, to {} unfenced {}, fenced {}",
            form.narrow, arms.allowed, form.aim.forbidden, arms.unfenced, arms.forbidden
        );
        if let Some(wide) = form.wide {
            let open = count(&pods.open, wide, form.narrow)?;
            let fenced = count(member, wide, form.narrow)?;
            println!("  {said}: wider form to {}: unfenced {open}, fenced {fenced}", form.narrow);
            ensure!(open > 0, "the wider form does not even leave an unfenced pod");
            ensure!(fenced == 0, "a wider form of stack life passed to {}", form.narrow);
        }
        all.push(arms);
    }
    Ok(all)
}

/// Where on the link a packet to this address goes (RFC 1112 section 6.4, RFC 2464 section 7).
fn link_address(to: IpAddr) -> Mac {
    match to {
        IpAddr::V4(Ipv4Addr::BROADCAST) => BROADCAST,
        IpAddr::V4(v4) if v4.is_multicast() => {
            let [_, b, c, d] = v4.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            let last = v6.octets();
            [0x33, 0x33, last[12], last[13], last[14], last[15]]
        }
        IpAddr::V4(_) | IpAddr::V6(_) => agent_tests::node::GATEWAY,
    }
}
