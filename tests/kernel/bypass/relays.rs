//! What a fence does not see: somebody else who passes the bytes on. Each test shows the escape.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Call, Family, Kind, Profile};
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};

use super::fate::{Fate, Finding};
use super::nft;
use super::stage::{Stage, datagram};
use super::{Row, rows_of};
use crate::flows::PORT;

/// Payload of one send, bytes.
const BYTES: usize = 32;
/// Time limit of what must happen.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same, milliseconds.
const PATIENCE_MS: u64 = 5_000;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("cluster-ip", cluster_ip),
            ("unix-relay", unix_relay),
            ("allowed-relay", allowed_relay),
            ("vsock", vsock),
            ("kernel-replies", kernel_replies),
        ],
    )
}

/// A process in the far namespace that receives datagrams at `ip`.
fn receiver(stage: &Stage, ip: IpAddr) -> Result<Actor> {
    let mut actor = stage.far_actor()?;
    ensure!(actor.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket in far");
    let own = sockaddr::inet(SocketAddr::new(ip, PORT));
    ensure!(actor.call(Call::Bind { name: "s".into(), to: own })?.is_done(), "cannot be {ip}");
    Ok(actor)
}

/// The bytes reached the receiver, or did not.
fn received(receiver: &mut Actor, by: Duration) -> Result<Fate> {
    let answer = receiver.receive("s", by)?;
    println!("received at the forbidden place: {} bytes, {:?}", answer.bytes, answer.outcome);
    Ok(if answer.is_done() && answer.bytes == BYTES { Fate::OutOfScope } else { Fate::Blocked })
}

/// The rewriting is in the far namespace, as a node's is outside of a pod's. The judge is whoever received.
fn cluster_ip(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    let mut forbidden = receiver(stage, remotes.forbidden)?;
    let rules = format!(
        "table ip service {{ chain pre {{ type nat hook prerouting priority -100; \
         ip daddr {} dnat to {}; }}; }}",
        remotes.allowed, remotes.forbidden
    );
    if let Some(reason) = nft::load(stage.scene.far(), &rules)? {
        return Ok(Finding::NotHere(reason));
    }
    let sent = datagram(&mut stage.fenced(Profile::None)?, SocketAddr::new(remotes.allowed, PORT));
    let fate = received(&mut forbidden, PATIENCE);
    nft::remove(stage.scene.far(), "ip service")?;
    ensure!(sent?.is_done(), "the Service address is not allowed");
    Ok(Finding::Fate(fate?))
}

/// The proxy on the host is not fenced: it sends on what it reads.
fn unix_relay(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    let path = stage.directory().join("proxy.sock");
    let address = sockaddr::unix(&path).context("the directory's path is too long for a unix socket")?;
    let (mut proxy, mut crm) = (stage.unfenced(Profile::None)?, stage.fenced(Profile::None)?);
    for (actor, name) in [(&mut proxy, "listener"), (&mut crm, "s")] {
        let (domain, kind) = (libc::AF_UNIX, libc::SOCK_STREAM);
        ensure!(
            actor.call(Call::Socket { name: name.into(), domain, kind, protocol: 0 })?.is_done(),
            "no socket"
        );
    }
    ensure!(proxy.call(Call::Bind { name: "listener".into(), to: address.clone() })?.is_done(), "bind");
    ensure!(proxy.call(Call::Listen { name: "listener".into() })?.is_done(), "listen");
    let connect = Call::Connect { name: "s".into(), to: address, limit_ms: PATIENCE_MS };
    ensure!(crm.call(connect)?.is_done(), "no way to the proxy");
    let (name, connection) = ("listener".into(), "client".into());
    ensure!(proxy.call(Call::Accept { name, connection, limit_ms: PATIENCE_MS })?.is_done(), "accept");
    crm.send("s", BYTES)?;
    let heard = proxy.receive("client", PATIENCE)?.bytes;
    ensure!(heard == BYTES, "the proxy heard {heard} bytes");
    datagram(&mut proxy, SocketAddr::new(remotes.forbidden, PORT))?;
    let frames = stage.frames_to(remotes.forbidden)?;
    let told = stage.is_told_of(remotes.forbidden)?;
    println!(
        "unix-relay: frames to a forbidden place {frames}; an event of the fenced workload names it: {told}"
    );
    Ok(Finding::Fate(if frames > 0 { Fate::OutOfScope } else { Fate::Blocked }))
}

/// The relay is on the internet, at an allowed address.
fn allowed_relay(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    let (mut relay, mut forbidden) = (receiver(stage, remotes.allowed)?, receiver(stage, remotes.forbidden)?);
    datagram(&mut stage.fenced(Profile::None)?, SocketAddr::new(remotes.allowed, PORT))?;
    let heard = relay.receive("s", PATIENCE)?.bytes;
    ensure!(heard == BYTES, "the relay heard {heard} bytes");
    relay.send_to("s", SocketAddr::new(remotes.forbidden, PORT), heard)?;
    Ok(Finding::Fate(received(&mut forbidden, PATIENCE)?))
}

/// Nothing is sent to a hypervisor: the escape is shown by bytes only where the kernel can loop them back, else by a
/// socket that the fenced workload gets and binds while nobody is asked.
fn vsock(stage: &mut Stage) -> Result<Finding> {
    const ANY: u32 = u32::MAX;
    const LOCAL: u32 = 1;
    const SERVED: u32 = 7_777;
    let mut crm = stage.fenced(Profile::None)?;
    let socket = |name: &str| {
        let (domain, kind) = (libc::AF_VSOCK, libc::SOCK_STREAM);
        Call::Socket { name: name.into(), domain, kind, protocol: 0 }
    };
    let opened = crm.call(socket("listener"))?;
    if opened.outcome.is_error("EAFNOSUPPORT") {
        return Ok(Finding::NotHere("this kernel has no AF_VSOCK".into()));
    }
    let bound = crm.call(Call::Bind { name: "listener".into(), to: sockaddr::vsock(LOCAL, SERVED) })?;
    let loops = bound.is_done();
    let bound = match loops {
        true => bound,
        false => crm.call(Call::Bind { name: "listener".into(), to: sockaddr::vsock(ANY, SERVED) })?,
    };
    println!("vsock: socket {:?}, bind {:?}, loops back: {loops}", opened.outcome, bound.outcome);
    if loops {
        ensure!(crm.call(Call::Listen { name: "listener".into() })?.is_done(), "listen");
        ensure!(crm.call(socket("s"))?.is_done(), "no second socket");
        let to = sockaddr::vsock(LOCAL, SERVED);
        let connected = crm.call(Call::Connect { name: "s".into(), to, limit_ms: PATIENCE_MS })?;
        ensure!(connected.is_done() && crm.send("s", BYTES)?.is_done(), "loopback: {:?}", connected.outcome);
    }
    Ok(Finding::Fate(if opened.is_done() && bound.is_done() { Fate::OutOfScope } else { Fate::Blocked }))
}

/// A peer in a forbidden place asks the workload's address: a closed TCP port, and an echo request.
fn kernel_replies(stage: &mut Stage) -> Result<Finding> {
    const CLOSED: u16 = 9;
    let mut fates = Vec::new();
    let remotes = stage.remotes(Family::V4)?;
    let mut peer = stage.far_actor()?;
    ensure!(peer.open("s", Family::V4, Kind::Tcp)?.is_done(), "no socket in far");
    let own = sockaddr::inet(SocketAddr::new(remotes.forbidden, 0));
    ensure!(peer.call(Call::Bind { name: "s".into(), to: own })?.is_done(), "bind");
    let refused = peer.connect("s", SocketAddr::new(stage.near_ip(), CLOSED))?;
    fates.push(("RST", stage.frames_to(remotes.forbidden)?, refused.outcome));

    let remotes = stage.remotes(Family::V4)?;
    let (domain, kind, protocol) = (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    ensure!(
        peer.call(Call::Socket { name: "ping".into(), domain, kind, protocol })?.is_done(),
        "no raw socket"
    );
    let own = sockaddr::inet(SocketAddr::new(remotes.forbidden, 0));
    ensure!(peer.call(Call::Bind { name: "ping".into(), to: own })?.is_done(), "bind");
    let to = Some(sockaddr::inet(SocketAddr::new(stage.near_ip(), 0)));
    let payload = echo_request();
    let sent = peer.call(Call::Send { name: "ping".into(), to, payload, flags: 0 })?;
    let answer = peer.receive("ping", PATIENCE)?;
    ensure!(sent.is_done(), "echo request: {:?}", sent.outcome);
    fates.push(("echo reply", stage.frames_to(remotes.forbidden)?, answer.outcome));

    for (what, frames, answer) in &fates {
        println!("kernel-replies, {what}: frames to a forbidden place {frames} ({answer:?})");
    }
    let escaped = fates.iter().all(|(_, frames, _)| *frames > 0);
    Ok(Finding::Fate(if escaped { Fate::OutOfScope } else { Fate::Blocked }))
}

/// RFC 792: type 8, its checksum, nothing else.
fn echo_request() -> Vec<u8> {
    let checksum = !(8u16 << 8);
    let mut packet = vec![8, 0];
    packet.extend(checksum.to_be_bytes());
    packet.extend([0; 4]);
    packet
}
