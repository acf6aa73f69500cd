//! Sockets that change hands, and processes that change cgroups. A socket belongs for life to the cgroup that it was
//! made in (`sock_cgroup_data`, set by `sk_alloc`), whoever uses it.

use std::net::SocketAddr;
use std::path::Path;

use agent_tests::actor::{Actor, Call, Family, Kind, Profile};
use agent_tests::cgroup::Cgroup;
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};

use super::fate::{Fate, Finding};
use super::stage::{AT_EGRESS, Remotes, Stage, all, datagram};
use super::{Row, rows_of};
use crate::flows::PORT;

/// Payload of one send, bytes.
const BYTES: usize = 32;
/// Time limit of what must happen, milliseconds.
const PATIENCE: u64 = 5_000;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("passed-in-socket", passed_in_socket),
            ("taken-socket", taken_socket),
            ("passed-out-socket", passed_out_socket),
            ("moved-out-process", moved_out_process),
            ("other-cgroup", other_cgroup),
        ],
    )
}

/// A connected pair of unix sockets named `door`, one in each process.
fn join(directory: &Path, listening: &mut Actor, connecting: &mut Actor) -> Result<()> {
    let path = directory.join(format!("door-{}-{}", listening.pid(), connecting.pid()));
    let address = sockaddr::unix(&path).context("the directory's path is too long for a unix socket")?;
    let socket = |name: &str| {
        let (domain, kind) = (libc::AF_UNIX, libc::SOCK_STREAM);
        Call::Socket { name: name.into(), domain, kind, protocol: 0 }
    };
    ensure!(listening.call(socket("listener"))?.is_done(), "no unix socket");
    ensure!(listening.call(Call::Bind { name: "listener".into(), to: address.clone() })?.is_done(), "bind");
    ensure!(listening.call(Call::Listen { name: "listener".into() })?.is_done(), "listen");
    ensure!(connecting.call(socket("door"))?.is_done(), "no unix socket");
    let connect = Call::Connect { name: "door".into(), to: address, limit_ms: PATIENCE };
    ensure!(connecting.call(connect)?.is_done(), "cannot connect to {}", path.display());
    let (name, connection) = ("listener".into(), "door".into());
    ensure!(listening.call(Call::Accept { name, connection, limit_ms: PATIENCE })?.is_done(), "accept");
    Ok(())
}

/// `giver` makes a UDP socket; `taker` gets it by `SCM_RIGHTS` and sends over it.
fn pass(directory: &Path, giver: &mut Actor, taker: &mut Actor, to: SocketAddr) -> Result<()> {
    ensure!(giver.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket to give");
    join(directory, taker, giver)?;
    let given = giver.call(Call::Pass { name: "s".into(), over: "door".into() })?;
    ensure!(given.is_done(), "SCM_RIGHTS: {:?}", given.outcome);
    let taken = taker.call(Call::Take { name: "s".into(), over: "door".into() })?;
    ensure!(taken.is_done(), "SCM_RIGHTS: {:?}", taken.outcome);
    taker.send_to("s", to, BYTES).map(drop)
}

fn at(ip: std::net::IpAddr) -> SocketAddr {
    SocketAddr::new(ip, PORT)
}

/// An escape: shown by frames to a forbidden place, and said whether any event names it as the fenced workload's.
fn escape(stage: &mut Stage, what: &str, remotes: Remotes) -> Result<Finding> {
    let arms = stage.arms(what, remotes)?;
    let told = stage.is_told_of(remotes.forbidden)?;
    println!("{what}: an event of the fenced workload names it: {told}");
    let fate = arms.fate()?;
    Ok(Finding::Fate(if fate == Fate::OutOfScope && told { Fate::Seen } else { fate }))
}

fn passed_in_socket(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    datagram(&mut stage.unfenced(Profile::None)?, at(remotes.unfenced))?;
    let (mut giver, mut crm) = (stage.unfenced(Profile::None)?, stage.fenced(Profile::None)?);
    pass(stage.directory(), &mut giver, &mut crm, at(remotes.forbidden))?;
    escape(stage, "passed-in-socket", remotes)
}

fn taken_socket(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    datagram(&mut stage.unfenced(Profile::None)?, at(remotes.unfenced))?;
    let (mut owner, mut crm) = (stage.unfenced(Profile::None)?, stage.fenced(Profile::None)?);
    ensure!(owner.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket to take");
    let number = i32::try_from(owner.call(Call::Number { name: "s".into() })?.bytes)?;
    let taken = crm.call(Call::TakeFrom { name: "s".into(), pid: owner.pid(), number })?;
    if !taken.is_done() {
        return Ok(Finding::NotHere(format!("this kernel refuses pidfd_getfd: {:?}", taken.outcome)));
    }
    crm.send_to("s", at(remotes.forbidden), BYTES)?;
    escape(stage, "taken-socket", remotes)
}

fn passed_out_socket(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    let mut helper = stage.unfenced(Profile::None)?;
    pass(stage.directory(), &mut helper, &mut stage.unfenced(Profile::None)?, at(remotes.unfenced))?;
    for to in [remotes.forbidden, remotes.allowed] {
        let (mut crm, mut taker) = (stage.fenced(Profile::None)?, stage.unfenced(Profile::None)?);
        pass(stage.directory(), &mut crm, &mut taker, at(to))?;
    }
    let fate = stage.arms("passed-out-socket", remotes)?.fate()?;
    stage.told(remotes.forbidden, &AT_EGRESS)?;
    all([fate])
}

/// `actor` moves itself to `cgroup`. Root may write there; a container's root may where it has the file system.
fn leave(actor: &mut Actor, cgroup: &Cgroup) -> Result<()> {
    let moved = actor.call(Call::MoveTo { procs: cgroup.path().join("cgroup.procs") })?;
    ensure!(moved.is_done(), "cgroup.procs: {:?}", moved.outcome);
    let now = actor.tell(&agent_tests::actor::Command::Identify)?.cgroup;
    ensure!(now.as_deref() == Some(cgroup.name()), "the process is in {now:?}, not in {}", cgroup.name());
    Ok(())
}

fn moved_out_process(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for kind in [Kind::Udp, Kind::Tcp] {
        let remotes = stage.remotes(Family::V4)?;
        let arms = [
            (stage.unfenced(Profile::None)?, remotes.unfenced),
            (stage.fenced(Profile::None)?, remotes.forbidden),
            (stage.fenced(Profile::None)?, remotes.allowed),
        ];
        for (mut actor, to) in arms {
            ensure!(actor.open("s", Family::V4, kind)?.is_done(), "no socket");
            leave(&mut actor, &stage.scene.other)?;
            match kind {
                Kind::Udp => actor.send_to("s", at(to), BYTES)?,
                Kind::Tcp => {
                    let to = sockaddr::inet(at(to));
                    actor.call(Call::Connect { name: "s".into(), to, limit_ms: 1_500 })?
                }
            };
        }
        fates.push(stage.arms(&format!("moved-out-process, {kind:?}"), remotes)?.fate()?);
        stage.told(remotes.forbidden, &AT_EGRESS)?;
    }
    all(fates)
}

fn other_cgroup(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    datagram(&mut stage.unfenced(Profile::None)?, at(remotes.unfenced))?;
    let mut crm = stage.fenced(Profile::None)?;
    leave(&mut crm, &stage.scene.other)?;
    datagram(&mut crm, at(remotes.forbidden))?;
    escape(stage, "other-cgroup", remotes)
}
