//! Many cgroups that come and go, each a subject by its own path: none leaks, none is remembered.

use std::time::Duration;

use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::stage::{Midwife, Way, arrived, forbidden, identity_table, rss, setup, subjects};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, Tier, trial};

/// 100 births a second.
const EVERY_US: u64 = 10_000;
/// Releases are work that the kernel does when it has time.
const RELEASED: Duration = Duration::from_secs(20);
/// What the agent may grow by, percent: the events of the births are kept for who asks for the last ones (a ring of its
/// own, bounded), and the names of cgroups that are gone for late events.
const MOST_GROWTH: u64 = 5;

pub(super) fn trials() -> Vec<Trial> {
    [(Way::Kernel, "the_kernel"), (Way::Watch, "the_agent")]
        .map(|(way, who)| {
            let name = format!("birth::no_leak_and_no_memory_of_many_short_lived_cgroups_known_to_{who}");
            trial(Place::Host, name, move || run(way))
        })
        .into()
}

fn run(way: Way) -> Result<Outcome> {
    let count = match Tier::from_environment() {
        Tier::Default => 200,
        Tier::All => 2_000,
    };
    let scene = Scene::with_udp(&[])?;
    let mut midwife = Midwife::new(&scene)?;
    let names = subjects(count);

    // Without an agent each of them arrives.
    let some = names.get(..20).context("twenty names")?;
    midwife.births(&scene, some, forbidden(), 0)?;
    ensure!(arrived(&scene, forbidden())? == 20, "the judge misses datagrams of births");

    let setup = setup(&scene, way, &names)?;
    let agent = setup.start()?;
    let table = identity_table(&agent)?;
    let live = || table.keys().filter_map(Result::ok).count();
    let at_rest = live();
    // Threads, rings and buffers are as large as they get.
    let warm = names.get(..count / 4).context("a quarter")?;
    midwife.births(&scene, warm, forbidden(), EVERY_US)?;
    let (before, start) = (rss(agent.pid())?, arrived(&scene, forbidden())?);
    let answer = midwife.births(&scene, &names, forbidden(), EVERY_US)?;
    let leaked = arrived(&scene, forbidden())? - start;
    ensure!(leaked == 0, "LEAK: {leaked} of {count} first datagrams ({:?})\n{}", answer.tally, agent.said());
    ensure!(answer.times(forbidden(), "EPERM") == count as u64, "not refused: {:?}", answer.tally);

    let mut took = answer.each_micros.clone();
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let pace = count as f64 / (answer.micros as f64 / 1e6);
    if way == Way::Kernel {
        wait_for("the identity table to hold live cgroups only", RELEASED, || {
            Ok((live() == at_rest).then_some(()))
        })
        .with_context(|| format!("{} entries, {at_rest} before", live()))?;
    }
    let after = rss(agent.pid())?;
    println!(
        "\nbirth ({way:?}): {count} cgroups at {pace:.0}/s, sent {median} µs after mkdir (median), 0 leaks; \
         identity table {at_rest} entries before, {} after; agent {before} KiB before, {after} KiB after",
        live()
    );
    ensure!(after * 100 <= before * (100 + MOST_GROWTH), "the agent grew from {before} to {after} KiB");
    Ok(Outcome::Passed)
}
