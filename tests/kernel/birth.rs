//! Identity at birth: a new cgroup of a subject is fenced from the first datagram of the first process in it, whatever
//! the agent is doing.
//!
//! A process is born *into* the new cgroup and sends at once (`CLONE_INTO_CGROUP`). In the tests of the first datagram
//! the agent is stopped (SIGSTOP), so that it can notice nothing: what holds then is the kernel's own.

mod churn;
mod release;
mod stage;

use std::time::Duration;

use agent_tests::agent::Agent;
use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::Value;

use self::stage::{Midwife, Way, arrived, forbidden, forbidden_to_subjects, innocents, setup, subjects};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// Subjects; each is born twice, as a unit that is restarted.
const SUBJECTS: usize = 20;
/// How long the agent may take to classify a stranger.
const CLASSIFIED: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = vec![
        trial(
            Place::Anywhere,
            "birth::a_new_and_a_restarted_cgroup_of_a_subject_send_nothing_while_the_agent_is_stopped",
            || first_datagram(Way::Kernel),
        ),
        trial(
            Place::Anywhere,
            "birth::watched_for_a_new_and_a_restarted_cgroup_of_a_subject_send_nothing_while_the_agent_is_stopped",
            || first_datagram(Way::Watch),
        ),
    ];
    all.extend(churn::trials());
    all.extend(release::trials());
    all
}

fn first_datagram(way: Way) -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut midwife = Midwife::new(&scene)?;
    let names = subjects(SUBJECTS);
    let twice = [names.clone(), names.clone()].concat();
    let innocents = innocents(SUBJECTS);

    // The mutant first: with neither way, every first datagram is a leak, and the judge sees it.
    let unguarded = setup(&scene, Way::Off, &names)?;
    let agent = unguarded.start()?;
    agent.signal(Signal::STOP)?;
    midwife.births(&scene, &twice, forbidden(), 0)?;
    let leaked = arrived(&scene, forbidden())?;
    ensure!(
        leaked == twice.len() as u64,
        "{leaked} of {} got away unknown: is the judge blind?",
        twice.len()
    );
    agent.kill()?;

    let setup = setup(&scene, way, &names)?;
    let agent = setup.start()?;
    says_so(&agent, way)?;
    agent.signal(Signal::STOP)?;
    let before = arrived(&scene, forbidden())?;
    let answer = midwife.births(&scene, &twice, forbidden(), 0)?;
    let leaked = arrived(&scene, forbidden())? - before;
    ensure!(leaked == 0, "LEAK: {leaked} first datagrams of {} ({answer:?})\n{}", twice.len(), agent.said());
    ensure!(answer.times(forbidden(), "EPERM") == twice.len() as u64, "not refused: {answer:?}");

    let answer = midwife.births(&scene, &innocents, forbidden_to_subjects(), 0)?;
    let refused = answer.times(forbidden_to_subjects(), "EPERM");
    match way {
        Way::Kernel => {
            ensure!(refused == 0, "{refused} innocent siblings were blocked: {answer:?}");
        }
        Way::Watch | Way::Off => {
            ensure!(refused == innocents.len() as u64, "strangers that could be subjects passed: {answer:?}");
            agent.signal(Signal::CONT)?;
            classified(&scene, &agent)?;
        }
    }
    Ok(Outcome::Passed)
}

/// Which way it is, and why, is part of the status.
fn says_so(agent: &Agent, way: Way) -> Result<()> {
    let status = agent.status()?;
    let programs = status.get("programs").and_then(Value::as_array).context("no programs in the status")?;
    for name in ["cgroup_mkdir", "cgroup_release"] {
        let program = programs.iter().find(|p| p.get("name").is_some_and(|n| n == name));
        let program = program.with_context(|| format!("no {name} in the status: {status}"))?;
        let attached = program.get("attached").and_then(Value::as_bool);
        ensure!(attached == Some(way == Way::Kernel), "{name} is told wrong: {program}");
        if way == Way::Watch {
            ensure!(
                program.to_string().contains("strictest fences that could be meant"),
                "no why: {program}"
            );
        }
    }
    Ok(())
}

/// Strangers are blocked only until the agent has looked; what is fenced stays so.
fn classified(scene: &Scene, agent: &Agent) -> Result<()> {
    let innocent = scene.root.child("late")?;
    let mut actor = agent_tests::actor::Actor::start(scene.near(), &innocent)?;
    actor.open("u", agent_tests::actor::Family::V4, agent_tests::actor::Kind::Udp)?;
    wait_for("an innocent sibling to be classified", CLASSIFIED, || {
        Ok(actor.send_to("u", forbidden_to_subjects(), 32)?.is_done().then_some(()))
    })
    .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    let subject = scene.root.child("s0")?;
    let mut actor = agent_tests::actor::Actor::start(scene.near(), &subject)?;
    actor.open("u", agent_tests::actor::Family::V4, agent_tests::actor::Kind::Udp)?;
    let table = stage::identity_table(agent)?;
    let id = subject.id()?;
    wait_for("a subject to be classified", CLASSIFIED, || {
        ensure!(!actor.send_to("u", forbidden(), 32)?.is_done(), "LEAK: a subject's datagram passed");
        Ok(table.get(&id, 0).ok())
    })?;
    ensure!(!actor.send_to("u", forbidden(), 32)?.is_done(), "LEAK: a classified subject's datagram passed");
    Ok(())
}
