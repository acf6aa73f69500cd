//! Workloads that are somewhere else than the fence was built for: namespaces, cgroups, behind a local proxy.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use agent_tests::actor::{Actor, Call, Family, Kind, Profile};
use agent_tests::cgroup::Cgroup;
use agent_tests::netns::Netns;
use agent_tests::sniffer::Sniffer;
use agent_tests::sockaddr;
use agent_tests::world::World;
use anyhow::{Context, Result, ensure};

use super::fate::{Arms, Finding};
use super::nft;
use super::stage::{AT_CONNECT, AT_EGRESS, Stage, all, datagram};
use super::{Row, rows_of};
use crate::flows::{OUTSIDE_PORT, PORT};

/// Payload of one send, bytes.
const BYTES: usize = 32;
/// Time limit of a connect, milliseconds.
const LIMIT: u64 = 1_500;
/// Where the local proxy listens, as a service mesh's does.
const PROXY: u16 = 15_001;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("other-netns", other_netns),
            ("nested-cgroup", nested_cgroup),
            ("removed-cgroup", removed_cgroup),
            ("mesh-redirect", mesh_redirect),
        ],
    )
}

fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, PORT)
}

/// Enters a second world, by way of this process's descriptor of it.
fn enter(actor: &mut Actor, elsewhere: &Netns) -> Result<()> {
    let file = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), elsewhere.fd().as_raw_fd()));
    let entered = actor.call(Call::EnterNetns { file })?;
    ensure!(entered.is_done(), "setns: {:?}", entered.outcome);
    ensure!(actor.call(Call::DropCapabilities)?.is_done(), "capabilities");
    Ok(())
}

fn other_netns(stage: &mut Stage) -> Result<Finding> {
    let elsewhere = World::any()?;
    let sniffer = Sniffer::start(&elsewhere)?;
    let mut fates = Vec::new();
    for (kind, told) in [(Kind::Udp, &AT_EGRESS), (Kind::Tcp, &AT_CONNECT)] {
        let remotes = stage.remotes(Family::V4)?;
        let arms = [
            (stage.unfenced(Profile::Root)?, remotes.unfenced),
            (stage.fenced(Profile::Root)?, remotes.forbidden),
            (stage.fenced(Profile::Root)?, remotes.allowed),
        ];
        for (mut actor, to) in arms {
            enter(&mut actor, elsewhere.near())?;
            send(&mut actor, kind, at(to))?;
        }
        let frames = |ip| -> Result<u64> { Ok(sniffer.frames_to(ip)?.frames) };
        let arms = Arms {
            unfenced: frames(remotes.unfenced)?,
            forbidden: frames(remotes.forbidden)?,
            allowed: frames(remotes.allowed)?,
        };
        println!("other-netns, {kind:?}: {arms:?}");
        stage.told(remotes.forbidden, told)?;
        fates.push(arms.fate()?);
    }
    all(fates)
}

/// A datagram, or a connect.
fn send(actor: &mut Actor, kind: Kind, to: SocketAddr) -> Result<()> {
    match kind {
        Kind::Udp => datagram(actor, to).map(drop),
        Kind::Tcp => {
            ensure!(actor.open("s", Family::V4, Kind::Tcp)?.is_done(), "no socket");
            let to = sockaddr::inet(to);
            actor.call(Call::Connect { name: "s".into(), to, limit_ms: LIMIT }).map(drop)
        }
    }
}

/// As container engines inside a container, or a systemd, make them: two levels down.
fn nested_cgroup(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for (kind, told) in [(Kind::Udp, &AT_EGRESS), (Kind::Tcp, &AT_CONNECT)] {
        let child = stage.scene.crm.child("nested")?;
        let grandchild = child.child("deeper")?;
        let remotes = stage.remotes(Family::V4)?;
        send(&mut stage.unfenced(Profile::None)?, kind, at(remotes.unfenced))?;
        for to in [remotes.forbidden, remotes.allowed] {
            send(&mut Actor::start_as(Profile::None, stage.scene.near(), &grandchild)?, kind, at(to))?;
        }
        fates.push(stage.arms(&format!("nested-cgroup, {kind:?}"), remotes)?.fate()?);
        stage.told(remotes.forbidden, told)?;
        drop(grandchild);
    }
    all(fates)
}

/// The socket is made in a cgroup that then goes away, with the fence's subject in one case and below it in the
/// other. It is used while the image of before is in force, and again once there is a new one, made without the cgroup.
fn removed_cgroup(stage: &mut Stage) -> Result<Finding> {
    let subject = stage.take_doomed()?;
    let below = stage.scene.crm.child("below")?;
    let mut survivors = Vec::new();
    for (what, cgroup) in [("below the subject", below), ("the subject itself", subject)] {
        survivors.push((what, outlive(stage, cgroup)?));
    }
    let mut fates = Vec::new();
    for (image, is_new) in [("the old image", false), ("a new image", true)] {
        if is_new {
            stage.publish_anew()?;
        }
        for (what, actor) in &mut survivors {
            let remotes = stage.remotes(Family::V4)?;
            datagram(&mut stage.unfenced(Profile::None)?, at(remotes.unfenced))?;
            for to in [remotes.forbidden, remotes.allowed] {
                actor.send_to("s", at(to), BYTES)?;
            }
            fates.push(stage.arms(&format!("removed-cgroup, {what}, {image}"), remotes)?.fate()?);
        }
    }
    all(fates)
}

/// A process outside that holds a socket of `cgroup`, which is gone.
fn outlive(stage: &Stage, cgroup: Cgroup) -> Result<Actor> {
    let mut actor = Actor::start_as(Profile::None, stage.scene.near(), &cgroup)?;
    ensure!(actor.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket");
    let moved = actor.call(Call::MoveTo { procs: stage.scene.other.path().join("cgroup.procs") })?;
    ensure!(moved.is_done(), "cgroup.procs: {:?}", moved.outcome);
    let path = cgroup.path().to_owned();
    drop(cgroup);
    ensure!(!path.exists(), "{} is still there", path.display());
    Ok(actor)
}

/// Connects to port 443 are redirected to a proxy that is not fenced, which goes on to where they were meant to go.
fn mesh_redirect(stage: &mut Stage) -> Result<Finding> {
    let rules = format!(
        "table ip mesh {{ chain out {{ type nat hook output priority -100; \
         tcp dport {PORT} redirect to :{PROXY}; }}; }}"
    );
    if let Some(reason) = nft::load(stage.scene.near(), &rules)? {
        return Ok(Finding::NotHere(reason));
    }
    let fate = redirected(stage);
    nft::remove(stage.scene.near(), "ip mesh")?;
    fate
}

fn redirected(stage: &mut Stage) -> Result<Finding> {
    let mut proxy = stage.unfenced(Profile::None)?;
    ensure!(proxy.open("listener", Family::V4, Kind::Tcp)?.is_done(), "no socket");
    let here = sockaddr::inet(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), PROXY));
    ensure!(proxy.call(Call::Bind { name: "listener".into(), to: here })?.is_done(), "bind");
    ensure!(proxy.call(Call::Listen { name: "listener".into() })?.is_done(), "listen");
    let remotes = stage.remotes(Family::V4)?;
    let arms = [
        (stage.unfenced(Profile::None)?, remotes.unfenced),
        (stage.fenced(Profile::None)?, remotes.forbidden),
        (stage.fenced(Profile::None)?, remotes.allowed),
    ];
    for (mut client, to) in arms {
        ensure!(client.open("s", Family::V4, Kind::Tcp)?.is_done(), "no socket");
        if client.connect("s", at(to))?.is_done() {
            let connection = format!("for {to}");
            let accept = Call::Accept { name: "listener".into(), connection, limit_ms: LIMIT };
            ensure!(proxy.call(accept)?.is_done(), "connected, but not to the proxy");
            let onward = format!("to {to}");
            ensure!(proxy.open(&onward, Family::V4, Kind::Tcp)?.is_done(), "no socket");
            let answer = proxy.connect(&onward, SocketAddr::new(to, OUTSIDE_PORT))?;
            ensure!(answer.is_done(), "the proxy: {:?}", answer.outcome);
        }
    }
    let fate = stage.arms("mesh-redirect", remotes)?.fate().context("through the proxy")?;
    stage.told(remotes.forbidden, &AT_CONNECT)?;
    all([fate])
}
