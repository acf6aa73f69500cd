//! A changed policy goes live at once; a bad one changes nothing, also over a restart.

use std::time::Duration;

use agent_tests::actor::Actor;
use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::{FENCE, eea_only, fence};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const NOTICED: Duration = Duration::from_secs(20);
const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "reload::a_changed_policy_goes_live_a_bad_one_keeps_the_last_good_image",
            reload,
        ),
        trial(Place::Anywhere, "reload::the_last_good_image_holds_over_a_restart_with_a_bad_policy", restart),
        trial(Place::Anywhere, "reload::a_bad_policy_at_the_first_start_is_refused_with_its_place", refused),
    ]
}

/// The word is not a jurisdiction: the whole document must be refused.
fn bad(scene: &Scene) -> String {
    fence(FENCE, "Enforce", scene.crm.name(), "typo", &["EAE"])
}

/// The EEA is blocked and the United States allowed: [`eea_only`] turned round.
fn us_only(scene: &Scene) -> String {
    fence(FENCE, "Enforce", scene.crm.name(), "us", &["US"])
}

/// Whether an exchange to the destination comes back.
fn passes(crm: &mut Actor, destination: Destination) -> Result<bool> {
    let mut flow = Flow::open(crm, SHAPE, SHAPE.target(destination, PORT))?;
    let echoed = flow.exchange(crm, false)?.echoed;
    flow.close(crm)?;
    Ok(echoed)
}

fn reload() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    must_echo(&mut crm, SHAPE, SHAPE.target(Destination::Forbidden, PORT), "fence off")?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the first policy does not hold");
    ensure!(passes(&mut crm, Destination::Allowed)?, "the first policy blocks too much");

    let generation = agent.publish(&setup, &us_only(&scene))?;
    ensure!(passes(&mut crm, Destination::Forbidden)?, "the second policy is not in force");
    ensure!(!passes(&mut crm, Destination::Allowed)?, "the first policy is still in force");

    setup.write_policy(&bad(&scene))?;
    wait_for("the agent to say what is wrong", NOTICED, || Ok(agent.said().contains("EAE").then_some(())))
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    ensure!(agent.generation()? == generation, "a bad policy made a new generation");
    ensure!(passes(&mut crm, Destination::Forbidden)?, "a bad policy changed a verdict");
    ensure!(!passes(&mut crm, Destination::Allowed)?, "a bad policy opened the fence");

    // A good one again.
    agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the third policy is not in force");

    // The mutant.
    agent.stop()?;
    ensure!(passes(&mut crm, Destination::Forbidden)?, "blocked without hooks");
    Ok(Outcome::Passed)
}

fn restart() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    setup.start()?.stop()?;
    ensure!(passes(&mut crm, Destination::Forbidden)?, "the agent is stopped and the fence still there");

    setup.write_policy(&bad(&scene))?;
    let agent = setup.start().context("the agent must start with its last good policy")?;
    ensure!(agent.said().contains("EAE"), "the agent does not say what is wrong:\n{}", agent.said());
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the last good policy did not survive the restart");
    ensure!(passes(&mut crm, Destination::Allowed)?, "not the last good policy");
    Ok(Outcome::Passed)
}

fn refused() -> Result<Outcome> {
    let scene = Scene::new()?;
    let setup = scene.agent()?.policy(&bad(&scene))?;
    let (code, said) = setup.run_to_refusal()?;
    ensure!(code == Some(1), "exit code {code:?}, expected 1:\n{said}");
    for part in ["policy.yaml:", "EAE"] {
        ensure!(said.contains(part), "the refusal does not say {part}:\n{said}");
    }
    Ok(Outcome::Passed)
}
