//! Connections that the workload accepted: `inbound: Allow` lets them through, and nobody ends them; `inbound: Judge`
//! judges them by their peer.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use agent_tests::actor::{Actor, Command};
use agent_tests::world::NEAR;
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::ended::eea_and_us;
use super::herd::pass;
use crate::flows::{Address, Destination, Shape, Use};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::Outcome;

/// What the workload serves on.
const SERVED: u16 = 7443;
const FEW: usize = 6;
const NAME: &str = "accepted";
const LIMIT: Duration = Duration::from_secs(5);

/// Clients in the far namespace, at an address that the fence forbids.
fn clients(scene: &Scene, actor: &mut Actor) -> Result<Vec<TcpStream>> {
    let shape = Shape { address: Address::V4, used: Use::Tcp };
    let from: IpAddr = shape.target(Destination::Forbidden, 0).ip();
    ensure!(
        actor.tell(&Command::ListenHerd { name: NAME.into(), port: SERVED, count: FEW })?.is_done(),
        "listen"
    );
    let streams = scene.far().run(|| {
        (0..FEW)
            .map(|_| {
                let socket =
                    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                bind(&socket, &SocketAddr::new(from, 0)).context("bind a client to its address")?;
                connect(&socket, &SocketAddr::new(NEAR.0, SERVED)).context("connect a client")?;
                let stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(LIMIT))?;
                Ok(stream)
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let accepted = actor.tell(&Command::AcceptHerd { name: NAME.into(), count: FEW })?.herd();
    ensure!(accepted.get("done") == Some(&(FEW as u64)), "accept: {accepted:?}");
    exchange(&streams, actor).context("before the fence forbids anything")?;
    Ok(streams)
}

/// Each client sends, the workload reads and answers, the client reads the answer.
fn exchange(clients: &[TcpStream], actor: &mut Actor) -> Result<()> {
    for mut client in clients {
        client.write_all(b"ask").context("a client's question")?;
    }
    let read = actor.tell(&Command::ReceiveHerd { name: NAME.into(), limit_ms: 5_000 })?.herd();
    ensure!(read.get("done") == Some(&(clients.len() as u64)), "the workload read {read:?}");
    let sent = actor.tell(&Command::SendHerd { name: NAME.into(), bytes: 8, for_ms: 0 })?.herd();
    ensure!(sent.get("done") == Some(&(clients.len() as u64)), "the workload answered {sent:?}");
    for mut client in clients {
        client.read_exact(&mut [0; 8]).context("the workload's answer")?;
    }
    Ok(())
}

fn inbound_allowed(policy: &str) -> String {
    policy.replace("  default: Block\n", "  default: Block\n  inbound: Allow\n")
}

pub(super) fn by_inbound() -> Result<Outcome> {
    let scene = Scene::new()?;
    if scene.is_loopback() {
        return Ok(Outcome::Skipped(
            "this kernel has no veth: the workload's own peers would be its own".into(),
        ));
    }
    let mut crm = scene.crm_actor()?;
    // One that is older than the agent: who opened it is not known.
    let older = clients(&scene, &mut crm)?;
    let setup = scene.agent()?.policy(&inbound_allowed(&eea_and_us(&scene)))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let said = || format!("ringfence run said:\n{}", agent.said());

    let generation = agent.publish(&setup, &inbound_allowed(&eea_only(&scene, "Enforce")))?;
    let detail = pass(&watch, generation).with_context(said)?;
    ensure!(
        detail.starts_with("ended 0 of 6 ") && detail.contains("6 that may be accepted ones were left"),
        "who opened them is not known, their port listens, and yet: {detail}"
    );
    drop(older);

    // And those that the agent saw being accepted.
    agent.publish(&setup, &inbound_allowed(&eea_and_us(&scene)))?;
    let mut server = scene.crm_actor()?;
    // The first actor's listener has the port.
    drop(crm);
    let streams = clients(&scene, &mut server)?;
    let generation = agent.publish(&setup, &inbound_allowed(&eea_only(&scene, "Enforce")))?;
    let detail = pass(&watch, generation).with_context(said)?;
    ensure!(detail.starts_with("ended 0 of 6 ") && !detail.contains("left"), "they were accepted: {detail}");
    exchange(&streams, &mut server).context("inbound: Allow")?;

    // The mutant: judged by their peer, they are ended.
    let generation = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let detail = pass(&watch, generation).with_context(said)?;
    ensure!(detail.starts_with("ended 6 of 6 "), "inbound: Judge: {detail}");
    let sent = server.tell(&Command::SendHerd { name: NAME.into(), bytes: 8, for_ms: 0 })?.herd();
    ensure!(sent.get("ECONNABORTED") == Some(&(FEW as u64)), "the workload was told {sent:?}");
    Ok(Outcome::Passed)
}
