//! What the kernel answers for a pod without asking a socket: to where the fence lets the pod send, it is sent.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::stage::Stage;
use crate::suite::Outcome;

/// Nobody listens there.
const CLOSED: u16 = 9;
/// The kernel answers so many at once, and then one a second (`icmp_ratelimit`).
const ASKED: u64 = 3;

/// A datagram or a connection to a closed port of the pod, from an allowed and from a forbidden place.
pub(super) fn of_the_kernel() -> Result<Outcome> {
    let stage = Stage::new()?;
    let _crm = stage.actor()?;
    let allowed: [SocketAddr; 2] = [
        (Ipv4Addr::new(46, 4, 10, 60), 5_000).into(),
        (Ipv6Addr::new(0x2a01, 0x4f8, 0, 0, 0, 0, 0, 0x60), 5_000).into(),
    ];
    let forbidden: [SocketAddr; 2] = [
        (Ipv4Addr::new(13, 110, 54, 60), 5_000).into(),
        (Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, 0, 0x60), 5_000).into(),
    ];
    for from in forbidden {
        ensure!(answers(&stage, from)? > 0, "no fence: the kernel does not answer {from}");
    }

    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    for from in allowed {
        let answers = answers(&stage, from)?;
        ensure!(answers > 0, "the kernel's answers to {from} were stopped:\n{}", agent.said());
    }
    for from in forbidden.map(|from| SocketAddr::new(from.ip(), 5_001)) {
        let answers = answers(&stage, from)?;
        ensure!(answers == 0, "{answers} answers of the kernel's went to {from}");
    }
    Ok(Outcome::Passed)
}

/// How many frames come back for datagrams and a connection from `from`.
fn answers(stage: &Stage, from: SocketAddr) -> Result<u64> {
    let to = SocketAddr::new(stage.pod.address_like(from.ip()), CLOSED);
    let before = stage.sniffer.frames_to(from.ip())?.frames;
    let socket = UdpSocket::from(bound(stage, from, SocketType::DGRAM)?);
    for _ in 0..ASKED {
        // The answer to the last one may be the error of this one.
        socket.send_to(b"anybody there?", to).ok();
    }
    let udp = settled(stage, from)? - before;
    let dialler = bound(stage, from, SocketType::STREAM)?;
    rustix::io::ioctl_fionbio(&dialler, true)?;
    // Refused or under way: what comes back counts.
    rustix::net::connect(&dialler, &to).ok();
    let both = settled(stage, from)? - before;
    ensure!(
        (udp == 0) == (both == udp),
        "{from}: {udp} answers to datagrams, {} to a connection",
        both - udp
    );
    Ok(both)
}

/// Frames to `from`, when all is on the wire: a question travels to the pod, and only then does its answer set out. Each
/// flush outlasts one way.
fn settled(stage: &Stage, from: SocketAddr) -> Result<u64> {
    stage.sniffer.flush()?;
    stage.sniffer.flush()?;
    Ok(stage.sniffer.frames_to(from.ip())?.frames)
}

fn bound(stage: &Stage, from: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    stage.node.world().far().run(|| {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if from.is_ipv4() {
            set_ip_freebind(&socket, true)?;
        } else {
            set_ipv6_freebind(&socket, true)?;
        }
        bind(&socket, &from).with_context(|| format!("binding {from}"))?;
        Ok(socket)
    })
}
