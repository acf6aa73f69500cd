//! What is enforced lies pinned: it outlives the agent, is taken over by the next one, and goes when it is told to.

mod flood;
mod gap;
mod kill;
mod upgrade;

use std::collections::BTreeMap;
use std::fs;

use agent_tests::actor::Actor;
use agent_tests::agent::Setup;
use anyhow::{Context, Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::{FENCE, eea_only, fence};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = vec![
        trial(
            Place::Anywhere,
            "pins::a_stopped_agent_leaves_the_fence_and_uninstall_removes_all_of_it",
            removed,
        ),
        trial(Place::Anywhere, "pins::a_second_agent_is_refused_and_changes_nothing", second),
        trial(Place::Anywhere, "pins::pins_of_another_cgroup_root_are_refused_with_the_mend", other_root),
        trial(Place::Anywhere, "pins::the_next_agent_keeps_the_links_and_replaces_their_programs", adopted),
        trial(
            Place::Anywhere,
            "pins::a_link_that_somebody_removed_is_attached_again_at_the_next_start",
            missing,
        ),
        trial(
            Place::Anywhere,
            "pins::a_policy_that_is_refused_at_a_restart_leaves_the_old_image_in_force",
            refused,
        ),
        trial(Place::Anywhere, "pins::a_first_start_that_fails_leaves_nothing_behind", failed_first),
        trial(Place::Anywhere, "pins::maps_that_are_not_whole_are_replaced_without_opening", not_whole),
    ];
    all.extend(gap::trials());
    all.extend(kill::trials());
    all.extend(upgrade::trials());
    all
}

/// Whether a datagram to the destination comes back.
fn passes(crm: &mut Actor, destination: Destination) -> Result<bool> {
    let mut flow = Flow::open(crm, SHAPE, SHAPE.target(destination, PORT))?;
    let echoed = flow.exchange(crm, false)?.echoed;
    flow.close(crm)?;
    Ok(echoed)
}

/// Tracepoints: their links can't be given another program, so the next agent attaches its own beside first.
fn is_tracepoint(name: &str) -> bool {
    name.starts_with("cgroup_")
}

/// Link and program id of each pinned link, by name.
fn links(setup: &Setup) -> Result<BTreeMap<String, (u32, u32)>> {
    let folder = setup.pins().join("links");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        let entry = entry?;
        let info = FdLink::from(PinnedLink::from_pin(entry.path())?).info()?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), (info.id(), info.program_id()));
    }
    Ok(found)
}

fn removed() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    must_echo(&mut crm, SHAPE, SHAPE.target(Destination::Forbidden, PORT), "fence off")?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let agent = setup.start()?;
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the fence does not hold");
    let (code, said) = setup.uninstall()?;
    ensure!(
        code == Some(1) && said.contains("an agent is at work"),
        "uninstall under an agent: {code:?} {said}"
    );
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the refused uninstall opened the fence");

    let said = agent.stop()?;
    ensure!(said.contains("ringfence uninstall"), "the agent does not say how to remove its fence:\n{said}");
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the fence ended with the agent");
    ensure!(passes(&mut crm, Destination::Allowed)?, "without an agent nothing passes");

    let names: Vec<String> = links(&setup)?.into_keys().collect();
    let (code, said) = setup.uninstall()?;
    ensure!(code == Some(0), "uninstall ended with {code:?}: {said}");
    for name in &names {
        ensure!(said.contains(name.as_str()), "uninstall does not say that it removed {name}: {said}");
    }
    ensure!(!setup.pins().exists(), "{} is still there", setup.pins().display());
    ensure!(passes(&mut crm, Destination::Forbidden)?, "uninstalled, and still blocked");
    let (code, said) = setup.uninstall()?;
    ensure!(code == Some(0) && said.contains("nothing is installed"), "a second time: {code:?} {said}");
    Ok(Outcome::Passed)
}

fn second() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    let before = links(&setup)?;
    let open = fence(FENCE, "Audit", scene.crm.name(), "everywhere", &["US"]);
    let second = scene.agent()?.policy(&open)?.pins_of(&setup);
    let (code, said) = second.run_to_refusal()?;
    ensure!(code == Some(1) && said.contains("an agent is at work"), "a second agent: {code:?}\n{said}");
    ensure!(links(&setup)? == before, "the second agent changed the links");
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the second agent opened the fence");
    agent.stop()?;
    Ok(Outcome::Passed)
}

fn other_root() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    setup.start()?.stop()?;
    let elsewhere = Setup::new(&scene.other)?.pins_of(&setup);
    let (code, said) = elsewhere.run_to_refusal()?;
    ensure!(code == Some(1), "links of another cgroup were taken: {code:?}\n{said}");
    for part in ["guard another cgroup", "--cgroup-root", "ringfence uninstall --bpffs"] {
        ensure!(said.contains(part), "the refusal does not say {part}:\n{said}");
    }
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the refused agent opened the fence");
    Ok(Outcome::Passed)
}

fn adopted() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let agent = setup.start()?;
    let (first, generation) = (links(&setup)?, agent.generation()?);
    agent.kill()?;
    ensure!(links(&setup)? == first, "the links changed with the agent's death");

    let agent = setup.start()?;
    let second = links(&setup)?;
    ensure!(first.keys().eq(second.keys()), "other hooks than before: {first:?}, {second:?}");
    for (name, (link, program)) in &first {
        let (new_link, new_program) = second[name];
        ensure!(
            is_tracepoint(name) || *link == new_link,
            "{name}: link {link} became {new_link}: there was a moment without"
        );
        ensure!(*program != new_program, "{name}: still the program of the agent that is dead");
    }
    ensure!(
        agent.generation()? > generation,
        "generations begin again: {} after {generation}",
        agent.generation()?
    );
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the fence does not hold after the restart");
    ensure!(passes(&mut crm, Destination::Allowed)?, "allowed flows are blocked after the restart");
    Ok(Outcome::Passed)
}

fn missing() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    setup.start()?.stop()?;
    let before = links(&setup)?;
    fs::remove_file(setup.pins().join("links/egress"))?;
    let agent = setup.start()?;
    let after = links(&setup)?;
    ensure!(before.keys().eq(after.keys()), "{before:?} became {after:?}");
    ensure!(after["egress"].0 != before["egress"].0, "nobody removed the link");
    ensure!(agent.said().contains("were not attached any more"), "it is not said:\n{}", agent.said());
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the fence does not hold");
    Ok(Outcome::Passed)
}

fn refused() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let agent = setup.start()?;
    let generation = agent.generation()?;
    agent.stop()?;
    setup.forget_state()?;
    setup.write_policy(&fence(FENCE, "Enforce", scene.crm.name(), "typo", &["EAE"]))?;

    let agent = setup.start().context("an agent that inherits an image must start")?;
    let status = agent.status()?;
    ensure!(agent.generation()? == generation, "generation {generation} became {}", agent.generation()?);
    ensure!(status.get("state").and_then(|s| s.as_str()) == Some("Degraded"), "not Degraded: {status}");
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the old image is not in force");
    ensure!(passes(&mut crm, Destination::Allowed)?, "the old image is not in force");

    let now = agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    ensure!(now > generation, "generation {now} after {generation}");
    let status = agent.status()?;
    ensure!(status.get("state").and_then(|s| s.as_str()) == Some("Ready"), "not Ready: {status}");
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the new image is not in force");
    Ok(Outcome::Passed)
}

fn failed_first() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let bad = fence(FENCE, "Enforce", scene.crm.name(), "typo", &["EAE"]);
    let setup = scene.agent()?.policy(&bad)?.keep_on_exit();
    let (code, said) = setup.run_to_refusal()?;
    ensure!(code == Some(1), "exit code {code:?}\n{said}");
    ensure!(!setup.pins().exists(), "{} was left behind", setup.pins().display());
    must_echo(&mut crm, SHAPE, SHAPE.target(Destination::Forbidden, PORT), "after a failed start")?;
    Ok(Outcome::Passed)
}

fn not_whole() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    setup.start()?.stop()?;
    let before = links(&setup)?;
    let maps = fs::read_dir(setup.pins())?.flatten().map(|entry| entry.path());
    let maps = maps.filter(|path| path.join("CONTROL").exists()).collect::<Vec<_>>();
    let [maps] = &maps[..] else { anyhow::bail!("one directory of maps expected: {maps:?}") };
    fs::remove_file(maps.join("IDENTITY"))?;
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "a lost pin opened the fence");

    let agent = setup.start()?;
    ensure!(agent.said().contains("can't be taken over"), "it is not said:\n{}", agent.said());
    ensure!(maps.join("IDENTITY").exists(), "the map is not pinned again");
    for (name, (link, _)) in links(&setup)? {
        ensure!(
            is_tracepoint(&name) || before[&name].0 == link,
            "{name}: a new link, where the old one should have got a new program"
        );
    }
    ensure!(!passes(&mut crm, Destination::Forbidden)?, "the fence does not hold");
    ensure!(passes(&mut crm, Destination::Allowed)?, "allowed flows are blocked");
    Ok(Outcome::Passed)
}
