//! An exception's end: no new image, no message to the agent; the time alone.

use std::time::{Duration, Instant};

use agent_tests::peers::Peers;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::herd::{Herd, PEERS_PORT, pass};
use crate::flows::{Destination, PORT};
use crate::policies::{FENCE, eea_only, exception};
use crate::scene::Scene;
use crate::suite::{Outcome, in_vm};

const SOME: usize = 30;
/// Life of the exception, beside the time that its publication and the opening of flows take.
const LIFE: Duration = Duration::from_secs(4);
/// How late flows may be ended.
const LATE: Duration = Duration::from_secs(2);

pub(super) fn on_time() -> Result<Outcome> {
    let scene = Scene::new()?;
    let peers = Peers::start(scene.far(), PEERS_PORT)?;
    let mut crm = scene.crm_actor()?;
    let begun = Instant::now();
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.arg("--netns-entry");
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let said = || format!("ringfence run said:\n{}", agent.said());

    let end = Timestamp::now() + LIFE + begun.elapsed() * 2;
    let open = format!("{{jurisdictions: [US], ports: [{PORT}, {PEERS_PORT}]}}");
    let policy = [eea_only(&scene, "Enforce"), exception("for-now", FENCE, &open, &end.to_string())].concat();
    let generation = agent.publish(&setup, &policy)?;
    let first = pass(&watch, generation).with_context(said)?;
    ensure!(first.starts_with("ended 0 of 0 "), "nothing was open: {first}");
    let kept = Herd::pair(&mut crm, ["kept tcp", "kept udp"], Destination::Allowed, SOME)?;
    let cut = Herd::pair(&mut crm, ["cut tcp", "cut udp"], Destination::Forbidden, SOME)?;
    ensure!(Timestamp::now() < end, "the exception was over before the test began");
    ensure!(peers.fates().reset == 0, "flows were ended before the exception was: {:?}", peers.fates());

    // The same generation, and another pass.
    let limit = Duration::try_from(end - Timestamp::now())? + Duration::from_secs(20);
    let event = watch
        .wait_for("the pass at the exception's end", limit, |event| {
            event.is("kind", "node_state")
                && event.text("detail").is_some_and(|d| d.starts_with("ended 60 of 120 "))
        })
        .with_context(said)?;
    let late = Timestamp::now().duration_since(end);
    println!(
        "live: {} ms after the exception's end: {}",
        late.as_millis(),
        event.text("detail").unwrap_or_default()
    );
    ensure!(late.is_positive(), "flows were ended before their time");
    let tolerance = if in_vm() { LATE * 5 } else { LATE };
    ensure!(late.unsigned_abs() <= tolerance, "flows were ended {} ms late", late.as_millis());
    ensure!(event.number("generation") == Some(generation), "another image: {}", event.0);

    let before = [cut[0].payload(&scene.sniffer)?, cut[1].payload(&scene.sniffer)?];
    for (herd, before) in cut.iter().zip(before) {
        herd.must_be_told(&mut crm)?;
        ensure!(herd.payload(&scene.sniffer)? == before, "LEAK: payload after the exception's end");
        herd.one_record_each(&watch, generation).with_context(said)?;
    }
    kept.iter().try_for_each(|herd| herd.must_echo(&mut crm, "beside an exception's end"))?;
    Ok(Outcome::Passed)
}
