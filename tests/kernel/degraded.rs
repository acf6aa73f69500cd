//! A fence that requires what the node lacks: refused at a first start, with the mend; if that is agreed to, all else is
//! enforced, and the status, the stream and each event of its workloads say that it is not whole.

use std::process::Command;
use std::time::Duration;

use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::{FENCE, eea_only, fence};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// Features that tests take away.
const WITHOUT: &str = "RINGFENCE_WITHOUT";
/// What the host layer needs one of.
const NO_HOST_LAYER: &str = "tcx,clsact";
const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };
const REPORTED: Duration = Duration::from_secs(10);
const NOTICED: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "degraded::a_first_start_without_what_a_fence_requires_is_refused", refused),
        trial(Place::Anywhere, "degraded::a_first_start_without_a_required_feature_is_refused", no_ring),
        trial(
            Place::Anywhere,
            "degraded::if_allowed_the_rest_is_enforced_and_every_event_says_partial",
            partial,
        ),
    ]
}

/// Features taken away from a command; none for an empty list, whatever this process has been given.
pub(crate) fn without<'a>(command: &'a mut Command, features: &str) -> &'a mut Command {
    command.env(WITHOUT, features)
}

/// The fence of [`eea_only`], enforced, that requires something.
pub(crate) fn requiring(scene: &Scene, what: &str) -> String {
    format!("{}\x20 require: {what}\n", eea_only(scene, "Enforce"))
}

fn refused() -> Result<Outcome> {
    let scene = Scene::new()?;
    let fence = requiring(&scene, "[hostLayer]");
    let cases = [scene.agent()?.env(WITHOUT, NO_HOST_LAYER), scene.agent()?.arg("--host-layer").arg("off")];
    for setup in cases {
        let (code, said) = setup.policy(&fence)?.run_to_refusal()?;
        ensure!(code == Some(1), "exit code {code:?}: {said}");
        for wanted in [FENCE, "hostLayer", "AF_PACKET", "--allow-partial", "nothing was attached"] {
            ensure!(said.contains(wanted), "{wanted} is not said: {said}");
        }
    }
    // The mutant: without `require` the same agent starts.
    let setup = scene.agent()?.env(WITHOUT, NO_HOST_LAYER).policy(&requiring(&scene, "[]"))?;
    let agent = setup.start()?;
    let state = &agent.status()?["state"];
    ensure!(state == "Ready", "state {state} although nothing is required");
    Ok(Outcome::Passed)
}

fn no_ring() -> Result<Outcome> {
    let scene = Scene::new()?;
    let setup = scene.agent()?.env(WITHOUT, "ringBuffer").arg("--allow-partial");
    let (code, said) = setup.run_to_refusal()?;
    ensure!(code == Some(1) && said.contains("ringBuffer"), "exit code {code:?}: {said}");
    let (code, said) = scene.agent()?.env(WITHOUT, "ringBufer").run_to_refusal()?;
    ensure!(code == Some(1) && said.contains("`ringBufer`"), "a typo was taken, exit code {code:?}: {said}");
    Ok(Outcome::Passed)
}

fn partial() -> Result<Outcome> {
    let scene = Scene::new()?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let forbidden = SHAPE.target(Destination::Forbidden, PORT);
    let allowed = SHAPE.target(Destination::Allowed, PORT);
    must_echo(&mut crm, SHAPE, forbidden, "fence off")?;

    // A second fence, around another workload, that requires nothing.
    let beside = fence("beside", "Enforce", scene.other.name(), "eea", &["EEA"]);
    let whole = requiring(&scene, "[]") + &beside;
    let lacking = requiring(&scene, "[hostLayer]") + &beside;
    let setup = scene.agent()?.env(WITHOUT, NO_HOST_LAYER).arg("--allow-partial").policy(&lacking)?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let status = agent.status()?;
    ensure!(status["state"] == "Degraded", "{status}");
    ensure!(status["details"].to_string().contains("hostLayer"), "details: {}", status["details"]);
    state_event(&watch, "Degraded", 1)?;

    // Enforced all the same: the judge sees nothing, and the workload's events say that it is not all.
    let before = SHAPE.arrived(&scene.sniffer, Destination::Forbidden, PORT)?.with_payload;
    let mut flow = Flow::open(&mut crm, SHAPE, forbidden)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "a degraded fence let a forbidden flow through");
    flow.close(&mut crm)?;
    let after = SHAPE.arrived(&scene.sniffer, Destination::Forbidden, PORT)?.with_payload;
    ensure!(before == after, "{} frames passed a degraded fence", after - before);
    must_echo(&mut crm, SHAPE, allowed, "degraded")?;
    must_echo(&mut other, SHAPE, allowed, "degraded")?;
    for (cgroup, remote, says) in [
        (scene.crm.name(), forbidden, true),
        (scene.crm.name(), allowed, true),
        (scene.other.name(), allowed, false),
    ] {
        let is = |event: &Event| event.is_to(remote.ip()) && event.is("cgroup", cgroup);
        let event = watch.wait_for(&format!("the flow of {cgroup} to {remote}"), REPORTED, is)?;
        ensure!(event.flag("partial") == Some(says), "partial should be {says}: {}", event.0);
    }

    // Nothing is required any more: Ready, said, and events are whole; then the other way round, at run time.
    let generation = agent.publish(&setup, &whole)?;
    wait_for("the state to be Ready", NOTICED, || Ok((agent.status()?["state"] == "Ready").then_some(())))?;
    state_event(&watch, "Ready", 1)?;
    must_echo(&mut crm, SHAPE, allowed, "ready")?;
    let event = watch.wait_for("a flow of the new generation", REPORTED, |event| {
        event.is_to(allowed.ip()) && event.number("generation") == Some(generation)
    })?;
    ensure!(event.flag("partial") == Some(false), "partial although nothing is required: {}", event.0);
    agent.publish(&setup, &lacking)?;
    state_event(&watch, "Degraded", 2)?;
    let mut flow = Flow::open(&mut crm, SHAPE, forbidden)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "not enforced after it degraded at run time");
    flow.close(&mut crm)?;

    // The mutant: with the agent stopped the same flow arrives.
    drop(watch);
    agent.stop()?;
    must_echo(&mut crm, SHAPE, forbidden, "agent stopped")?;
    Ok(Outcome::Passed)
}

/// Waits for the `nth` event that says this state.
fn state_event(watch: &Watch, state: &str, nth: usize) -> Result<()> {
    watch
        .wait_until(&format!("{nth} events of state {state}"), REPORTED, |events| {
            let of = |e: &&Event| e.is("kind", "node_state") && e.is("state", state);
            events.iter().filter(of).nth(nth - 1).cloned()
        })
        .and_then(|event| {
            let detail = event.text("detail").unwrap_or_default();
            let wanted = if state == "Degraded" { detail.contains("hostLayer") } else { detail.is_empty() };
            ensure!(wanted, "the event's detail: {}", event.0);
            Ok(())
        })
        .with_context(|| format!("state {state}"))
}
