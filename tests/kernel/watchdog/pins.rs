//! Pins: removed, swept away with their directory, or with the whole file system.

use std::fs;
use std::time::Instant;

use agent_tests::tamper::pinned_link;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use super::{Guarded, PROMISED};
use crate::flows::Destination;
use crate::policies::{FENCE, eea_only, fence};
use crate::suite::{Outcome, Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "watchdog::removed_pins_are_pinned_again_and_nothing_opens", removed),
        trial(Place::Anywhere, "watchdog::the_next_agent_finds_what_was_pinned_again", taken_over),
        trial(
            Place::Anywhere,
            "watchdog::an_unmounted_bpffs_degrades_and_is_filled_again_once_it_is_back",
            unmounted,
        ),
        trial(Place::Anywhere, "watchdog::quiet_looks_tell_nothing", quiet),
    ]
}

/// Every file below the pin directory.
fn files(guarded: &Guarded) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(guarded.setup.pins())? {
        let path = entry?.path();
        if path.is_dir() {
            let inside = fs::read_dir(&path)?.flatten().map(|e| e.path().display().to_string());
            names.extend(inside);
        } else {
            names.push(path.display().to_string());
        }
    }
    names.sort();
    Ok(names)
}

fn removed() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let before = files(&guarded)?;
    let links = ["connect4", "egress"].map(|name| guarded.link(name));
    let ids = [pinned_link(&links[0])?, pinned_link(&links[1])?];
    let mut since = Instant::now();
    fs::remove_file(&links[1])?;
    guarded.told(since, "pins", "link egress", true)?;
    ensure!(files(&guarded)? == before, "not all of it is pinned again");

    since = Instant::now();
    fs::remove_dir_all(guarded.setup.pins())?;
    ensure!(!guarded.passes(Destination::Forbidden)?, "removed pins opened the fence");
    guarded.told(since, "pins", "itself", true)?;
    ensure!(files(&guarded)? == before, "before: {before:#?}, now {:#?}", files(&guarded)?);
    ensure!([pinned_link(&links[0])?, pinned_link(&links[1])?] == ids, "other links than before");
    let (code, said) = guarded.setup.uninstall()?;
    ensure!(
        code == Some(1) && said.contains("an agent is at work"),
        "the new directory is not locked: {code:?} {said}"
    );
    guarded.holds("after all")?;
    guarded.stop()
}

fn taken_over() -> Result<Outcome> {
    let scene = crate::scene::Scene::new()?;
    let mut guarded = Guarded::with(scene, |setup, _| Ok(setup.keep_on_exit()))?;
    let generation = guarded.agent.generation()?;
    let since = Instant::now();
    fs::remove_dir_all(guarded.setup.pins())?;
    guarded.told(since, "pins", "itself", true)?;
    let egress = pinned_link(&guarded.link("egress"))?;
    let Guarded { agent, setup, .. } = &mut guarded;
    let second = {
        agent.signal(rustix::process::Signal::KILL)?;
        agent_tests::deadline::wait_for("the pins to be taken over", PROMISED, || Ok(setup.start().ok()))?
    };
    ensure!(second.generation()? > generation, "generations begin again");
    ensure!(!second.said().contains("can't be taken over"), "the image was not whole:\n{}", second.said());
    ensure!(pinned_link(&guarded.link("egress"))?.0 == egress.0, "the link was not adopted");
    guarded.holds("after the restart")?;
    second.stop()?;
    Ok(Outcome::Passed)
}

fn unmounted() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let before = files(&guarded)?;
    let since = Instant::now();
    guarded.setup.bpffs().unmount()?;
    guarded.told(since, "pins", "mount -t bpf", false)?;
    guarded.wait_for_state("Degraded")?;
    guarded.holds("without a file system")?;
    let open = fence(FENCE, "Enforce", guarded.scene.crm.name(), "everywhere", &["US", "DE"]);
    guarded.agent.publish(&guarded.setup, &open)?;
    ensure!(guarded.passes(Destination::Forbidden)?, "a policy can't be published without pins");
    let strict = eea_only(&guarded.scene, "Enforce");
    guarded.agent.publish(&guarded.setup, &strict)?;

    let since = Instant::now();
    guarded.setup.bpffs().mount_again()?;
    guarded.told(since, "pins", "itself", true)?;
    guarded.wait_for_state("Ready")?;
    ensure!(files(&guarded)?.len() == before.len(), "before: {before:#?}, now {:#?}", files(&guarded)?);
    guarded.holds("after all")?;
    guarded.stop()
}

fn quiet() -> Result<Outcome> {
    let guarded = Guarded::start()?;
    let policy = eea_only(&guarded.scene, "Enforce");
    for turn in 0..4 {
        guarded.agent.publish(&guarded.setup, &format!("{policy}# {turn}\n"))?;
        guarded.looked(1)?;
    }
    ensure!(guarded.tampers().is_empty(), "nobody tampered: {:#?}", guarded.tampers());
    ensure!(guarded.state()? == "Ready", "nobody tampered: {}", guarded.state()?);
    guarded.stop()
}
