//! When an identity ends: with the last socket, not with the directory; and that other hierarchies have none.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent_tests::actor::{Actor, Family, Kind};
use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::stage::{Way, arrived, forbidden, identity_table, setup, subjects};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// Releases are work that the kernel does when it has time.
const RELEASED: Duration = Duration::from_secs(20);

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "birth::a_socket_that_outlives_its_cgroup_stays_fenced_and_its_identity_ends_with_it",
            outlives,
        ),
        trial(Place::Anywhere, "birth::a_cgroup_of_another_hierarchy_gets_no_identity", other_hierarchy),
    ]
}

fn outlives() -> Result<Outcome> {
    let scene = Scene::new()?;
    let setup = setup(&scene, Way::Kernel, &subjects(1))?;
    let agent = setup.start()?;
    let table = identity_table(&agent)?;
    let subject = scene.root.child("s0")?;
    let id = subject.id()?;
    ensure!(table.get(&id, 0).is_ok(), "the kernel did not enter {id} at birth");

    let mut actor = Actor::start(scene.near(), &subject)?;
    ensure!(actor.open("u", Family::V4, Kind::Udp)?.is_done(), "no socket");
    scene.other.adopt(actor.pid())?;
    subject.dissolve()?;
    let before = arrived(&scene, forbidden())?;
    // The same path again, without a socket: what the kernel does for a released cgroup it does for this one behind the
    // first. When this one has left the table, the first would have.
    let second = scene.root.child("s0")?;
    let second_id = second.id()?;
    ensure!(second_id != id, "the kernel gave an id out twice");
    ensure!(table.get(&second_id, 0).is_ok(), "the kernel did not enter {second_id} at birth");
    second.dissolve()?;
    let left = |id| table.get(&id, 0).is_err().then_some(());
    wait_for("a released cgroup to leave the table", RELEASED, || Ok(left(second_id)))?;
    ensure!(table.get(&id, 0).is_ok(), "the identity went while a socket lives");
    for _ in 0..3 {
        ensure!(!actor.send_to("u", forbidden(), 32)?.is_done(), "LEAK: a socket of a removed cgroup sent");
    }
    ensure!(arrived(&scene, forbidden())? == before, "LEAK: frames of a socket of a removed cgroup");
    actor.close("u")?;
    drop(actor);
    wait_for("the identity to end with the last socket", RELEASED, || Ok(left(id)))?;
    Ok(Outcome::Passed)
}

fn other_hierarchy() -> Result<Outcome> {
    let Some(mount) = v1_mount()? else {
        return Ok(Outcome::Skipped("no hierarchy of cgroup v1 is mounted here".into()));
    };
    let scene = Scene::new()?;
    let setup = setup(&scene, Way::Kernel, &subjects(1))?;
    let agent = setup.start()?;
    let table = identity_table(&agent)?;
    let top = mount.join(scene.root.name().trim_start_matches('/'));
    fs::create_dir(&top).with_context(|| format!("cannot make {}", top.display()))?;
    let path = top.join("s0");
    let entries = || table.keys().filter_map(Result::ok).count();
    let before = entries();
    let made = fs::create_dir(&path);
    let after = entries();
    fs::remove_dir(&path).ok();
    fs::remove_dir(&top)?;
    made?;
    ensure!(before == after, "a cgroup of v1 with a subject's path got an identity");
    // The same path in v2 does.
    let _subject = scene.root.child("s0")?;
    ensure!(entries() == after + 1, "the subject itself got none");
    Ok(Outcome::Passed)
}

/// Where a hierarchy of v1 is mounted that lets cgroups be made without settings.
fn v1_mount() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let named = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, at, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup" && options.contains("name=")).then(|| PathBuf::from(at))
    });
    Ok(named.into_iter().next())
}
