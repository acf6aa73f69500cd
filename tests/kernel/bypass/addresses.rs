//! The same destination said in another way: families, forms and kinds of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_tests::actor::{Actor, Answer, Call, Family, Kind, Profile};
use agent_tests::frame::UDP;
use agent_tests::netlink::Netlink;
use agent_tests::sockaddr;
use agent_tests::world::NEAR_LINK;
use anyhow::{Result, ensure};

use super::fate::{Arms, Fate, Finding};
use super::sockets::Elder;
use super::stage::{AT_CONNECT, AT_EGRESS, Remotes, Stage, Told, all, datagram};
use super::{Row, rows_of};

/// Payload of one send, bytes.
const BYTES: usize = 32;
/// A place that the fence's `unknown` decides.
const AS_UNKNOWN: Told<'_> = Told { reason: "Unknown", hooks: &["Egress"] };

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("v4-mapped-connect", v4_mapped_connect),
            ("v4-mapped-sendto", v4_mapped_sendto),
            ("v4-address-on-v6-socket", v4_address_on_v6_socket),
            ("unspec-family-sendto", unspec_family_sendto),
            ("reconnected-datagrams", reconnected_datagrams),
            ("unspecified-address", unspecified_address),
            ("embedded-v4", embedded_v4),
            ("isatap", isatap),
            ("v4-compatible", v4_compatible),
            ("multicast", multicast),
            ("broadcast", broadcast),
        ],
    )
}

/// `to` as an IPv6 socket writes an IPv4 address.
fn mapped(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        IpAddr::V6(_) => to,
    }
}

fn v4_of(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => ip.to_ipv4().unwrap_or(Ipv4Addr::UNSPECIFIED),
    }
}

fn open(actor: &mut Actor, family: Family, kind: Kind) -> Result<()> {
    let answer = actor.open("s", family, kind)?;
    ensure!(answer.is_done(), "no socket: {:?}", answer.outcome);
    Ok(())
}

/// `sendto` on the socket `s` with an address as bytes.
fn send_to_bytes(actor: &mut Actor, to: Vec<u8>) -> Result<Answer> {
    actor.call(Call::Send { name: "s".into(), to: Some(to), payload: vec![b'r'; BYTES], flags: 0 })
}

fn v4_mapped_connect(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for (what, kind) in [("v4-mapped-connect, TCP", Kind::Tcp), ("v4-mapped-connect, UDP", Kind::Udp)] {
        fates.push(stage.judge_way(what, Family::V4, &AT_CONNECT, |actor, to| {
            open(actor, Family::V6, kind)?;
            actor.connect("s", mapped(to))?;
            actor.send("s", BYTES).map(drop)
        })?);
    }
    all(fates)
}

fn v4_mapped_sendto(stage: &mut Stage) -> Result<Finding> {
    let way = |actor: &mut Actor, to| datagram(actor, mapped(to)).map(drop);
    all([stage.judge_way("v4-mapped-sendto", Family::V4, &AT_EGRESS, way)?])
}

fn v4_address_on_v6_socket(stage: &mut Stage) -> Result<Finding> {
    let sent = stage.judge_way("v4-address-on-v6-socket, sendto", Family::V4, &AT_EGRESS, |actor, to| {
        open(actor, Family::V6, Kind::Udp)?;
        send_to_bytes(actor, sockaddr::inet(to)).map(drop)
    })?;
    let connected =
        stage.judge_way("v4-address-on-v6-socket, connect", Family::V4, &AT_CONNECT, |actor, to| {
            open(actor, Family::V6, Kind::Udp)?;
            actor.call(Call::Connect { name: "s".into(), to: sockaddr::inet(to), limit_ms: 1_000 })?;
            actor.send("s", BYTES).map(drop)
        })?;
    all([sent, connected])
}

fn unspec_family_sendto(stage: &mut Stage) -> Result<Finding> {
    let fate = stage.judge_way("unspec-family-sendto", Family::V4, &AT_EGRESS, |actor, to| {
        open(actor, Family::V4, Kind::Udp)?;
        send_to_bytes(actor, sockaddr::unspecified(v4_of(to.ip()), to.port())).map(drop)
    })?;
    all([fate])
}

/// One socket: connected to an allowed place, an address given with a datagram, connected again. The allowed place
/// answers: an unreachable port would be the error of the next call, which then sends nothing.
fn reconnected_datagrams(stage: &mut Stage) -> Result<Finding> {
    let home = Elder::ALLOWED_SERVER;
    let begin = |actor: &mut Actor| -> Result<()> {
        open(actor, Family::V4, Kind::Udp)?;
        ensure!(actor.connect("s", home)?.is_done() && actor.send("s", BYTES)?.is_done(), "no way home");
        Ok(())
    };
    let elsewhere =
        stage.judge_way("reconnected-datagrams, sendto", Family::V4, &AT_EGRESS, |actor, to| {
            begin(actor)?;
            actor.send_to("s", to, BYTES).map(drop)
        })?;
    let again = stage.judge_way("reconnected-datagrams, connect", Family::V4, &AT_CONNECT, |actor, to| {
        begin(actor)?;
        actor.connect("s", to)?;
        actor.send("s", BYTES).map(drop)
    })?;
    all([elsewhere, again])
}

/// The workload reaches itself, and nothing leaves: there is no forbidden destination on this way.
fn unspecified_address(stage: &mut Stage) -> Result<Finding> {
    if stage.scene.is_loopback() {
        return Ok(Finding::NotHere(
            "without veth, what stays on the host and what leaves are the same".into(),
        ));
    }
    for (family, any) in
        [(Family::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), (Family::V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    {
        let mut crm = stage.fenced(Profile::None)?;
        let here = SocketAddr::new(any, 8_081);
        ensure!(crm.open("server", family, Kind::Tcp)?.is_done(), "no socket");
        ensure!(crm.call(Call::Bind { name: "server".into(), to: sockaddr::inet(here) })?.is_done(), "bind");
        ensure!(crm.call(Call::Listen { name: "server".into() })?.is_done(), "listen");
        open(&mut crm, family, Kind::Tcp)?;
        let answer = crm.connect("s", here)?;
        ensure!(
            answer.is_done(),
            "connecting to {here}, where the workload itself serves: {:?}",
            answer.outcome
        );
    }
    for ip in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
        let frames = stage.frames_to(ip.parse()?)?;
        println!("unspecified-address: frames to {ip} at the far end {frames}");
        if frames > 0 {
            return Ok(Finding::Fate(Fate::OutOfScope));
        }
    }
    Ok(Finding::Fate(Fate::Judged))
}

/// Each of a row's IPv4 addresses in an IPv6 one.
fn within(remotes: Remotes, form: impl Fn(Ipv4Addr) -> Ipv6Addr) -> Remotes {
    let form = |ip| IpAddr::V6(form(v4_of(ip)));
    Remotes {
        unfenced: form(remotes.unfenced),
        forbidden: form(remotes.forbidden),
        allowed: form(remotes.allowed),
    }
}

/// `prefix` with the bits of an IPv4 address above `shift`.
fn with_v4(prefix: Ipv6Addr, ip: Ipv4Addr, shift: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(ip.to_bits()) << shift)
}

/// RFC 4380 section 4: server in bits 32..64, the client's address inverted at the end.
fn teredo(server: Ipv4Addr, client: Ipv4Addr) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0x2001, 0, 0, 0, 0x8000, 0x63bf, 0, 0);
    with_v4(with_v4(prefix, server, 64), Ipv4Addr::from_bits(!client.to_bits()), 0)
}

fn embedded_v4(stage: &mut Stage) -> Result<Finding> {
    const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
    const SIX_TO_FOUR: Ipv6Addr = Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 1);
    let home = v4_of(stage.remotes(Family::V4)?.allowed);
    let forms: [(&str, &dyn Fn(Ipv4Addr) -> Ipv6Addr); 5] = [
        ("NAT64", &|ip| with_v4(NAT64, ip, 0)),
        ("6to4", &|ip| with_v4(SIX_TO_FOUR, ip, 80)),
        ("Teredo, both", &|ip| teredo(ip, ip)),
        ("Teredo, server", &|ip| teredo(ip, home)),
        ("Teredo, client", &|ip| teredo(home, ip)),
    ];
    let mut fates = Vec::new();
    for (name, form) in forms {
        for (kind, told) in [(Kind::Tcp, &AT_CONNECT), (Kind::Udp, &AT_EGRESS)] {
            let remotes = within(stage.remotes(Family::V4)?, form);
            fates.push(stage.judge_way_to(
                &format!("embedded-v4, {name}, {kind:?}"),
                remotes,
                told,
                |actor, to| match kind {
                    Kind::Tcp => {
                        open(actor, Family::V6, kind).and_then(|()| actor.connect("s", to)).map(drop)
                    }
                    Kind::Udp => datagram(actor, to).map(drop),
                },
            )?);
        }
    }
    all(fates)
}

/// RFC 5214 section 6.1. Judged by its own network: what it embeds matters only to a tunnel device.
fn isatap(stage: &mut Stage) -> Result<Finding> {
    let of = |network: [u16; 2], ip| {
        with_v4(Ipv6Addr::new(network[0], network[1], 0, 0, 0, 0x5efe, 0, 0), v4_of(ip), 0).into()
    };
    let inner = stage.remotes(Family::V4)?;
    let remotes = Remotes {
        unfenced: of([0x2601, 0x600], inner.unfenced),
        forbidden: of([0x2601, 0x600], inner.allowed),
        allowed: of([0x2a01, 0x4f8], inner.forbidden),
    };
    all([stage.judge_way_to("isatap", remotes, &AT_EGRESS, |actor, to| datagram(actor, to).map(drop))?])
}

/// RFC 4291 section 2.5.5.1, deprecated: reserved addresses, whatever they embed.
fn v4_compatible(stage: &mut Stage) -> Result<Finding> {
    let remotes = within(stage.remotes(Family::V4)?, |ip| with_v4(Ipv6Addr::UNSPECIFIED, ip, 0));
    let way = |actor: &mut Actor, to| datagram(actor, to).map(drop);
    all([stage.judge_way_to("v4-compatible", remotes, &AS_UNKNOWN, way)?])
}

fn multicast(stage: &mut Stage) -> Result<Finding> {
    if stage.scene.is_loopback() {
        return Ok(Finding::NotHere("without veth there is no link to send multicast on".into()));
    }
    let index = stage.scene.near().run(|| Ok(Netlink::open()?.link(NEAR_LINK)?.index))?;
    let mut fates = Vec::new();
    let groups: [(&str, &dyn Fn(u8) -> IpAddr); 5] = [
        ("local", &|n| Ipv4Addr::new(224, 0, 0, 200 + n).into()),
        ("global", &|n| Ipv4Addr::new(232, 1, 1, n).into()),
        ("organisation", &|n| Ipv4Addr::new(239, 1, 1, n).into()),
        ("link", &|n| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x77, n.into()).into()),
        ("global v6", &|n| Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0x77, n.into()).into()),
    ];
    for (scope, group) in groups {
        let remotes = Remotes { unfenced: group(1), forbidden: group(2), allowed: group(3) };
        fates.push(stage.judge_way_to(
            &format!("multicast, {scope}"),
            remotes,
            &AS_UNKNOWN,
            |actor, to| match to.ip() {
                IpAddr::V4(_) => datagram(actor, to).map(drop),
                IpAddr::V6(ip) => {
                    open(actor, Family::V6, Kind::Udp)?;
                    send_to_bytes(actor, sockaddr::scoped(ip, to.port(), index)).map(drop)
                }
            },
        )?);
    }
    all(fates)
}

/// There is one limited broadcast address: the workloads are told apart by port.
fn broadcast(stage: &mut Stage) -> Result<Finding> {
    if stage.scene.is_loopback() {
        return Ok(Finding::NotHere("without veth there is no link to broadcast on".into()));
    }
    let to = |port| SocketAddr::new(Ipv4Addr::BROADCAST.into(), port);
    let (unfenced, fenced) = (to(1_001), to(1_002));
    for (mut actor, to) in
        [(stage.unfenced(Profile::None)?, unfenced), (stage.fenced(Profile::None)?, fenced)]
    {
        open(&mut actor, Family::V4, Kind::Udp)?;
        let (level, option, value) = (libc::SOL_SOCKET, libc::SO_BROADCAST, 1i32.to_ne_bytes().to_vec());
        ensure!(
            actor.call(Call::Option { name: "s".into(), level, option, value })?.is_done(),
            "SO_BROADCAST"
        );
        actor.send_to("s", to, BYTES)?;
    }
    let frames = |to| -> Result<u64> { Ok(stage.scene.sniffer.frames_of(UDP, to)?.frames) };
    let arms = Arms { unfenced: frames(unfenced)?, forbidden: frames(fenced)?, allowed: 0 };
    println!("broadcast: {arms:?}");
    stage.told(fenced.ip(), &AS_UNKNOWN)?;
    all([arms.fate()?])
}
