//! Without `--netns-entry`: the bytes stop all the same; UDP callers are told by EPERM, TCP callers by nothing.

use agent_tests::peers::Peers;
use anyhow::{Context, Result, ensure};

use super::ended::eea_and_us;
use super::herd::{Herd, PEERS_PORT, SILENCE};
use crate::flows::Destination;
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::Outcome;

const SOME: usize = 30;

pub(super) fn without_entry() -> Result<Outcome> {
    let scene = Scene::new()?;
    let peers = Peers::start(scene.far(), PEERS_PORT)?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_and_us(&scene))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let kept = Herd::pair(&mut crm, ["kept tcp", "kept udp"], Destination::Allowed, SOME)?;
    let cut = Herd::pair(&mut crm, ["cut tcp", "cut udp"], Destination::Forbidden, SOME)?;

    let generation = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let before = [cut[0].payload(&scene.sniffer)?, cut[1].payload(&scene.sniffer)?];
    let [tcp, udp] = &cut;
    // The bytes lie in the socket's buffer, and no answer comes: TCP tries again until the caller's own time limit.
    tcp.all(&tcp.send(&mut crm)?, "done", "send")?;
    tcp.all(&tcp.receive(&mut crm, SILENCE)?, "EAGAIN", "receive")?;
    udp.all(&udp.send(&mut crm)?, "EPERM", "send")?;
    udp.all(&udp.receive(&mut crm, SILENCE)?, "EAGAIN", "receive")?;
    for (herd, before) in cut.iter().zip(before) {
        let after = herd.payload(&scene.sniffer)?;
        ensure!(
            after == before,
            "LEAK: {} frames with payload after the policy was in force",
            after - before
        );
        let said = || format!("ringfence run said:\n{}", agent.said());
        herd.one_record_each(&watch, generation).with_context(said)?;
    }
    kept.iter().try_for_each(|herd| herd.must_echo(&mut crm, "beside silent flows"))?;
    ensure!(peers.fates().reset == 0, "a peer was told, by whom? {:?}", peers.fates());

    // The mutant: without hooks what was held back arrives.
    agent.stop()?;
    tcp.all(&tcp.receive(&mut crm, std::time::Duration::from_secs(30))?, "done", "receive without hooks")?;
    udp.must_echo(&mut crm, "without hooks")?;
    ensure!(tcp.payload(&scene.sniffer)? > before[0], "the judge does not see payload");
    Ok(Outcome::Passed)
}
