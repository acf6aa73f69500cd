//! Links: detached, or given another program; and the canary, which sees that without looking at any link.

use std::time::Instant;

use agent_tests::actor::{Command, Repeat};
use agent_tests::tamper::{detach, pinned_link, replace};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use super::{Guarded, SHAPE};
use crate::flows::{Destination, PORT};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

use super::company::{Foreign, empty_egress};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "watchdog::a_detached_egress_is_attached_again_under_flood", under_flood),
        trial(Place::Anywhere, "watchdog::every_detached_hook_is_attached_again_and_pinned", every_hook),
        trial(Place::Anywhere, "watchdog::another_program_in_our_link_is_put_back", replaced),
        trial(Place::Anywhere, "watchdog::the_canary_alone_sees_hooks_that_do_not_act", canary),
        trial(Place::Anywhere, "watchdog::the_canary_is_refused_where_hooks_act", refused),
    ]
}

fn under_flood() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let to = SHAPE.target(Destination::Forbidden, PORT);
    let mut flood = guarded.scene.crm_actor()?;
    flood.begin(&Command::Load {
        what: Repeat::SendTo,
        to: vec![to],
        for_ms: 600_000,
        rounds: 0,
        until: None,
        pause_us: 500,
    })?;
    let frames = || -> Result<u64> { Ok(guarded.scene.sniffer.frames_to(to.ip())?.frames) };
    let before = frames()?;
    let (id, _) = pinned_link(&guarded.link("egress"))?;
    let since = Instant::now();
    detach(id)?;
    let took = guarded.told(since, "egress", "was detached", true)?;
    let leaked = frames()?;
    ensure!(leaked > before, "nothing leaked: this flood would not show an open fence");
    println!("egress was open for at most {} ms: {} forbidden frames", took.as_millis(), leaked - before);

    guarded.looked(1)?;
    ensure!(frames()? == leaked, "LEAK: {} forbidden frames after the repair", frames()? - leaked);
    let (new, _) = pinned_link(&guarded.link("egress"))?;
    ensure!(new != id, "the pin is still that of the dead link");
    ensure!(guarded.state()? == "Ready", "repaired, and {}", guarded.state()?);
    drop(flood);
    guarded.holds("after the repair")?;
    guarded.stop()
}

fn every_hook() -> Result<Outcome> {
    let guarded = Guarded::start()?;
    let hooks = ["sock_create", "connect4", "connect6", "egress", "ingress", "sock_release"];
    let mut before = Vec::new();
    for hook in hooks {
        before.push(pinned_link(&guarded.link(hook))?);
    }
    let since = Instant::now();
    for (id, _) in &before {
        detach(*id)?;
    }
    for (hook, (id, program)) in hooks.into_iter().zip(before) {
        guarded.told(since, hook, "was detached", true)?;
        let (new, now) = pinned_link(&guarded.link(hook))?;
        ensure!(new != id && now == program, "{hook}: link {id}, program {program} became {new}, {now}");
    }
    let tampers = guarded.tampers();
    ensure!(tampers.len() == hooks.len(), "one event a hook, and no other: {tampers:#?}");
    let summary = guarded.summary()?;
    ensure!(summary.contains("found 6, repaired 6"), "{summary}");
    guarded.looked(2)?;
    ensure!(guarded.tampers() == tampers, "still telling: {:#?}", guarded.tampers());
    guarded.stop()
}

fn replaced() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let foreign = Foreign::load(empty_egress)?;
    let (id, ours) = pinned_link(&guarded.link("egress"))?;
    replace(id, foreign.fd()?)?;
    let since = Instant::now();
    ensure!(pinned_link(&guarded.link("egress"))?.1 != ours, "the link still has our program");
    guarded.told(since, "egress", "in place of ours", true)?;
    ensure!(pinned_link(&guarded.link("egress"))? == (id, ours), "link and program are not as before");
    guarded.holds("after the repair")?;
    guarded.stop()
}

fn canary() -> Result<Outcome> {
    let scene = Scene::new()?;
    let home = scene.root.child("agent")?;
    let mut guarded =
        Guarded::with(scene, |setup, _| setup.env("RINGFENCE_WATCHDOG", "canary").in_cgroup(&home))?;
    for hook in ["egress", "connect4"] {
        let (id, _) = pinned_link(&guarded.link(hook))?;
        let since = Instant::now();
        detach(id)?;
        guarded.told(since, "canary", hook, false)?;
        guarded.wait_for_state("Degraded")?;
    }
    // Nobody looks at links here: this is what it is like without.
    ensure!(guarded.passes(Destination::Forbidden)?, "with egress detached the fence holds: by what?");
    guarded.looked(2)?;
    let tampers = guarded.tampers();
    ensure!(tampers.len() == 2, "one event for each hook that does not act: {tampers:#?}");
    guarded.stop()
}

fn refused() -> Result<Outcome> {
    let scene = Scene::new()?;
    let home = scene.root.child("agent")?;
    for errno in ["EPERM", "EHOSTUNREACH"] {
        let scene = &scene;
        let setup = scene.agent()?.in_cgroup(&home)?.arg("--errno").arg(errno);
        let agent = setup.start()?;
        agent_tests::deadline::wait_for("the canary's first look", super::PROMISED, || {
            let text = String::from_utf8(agent.ask(&["status"])?.stdout)?;
            Ok(text.contains("the canary is refused by every hook").then_some(()))
        })?;
        agent.stop()?;
    }
    let outside = Guarded::start()?;
    let summary = outside.summary()?;
    ensure!(summary.contains("is not sent: the agent is in the cgroup"), "{summary}");
    outside.stop()
}
