//! Rows of CAP_NET_ADMIN in the workload's own network namespace: devices, tunnels, rewritten packets.

use std::net::IpAddr;
use std::process::Command;

use agent_tests::actor::{Answer, Family, Kind, Profile, Raw};
use agent_tests::netlink::Tunnel;
use agent_tests::node::POD_LINK;
use anyhow::{Result, ensure};

use super::fate::{Arms, Finding};
use super::pods::{Aim, Member, Pods};
use super::stage::{Stage, all};
use super::{Row, rows_of};

/// How many packets each arm sends.
const TIMES: usize = 3;
const PORT: u16 = 443;
/// Name of the devices that rows make.
const TUNNEL: &str = "rf-tunnel";
/// Name of the tables that rows make.
const TABLE: &str = "rf_rewrite";

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("tun-forwarding", tun_forwarding),
            ("tunnel-device", tunnel_device),
            ("tunnel-device-ip", tunnel_device_ip),
            ("rewritten-packet", rewritten_packet),
            ("own-nat", own_nat),
            ("xfrm", xfrm),
        ],
    )
}

/// Packets that come in from a TUN device and are forwarded have no socket.
fn tun_forwarding(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let aim = Aim::v4(120);
    let send = |member: &Member, to: IpAddr| {
        let packets = vec![member.datagram(to); TIMES];
        let answer = member.act(Profile::NetAdmin, Raw::Tun { packets })?;
        ensure!(answer.is_done(), "TUN: {:?}", answer.outcome);
        Ok(answer)
    };
    let arms = pods.only_the_host_layer(aim, send)?;
    stopped(pods, aim.forbidden)?;
    Ok(Finding::Fate(arms.fate()?))
}

/// Egress is asked about what goes into the tunnel, which is to an allowed place; the outer packets are sent by a
/// socket of the kernel's, to the tunnel's far end. They are datagrams, judged by that end.
fn tunnel_device(stage: &mut Stage) -> Result<Finding> {
    tunnels(stage, [(Tunnel::Vxlan, 121), (Tunnel::Geneve, 122)], "Default")
}

/// The same, but the outer packets are of protocols that a fence has to open, wherever they go.
fn tunnel_device_ip(stage: &mut Stage) -> Result<Finding> {
    tunnels(stage, [(Tunnel::Gre, 123), (Tunnel::IpIp, 124)], "Protocol")
}

/// Each kind with the last number of its addresses; the host layer stops it for `reason`.
fn tunnels(stage: &mut Stage, kinds: [(Tunnel, u8); 2], reason: &str) -> Result<Finding> {
    let pods = stage.pods()?;
    let mut fates = Vec::new();
    for (tunnel, last) in kinds {
        let aim = Aim::v4(last);
        match through(pods, tunnel, aim)? {
            Some(arms) => {
                pods.layered_event("the outer packet that the host layer stopped", |event| {
                    event.is_to(aim.forbidden) && event.is("hook", "Host") && event.is("reason", reason)
                })?;
                fates.push(arms.fate()?);
            }
            None => println!("  {tunnel:?}: not in this kernel"),
        }
    }
    if fates.is_empty() {
        return Ok(Finding::NotHere("this kernel has no such tunnel device".into()));
    }
    all(fates)
}

/// `None`: the kernel has no such device.
fn through(pods: &Pods, tunnel: Tunnel, aim: Aim) -> Result<Option<Arms>> {
    // Allowed, so that the inner packets pass egress.
    let inner = Aim::v4(119).allowed;
    let link = || TUNNEL.to_owned();
    let probe = Raw::Tunnel { tunnel, link: link(), remote: aim.allowed, inner };
    let made = pods.open.act(Profile::NetAdmin, probe)?;
    if made.outcome.is_error("EOPNOTSUPP") {
        return Ok(None);
    }
    ensure!(made.is_done(), "{tunnel:?}: {:?}", made.outcome);
    pods.open.act(Profile::NetAdmin, Raw::Remove { link: link() })?;
    let send = |member: &Member, remote: IpAddr| {
        let made = member.act(Profile::NetAdmin, Raw::Tunnel { tunnel, link: link(), remote, inner })?;
        ensure!(made.is_done(), "{tunnel:?}: {:?}", made.outcome);
        let answer = datagrams(member, inner)?;
        member.act(Profile::NetAdmin, Raw::Remove { link: link() })?;
        Ok(answer)
    };
    pods.only_the_host_layer(aim, send).map(Some)
}

/// nftables at the device's egress, after every cgroup hook: what was sent to an allowed place goes to another.
fn rewritten_packet(stage: &mut Stage) -> Result<Finding> {
    if !has_nft() {
        return Ok(Finding::NotHere("there is no nft command to write the rule with".into()));
    }
    let pods = stage.pods()?;
    let aim = Aim::v4(130);
    let said = Aim::v4(118).allowed;
    let send = |member: &Member, to: IpAddr| {
        let rules = format!(
            "table netdev {TABLE} {{\n chain out {{\n  type filter hook egress device \"{POD_LINK}\" priority 0\n  \
             ip daddr {said} ip daddr set {to}\n }}\n}}\n"
        );
        rewritten(member, "netdev", rules, || datagrams(member, said))
    };
    let arms = pods.only_the_host_layer(aim, send)?;
    stopped(pods, aim.forbidden)?;
    Ok(Finding::Fate(arms.fate()?))
}

/// NAT of the workload's own: on output, and a plain rewrite on postrouting. Egress comes after both.
fn own_nat(stage: &mut Stage) -> Result<Finding> {
    if !has_nft() {
        return Ok(Finding::NotHere("there is no nft command to write the rule with".into()));
    }
    let pods = stage.pods()?;
    let said = Aim::v4(117).allowed;
    let mut fates = Vec::new();
    for (aim, chain, action) in [
        (Aim::v4(131), "type nat hook output priority 0", "dnat to"),
        (Aim::v4(132), "type filter hook postrouting priority 0", "ip daddr set"),
    ] {
        let send = |member: &Member, to: IpAddr| {
            let rules = format!(
                "table ip {TABLE} {{\n chain out {{\n  {chain}\n  ip daddr {said} {action} {to}\n }}\n}}\n"
            );
            rewritten(member, "ip", rules, || datagrams(member, said))
        };
        let arms = pods.arms(&pods.hooked, aim, send)?;
        pods.hooked_event("the rewritten packet", |event| {
            event.is_to(aim.forbidden) && event.is("hook", "Egress")
        })?;
        fates.push(arms.fate()?);
    }
    all(fates)
}

/// IPsec needs a transform (ESP, AH or IPComp) to send with.
fn xfrm(_: &mut Stage) -> Result<Finding> {
    Ok(Finding::NotHere("no ESP, AH or IPComp to send with".into()))
}

/// Does `send` under these rules, and takes them away again.
fn rewritten(
    member: &Member,
    family: &str,
    rules: String,
    send: impl FnOnce() -> Result<Answer>,
) -> Result<Answer> {
    member.act(Profile::NetAdmin, Raw::Nft { rules })?;
    let answer = send();
    member.act(Profile::NetAdmin, Raw::Nft { rules: format!("delete table {family} {TABLE}") })?;
    answer
}

/// Ordinary datagrams over a new socket of the ordinary kind.
fn datagrams(member: &Member, to: IpAddr) -> Result<Answer> {
    let mut actor = member.actor(Profile::NetAdmin).borrow_mut();
    ensure!(actor.open("datagrams", Family::V4, Kind::Udp)?.is_done(), "no UDP socket");
    let mut last = None;
    for _ in 0..TIMES {
        last = Some(actor.send_to("datagrams", (to, PORT).into(), 32)?);
    }
    actor.close("datagrams")?;
    last.ok_or_else(|| anyhow::anyhow!("nothing was sent"))
}

/// The host layer's event of it.
fn stopped(pods: &Pods, remote: IpAddr) -> Result<()> {
    pods.layered_event("the packet that the host layer stopped", |event| {
        event.is_to(remote) && event.is("hook", "Host")
    })?;
    Ok(())
}

fn has_nft() -> bool {
    Command::new("nft").arg("--version").output().is_ok_and(|output| output.status.success())
}
