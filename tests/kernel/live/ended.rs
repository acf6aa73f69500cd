//! With `--netns-entry`: who is told, and who is left alone.

use std::fs;
use std::time::Duration;

use agent_tests::actor::{Actor, Kind};
use agent_tests::peers::Peers;
use anyhow::{Context, Result, ensure};

use super::herd::{Herd, PEERS_PORT, many, pass};
use crate::flows::{Destination, OUTSIDE_PORT, PORT};
use crate::policies::{FENCE, eea_only, fence};
use crate::scene::Scene;
use crate::suite::Outcome;

/// Flows that must not be touched.
const FEW: usize = 12;
const TOLD: Duration = Duration::from_secs(10);

/// Everything that the tests open flows to is allowed.
pub(super) fn eea_and_us(scene: &Scene) -> String {
    fence(FENCE, "Enforce", scene.crm.name(), "eea-and-us", &["EEA", "US"])
}

pub(super) fn by_a_policy() -> Result<Outcome> {
    let scene = Scene::new()?;
    let peers = Peers::start(scene.far(), PEERS_PORT)?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let setup = scene.agent()?.policy(&eea_and_us(&scene))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let said = || format!("ringfence run said:\n{}", agent.said());

    let kept = Herd::pair(&mut crm, ["kept tcp", "kept udp"], Destination::Allowed, FEW)?;
    let unfenced = [
        Herd::open(&mut other, "other tcp", Kind::Tcp, Destination::Forbidden, OUTSIDE_PORT, FEW)?,
        Herd::open(&mut other, "other udp", Kind::Udp, Destination::Forbidden, OUTSIDE_PORT, FEW)?,
    ];
    let cut = Herd::pair(&mut crm, ["cut tcp", "cut udp"], Destination::Forbidden, many())?;

    let generation = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let before = [cut[0].payload(&scene.sniffer)?, cut[1].payload(&scene.sniffer)?];
    let detail = pass(&watch, generation).with_context(said)?;
    println!("live: {detail}");
    let (ended, checked) = (2 * cut[0].count, 2 * (cut[0].count + kept[0].count));
    ensure!(
        detail.starts_with(&format!("ended {ended} of {checked} open flows"))
            && detail.ends_with("0 could not be ended"),
        "not all blocked flows were ended, or others: {detail}"
    );

    for (herd, before) in cut.iter().zip(before) {
        let after = herd.payload(&scene.sniffer)?;
        ensure!(
            after == before,
            "LEAK: {} frames with payload after the policy was in force",
            after - before
        );
        herd.one_record_each(&watch, generation).with_context(said)?;
    }

    // What is allowed, and what is nobody's business.
    kept.iter().try_for_each(|herd| herd.must_echo(&mut crm, "beside ended flows"))?;
    unfenced.iter().try_for_each(|herd| herd.must_echo(&mut other, "beside ended flows"))?;
    let fates =
        peers.wait_for("the peer of each ended flow to see its reset", TOLD, |f| f.reset >= cut[0].count)?;
    ensure!(fates.reset == cut[0].count && fates.finished == 0, "the peers saw {fates:?}");

    // The mutant: without hooks the same flows are nobody's business either.
    agent.stop()?;
    let [again, _] = Herd::pair(&mut crm, ["again tcp", "again udp"], Destination::Forbidden, FEW)?;
    ensure!(again.payload(&scene.sniffer)? > before[0], "the judge does not see payload");
    Ok(Outcome::Passed)
}

/// What is busy meets the policy by itself before anybody ends it.
pub(super) fn while_busy() -> Result<Outcome> {
    let scene = Scene::new()?;
    let _peers = Peers::start(scene.far(), PEERS_PORT)?;
    let (mut tcp_actor, mut udp_actor) = (scene.crm_actor()?, scene.crm_actor()?);
    let setup = scene.agent()?.policy(&eea_and_us(&scene))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let tcp = Herd::open(&mut tcp_actor, "tcp", Kind::Tcp, Destination::Forbidden, PEERS_PORT, FEW)?;
    let udp = Herd::open(&mut udp_actor, "udp", Kind::Udp, Destination::Forbidden, PORT, FEW)?;
    let busy = Duration::from_secs(3);
    tcp_actor.begin(&tcp.sends(busy)?)?;
    udp_actor.begin(&udp.sends(busy)?)?;

    let generation = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let before = [tcp.payload(&scene.sniffer)?, udp.payload(&scene.sniffer)?];
    let detail =
        pass(&watch, generation).with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    println!("live: {detail}");
    let told = [tcp_actor.answer(busy)?.herd(), udp_actor.answer(busy)?.herd()];
    for ((herd, before), told) in [&tcp, &udp].into_iter().zip(before).zip(told) {
        let after = herd.payload(&scene.sniffer)?;
        ensure!(
            after == before,
            "LEAK: {} frames with payload after the policy was in force",
            after - before
        );
        ensure!(told.get("done").is_some_and(|n| *n > 0), "it was not busy before: {told:?}");
        let ends = ["EPIPE", "EDESTADDRREQ"].map(|e| told.get(e).copied().unwrap_or(0));
        ensure!(ends.iter().sum::<u64>() >= herd.count, "callers were not told: {told:?}");
        herd.one_record_each(&watch, generation)
            .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    }
    Ok(Outcome::Passed)
}

pub(super) fn by_the_first_policy() -> Result<Outcome> {
    let scene = Scene::new()?;
    let _peers = Peers::start(scene.far(), PEERS_PORT)?;
    let mut crm = scene.crm_actor()?;
    let kept = Herd::pair(&mut crm, ["kept tcp", "kept udp"], Destination::Allowed, FEW)?;
    let cut = Herd::pair(&mut crm, ["cut tcp", "cut udp"], Destination::Forbidden, FEW)?;
    let before = [cut[0].payload(&scene.sniffer)?, cut[1].payload(&scene.sniffer)?];

    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let generation = agent.generation()?;
    let said = || format!("ringfence run said:\n{}", agent.said());
    println!("live: {}", pass(&watch, generation).with_context(said)?);
    for (herd, before) in cut.iter().zip(before) {
        herd.must_be_told(&mut crm)?;
        let after = herd.payload(&scene.sniffer)?;
        ensure!(after == before, "LEAK: {} frames with payload after the first policy", after - before);
        herd.one_record_each(&watch, generation).with_context(said)?;
    }
    kept.iter().try_for_each(|herd| herd.must_echo(&mut crm, "beside ended flows"))?;
    Ok(Outcome::Passed)
}

/// The cgroup that a socket was made in counts, not that of the process which has it now.
pub(super) fn whose_socket_it_is() -> Result<Outcome> {
    let scene = Scene::new()?;
    let _peers = Peers::start(scene.far(), PEERS_PORT)?;
    let (mut joins, mut leaves) = (scene.other_actor()?, scene.crm_actor()?);
    let setup = scene.agent()?.policy(&eea_and_us(&scene))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let others = Herd::pair(&mut joins, ["other tcp", "other udp"], Destination::Forbidden, FEW)?;
    let mine = Herd::pair(&mut leaves, ["my tcp", "my udp"], Destination::Forbidden, FEW)?;
    move_to(&joins, &scene.crm)?;
    // One stays behind, or the namespace would have no fenced process and not be found.
    let _stays = scene.crm_actor()?;
    move_to(&leaves, &scene.other)?;

    let generation = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let detail =
        pass(&watch, generation).with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    ensure!(detail.starts_with(&format!("ended {0} of {0} open flows", 2 * FEW)), "{detail}");
    mine.iter().try_for_each(|herd| herd.must_be_told(&mut leaves))?;
    others.iter().try_for_each(|herd| herd.must_echo(&mut joins, "made outside the fence"))?;

    // The mutant: what it makes now is the fenced workload's.
    let shape =
        crate::flows::Shape { address: crate::flows::Address::V4, used: crate::flows::Use::UdpConnected };
    let mut flow = crate::flows::Flow::open(&mut joins, shape, shape.target(Destination::Forbidden, PORT))?;
    ensure!(!flow.exchange(&mut joins, false)?.echoed, "the process was moved, and yet is not fenced");
    Ok(Outcome::Passed)
}

fn move_to(actor: &Actor, cgroup: &agent_tests::cgroup::Cgroup) -> Result<()> {
    let procs = cgroup.path().join("cgroup.procs");
    fs::write(&procs, actor.pid().to_string())
        .with_context(|| format!("cannot move a process to {}", procs.display()))
}
