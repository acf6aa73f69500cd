//! AF_PACKET frames: to a forbidden place none arrives, to an allowed one all do.

use anyhow::{Result, ensure};

use super::stage::{FRAMES, STRANGER, Stage, interface, reported, target};
use crate::flows::{Address, Destination};
use crate::suite::Outcome;

pub(super) fn forbidden(layer: &'static str, how: &'static str, address: Address) -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let (forbidden, allowed) =
        (target(address, Destination::Forbidden), target(address, Destination::Allowed));
    let (bad, good) = (stage.frame(forbidden), stage.frame(allowed));
    for (frame, to) in [(&bad, forbidden), (&good, allowed)] {
        let arrived = stage.arrive(&mut crm, frame, to)?;
        ensure!(arrived == FRAMES, "no fence: {arrived} of {FRAMES} frames to {to} arrived");
    }

    // The cgroup hooks alone do not see them.
    let setup = stage.agent("off")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let arrived = stage.arrive(&mut crm, &bad, forbidden)?;
    ensure!(
        arrived == FRAMES,
        "without the host layer {arrived} of {FRAMES} frames arrived: what stops them?"
    );
    agent.stop()?;

    let setup = stage.agent(layer)?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    ensure!(agent.said().contains(how), "not guarded by {how}:\n{}", agent.said());
    let watch = agent.watch(&["--all"])?;
    let arrived = stage.arrive(&mut crm, &bad, forbidden)?;
    ensure!(arrived == 0, "{arrived} frames to {forbidden} arrived through the host layer");
    let arrived = stage.arrive(&mut crm, &good, allowed)?;
    ensure!(arrived == FRAMES, "the host layer let {arrived} of {FRAMES} allowed frames pass");
    let event = reported(&watch, &agent, forbidden, "Default")?;
    for (field, value) in
        [("verdict", "Block"), ("cgroup", stage.crm.name()), ("country", "US"), ("phase", "Open")]
    {
        ensure!(event.is(field, value), "{field} is not {value}: {}", event.0);
    }
    ensure!(event.is("workload", stage.crm.name()), "workload: {}", event.0);

    // The mutant: without it they arrive again.
    agent.stop()?;
    let arrived = stage.arrive(&mut crm, &bad, forbidden)?;
    ensure!(arrived == FRAMES, "the agent is gone and {arrived} of {FRAMES} frames arrive: who stops them?");
    Ok(Outcome::Passed)
}

pub(super) fn spoofed() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let allowed = target(Address::V4, Destination::Allowed);
    let frame = stage.frame_from(STRANGER, allowed);
    let arrived = stage.arrive(&mut crm, &frame, allowed)?;
    ensure!(arrived == FRAMES, "no fence: {arrived} of {FRAMES} frames arrived");

    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let arrived = stage.arrive(&mut crm, &frame, allowed)?;
    ensure!(arrived == 0, "{arrived} frames with another's source arrived");
    let event = reported(&watch, &agent, allowed, "Spoofed")?;
    ensure!(event.is("verdict", "Block") && event.is("local", &STRANGER.to_string()), "{}", event.0);
    let own = stage.frame(allowed);
    let arrived = stage.arrive(&mut crm, &own, allowed)?;
    ensure!(arrived == FRAMES, "only {arrived} of {FRAMES} frames with the pod's own source arrived");
    Ok(Outcome::Passed)
}

/// What guards an interface outlives an agent that is killed; the next one takes it over, or away where nothing is
/// fenced any more; `ringfence uninstall` takes away what a killed one left.
pub(super) fn outlives_a_kill(layer: &'static str) -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let to = target(Address::V4, Destination::Forbidden);
    let frame = stage.frame(to);
    let arrived = stage.arrive(&mut crm, &frame, to)?;
    ensure!(arrived == FRAMES, "no fence: {arrived} of {FRAMES} frames arrived");

    let setup = stage.agent(layer)?.policy(&stage.policy("Enforce", ""))?;
    for life in ["first", "second"] {
        let agent = setup.start()?;
        let arrived = stage.arrive(&mut crm, &frame, to)?;
        ensure!(arrived == 0, "{arrived} frames arrived under the {life} agent:\n{}", agent.said());
        agent.kill()?;
        let arrived = stage.arrive(&mut crm, &frame, to)?;
        ensure!(arrived == 0, "the {life} agent was killed, and {arrived} frames arrived");
    }

    // A policy that fences another workload only: nothing here is to be guarded any more.
    setup.write_policy(&stage.policy("Enforce", "").replace(stage.crm.name(), "/nobody-of-this-name"))?;
    let agent = setup.start()?;
    let arrived = stage.arrive(&mut crm, &frame, to)?;
    ensure!(arrived == FRAMES, "no fence, and {arrived} of {FRAMES} frames arrived:\n{}", agent.said());
    agent.publish(&setup, &stage.policy("Enforce", ""))?;
    interface(&agent, "the interface to be guarded again", |it| {
        it.get("name").is_some_and(|n| !n.is_null())
    })?;
    let arrived = stage.arrive(&mut crm, &frame, to)?;
    ensure!(arrived == 0, "{arrived} frames arrived although the fence is back");
    agent.kill()?;
    let (code, said) = setup.uninstall()?;
    ensure!(code == Some(0), "uninstall ended with {code:?}: {said}");
    let arrived = stage.arrive(&mut crm, &frame, to)?;
    ensure!(arrived == FRAMES, "uninstalled, and {arrived} of {FRAMES} frames arrived");
    Ok(Outcome::Passed)
}
