//! A further subflow of an MPTCP connection: the peer announces an address, and the kernel connects to it by itself,
//! from a worker that is in no workload's cgroup.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use agent_tests::actor::{Actor, Call, Family, Profile};
use agent_tests::deadline::wait_for;
use agent_tests::netns::Netns;
use agent_tests::sockaddr;
use anyhow::{Context, Result, bail, ensure};

use super::fate::Finding;
use super::stage::{AT_EITHER, Stage, all};
use super::{Row, rows_of};

/// Where the peer serves MPTCP.
const SERVED: u16 = 9_443;
/// How long the kernel may take to open a subflow.
const OPENED: Duration = Duration::from_secs(5);
/// Time limit of a call, milliseconds.
const LIMIT: u64 = 5_000;

pub(super) fn rows() -> Vec<Row> {
    rows_of(file!(), [("mptcp-subflow", mptcp_subflow)])
}

/// `ip mptcp …`. `Some`: there is no such command here.
fn ip_mptcp(namespace: &Netns, arguments: &[&str]) -> Result<Option<String>> {
    namespace.run(|| match Command::new("ip").arg("mptcp").args(arguments).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some("there is no ip command here".into())),
        Err(error) => Err(error).context("cannot start ip"),
        Ok(output) if output.status.success() => Ok(None),
        Ok(output) => {
            bail!("ip mptcp {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
        }
    })
}

/// A listener that answers on every address of the far namespace, so that a subflow finds it too.
fn server(stage: &Stage) -> Result<Option<Actor>> {
    let mut server = stage.far_actor()?;
    if !server.call(mptcp_socket("listener"))?.is_done() {
        return Ok(None);
    }
    let any = sockaddr::inet(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), SERVED));
    ensure!(server.call(Call::Bind { name: "listener".into(), to: any })?.is_done(), "bind");
    ensure!(server.call(Call::Listen { name: "listener".into() })?.is_done(), "listen");
    Ok(Some(server))
}

fn mptcp_socket(name: &str) -> Call {
    let (domain, kind, protocol) = (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
    Call::Socket { name: name.into(), domain, kind, protocol }
}

/// Connects `client` to `home` and exchanges bytes both ways, after which the announcement has arrived.
fn connect(server: &mut Actor, client: &mut Actor, home: IpAddr) -> Result<()> {
    ensure!(client.call(mptcp_socket("s"))?.is_done(), "no MPTCP socket");
    let to = sockaddr::inet(SocketAddr::new(home, SERVED));
    let connected = client.call(Call::Connect { name: "s".into(), to, limit_ms: LIMIT })?;
    ensure!(connected.is_done(), "the first subflow: {:?}", connected.outcome);
    let (name, connection) = ("listener".into(), format!("for {home}"));
    ensure!(
        server.call(Call::Accept { name, connection: connection.clone(), limit_ms: LIMIT })?.is_done(),
        "accept"
    );
    let patience = Duration::from_millis(LIMIT);
    client.send("s", 16)?;
    ensure!(server.receive(&connection, patience)?.is_done(), "the server heard nothing");
    server.send(&connection, 16)?;
    ensure!(client.receive("s", patience)?.is_done(), "the client heard nothing");
    Ok(())
}

fn mptcp_subflow(stage: &mut Stage) -> Result<Finding> {
    let Some(mut server) = server(stage)? else {
        return Ok(Finding::NotHere("this kernel has no MPTCP".into()));
    };
    let limits = ["limits", "set", "subflow", "8", "add_addr_accepted", "8"];
    if let Some(reason) = ip_mptcp(stage.scene.near(), &limits)? {
        return Ok(Finding::NotHere(reason));
    }
    let remotes = stage.remotes(Family::V4)?;
    let arms = [
        (stage.unfenced(Profile::None)?, remotes.unfenced, true),
        (stage.fenced(Profile::None)?, remotes.forbidden, false),
        (stage.fenced(Profile::None)?, remotes.allowed, true),
    ];
    for (mut client, announced, arrives) in arms {
        let home = stage.remotes(Family::V4)?.allowed;
        ip_mptcp(stage.scene.far(), &["endpoint", "add", &announced.to_string(), "signal"])?;
        connect(&mut server, &mut client, home)?;
        if arrives {
            wait_for("a subflow to the announced address", OPENED, || {
                Ok((stage.frames_to(announced)? > 0).then_some(()))
            })?;
        } else {
            stage.told(announced, &AT_EITHER)?;
        }
        ip_mptcp(stage.scene.far(), &["endpoint", "flush"])?;
    }
    all([stage.arms("mptcp-subflow", remotes)?.fate()?])
}
