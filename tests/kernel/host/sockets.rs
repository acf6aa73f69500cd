//! The workload's own sockets do not notice the host layer: what egress lets pass arrives, also where the address
//! alone would be refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Call};
use agent_tests::craft::{Header, framed};
use agent_tests::frame::{TCP, UDP};
use agent_tests::node::GATEWAY;
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::{Timeout, set_ip_freebind, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};

use super::stage::{FRAMES, SOON, Stage, hand_over, target};
use crate::flows::{Address, Destination, Flow, PORT, must_echo, shapes};
use crate::suite::Outcome;

/// Where the workload serves.
const SERVED: u16 = 8080;
/// The client's port.
const CLIENT: u16 = 50_123;
/// More than the pods' links carry at once (1,500).
const LONG: usize = 4_000;

pub(super) fn allowed_flows() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for shape in shapes() {
        must_echo(&mut crm, shape, shape.target(Destination::Allowed, PORT), "through the host layer")?;
        let mut flow = Flow::open(&mut crm, shape, shape.target(Destination::Forbidden, PORT))?;
        ensure!(!flow.exchange(&mut crm, false)?.echoed, "{} to a forbidden place was echoed", shape.name());
        flow.reset(&mut crm)?;
    }
    let of_host = watch.events().into_iter().find(|event| event.is("hook", "Host"));
    ensure!(of_host.is_none(), "the host layer judged what sockets sent: {of_host:?}");
    Ok(Outcome::Passed)
}

/// A rule that names ports, and a datagram whose later pieces have none.
pub(super) fn fragments() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let to = target(Address::V4, Destination::Allowed);
    let policy =
        stage.policy("Enforce", "").replace("jurisdictions: [EEA]", "jurisdictions: [EEA], ports: [443]");
    ensure!(policy.contains("ports"), "the rule has no ports: {policy}");
    let setup = stage.agent("auto")?.policy(&policy)?;
    let agent = setup.start()?;
    ensure!(
        crm.open("long", agent_tests::actor::Family::V4, agent_tests::actor::Kind::Udp)?.is_done(),
        "no socket"
    );
    let sent = crm.send_to("long", to, LONG)?;
    ensure!(sent.is_done(), "a long datagram was not sent: {:?}", sent.outcome);
    let echo = crm.receive("long", SOON)?;
    ensure!(
        echo.is_done() && echo.bytes > 0,
        "a long datagram got no echo: {:?}\n{}",
        echo.outcome,
        agent.said()
    );

    // A piece that egress did not see: to the same place, but nothing vouches for it.
    let elsewhere = SocketAddr::new(Ipv4Addr::new(46, 4, 10, 77).into(), PORT);
    let piece = Header::new(stage.pod.v4, elsewhere.ip(), UDP).fragment(100).packet(&[b'r'; 64]);
    let before = stage.sniffer.frames_to(elsewhere.ip())?.frames;
    hand_over(&mut crm, &framed(GATEWAY, stage.pod.mac, &piece))?;
    let arrived = stage.sniffer.frames_to(elsewhere.ip())?.frames - before;
    ensure!(arrived == 0, "{arrived} pieces without ports passed a rule of ports");
    Ok(Outcome::Passed)
}

/// `inbound: Allow`: an accepted connection of a peer in a forbidden place is answered, a forged packet to that peer is
/// not sent.
pub(super) fn accepted() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let peer = target(Address::V4, Destination::Forbidden).ip();
    listen(&mut crm, stage.pod.v4.to_string().parse()?)?;
    let served = SocketAddr::new(stage.pod.v4, SERVED);

    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", "  inbound: Allow\n"))?;
    let agent = setup.start()?;
    let client = SocketAddr::new(peer, CLIENT);
    let connection = dial(&stage, client, served)
        .with_context(|| format!("an accepted connection does not work\n{}", agent.said()))?;
    let accepted =
        crm.call(Call::Accept { name: "served".into(), connection: "c".into(), limit_ms: 5_000 })?;
    ensure!(accepted.is_done(), "accept: {:?}", accepted.outcome);
    ensure!(crm.send("c", 100)?.is_done(), "the accepted socket may not send");
    let mut buffer = [0; 256];
    let (answer, _) =
        recv(&connection, &mut buffer, RecvFlags::empty()).context("no answer from the workload")?;
    ensure!(answer == 100, "{answer} of 100 bytes were answered");
    send(&connection, b"more", SendFlags::empty())?;

    // Another port of the same peer: no socket of the workload's ever talked to it.
    let forged = SocketAddr::new(peer, CLIENT + 1);
    let frame = framed(
        GATEWAY,
        stage.pod.mac,
        &Header::new(stage.pod.v4, peer, TCP).packet(&segment(SERVED, forged.port())),
    );
    let before = stage.sniffer.frames_of(TCP, forged)?.frames;
    hand_over(&mut crm, &frame)?;
    let arrived = stage.sniffer.frames_of(TCP, forged)?.frames - before;
    ensure!(arrived == 0, "{arrived} of {FRAMES} forged segments arrived");
    let watch = agent.watch(&["--all"])?;
    watch.wait_for("the forged segments' violation", SOON, |event| {
        event.is("hook", "Host")
            && event.is_to(peer)
            && event.number("port") == Some(u64::from(forged.port()))
    })?;
    let wrong = watch
        .events()
        .into_iter()
        .find(|event| event.is("hook", "Host") && event.number("port") == Some(u64::from(CLIENT)));
    ensure!(wrong.is_none(), "the host layer refused the accepted connection: {wrong:?}");

    // The mutant: judged by address, the peer's next connection is not answered.
    agent.publish(&setup, &stage.policy("Enforce", ""))?;
    let refused = dial(&stage, SocketAddr::new(peer, CLIENT + 2), served);
    ensure!(refused.is_err(), "`inbound: Judge`, and a forbidden peer is answered");
    Ok(Outcome::Passed)
}

fn listen(crm: &mut Actor, own: Ipv4Addr) -> Result<()> {
    let to = sockaddr::inet(SocketAddr::new(own.into(), SERVED));
    let calls = [
        Call::Socket { name: "served".into(), domain: libc::AF_INET, kind: libc::SOCK_STREAM, protocol: 0 },
        Call::Bind { name: "served".into(), to },
        Call::Listen { name: "served".into() },
    ];
    for call in calls {
        let answer = crm.call(call.clone())?;
        ensure!(answer.is_done(), "{call:?}: {:?}", answer.outcome);
    }
    Ok(())
}

/// A connection from far, from any address.
fn dial(stage: &Stage, from: SocketAddr, to: SocketAddr) -> Result<std::os::fd::OwnedFd> {
    stage.node.world().far().run(|| {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_ip_freebind(&socket, true)?;
        set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_secs(2)))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(SOON))?;
        bind(&socket, &from)?;
        connect(&socket, &to).with_context(|| format!("connecting from {from} to {to}"))?;
        Ok(socket)
    })
}

/// A TCP segment with payload and without a right checksum, which nobody on the way looks at.
fn segment(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(b"forged");
    bytes
}
