//! kill -9 under flood: the fence stands, allowed flows live, and the next agent says exactly what was not read.

use std::time::{Duration, Instant};

use agent_tests::agent::Agent;
use agent_tests::deadline::wait_for;
use agent_tests::events::Watch;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use libtest_mimic::Trial;
use serde_json::Value;

use super::flood::{Flood, median};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, Tier, in_vm, trial};

/// How long an event may take to be told.
const TOLD: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let name = "pins::killed_agents_leak_nothing_break_nothing_and_their_successors_announce_the_gap";
    vec![trial(Place::Anywhere, name, run)]
}

fn run() -> Result<Outcome> {
    let times = match Tier::from_environment() {
        _ if in_vm() => 3,
        Tier::Default => 10,
        Tier::All => 100,
    };
    let scene = Scene::new()?;
    let mut flood = Flood::open(&scene)?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let mut agent = setup.start()?;
    flood.begin(&scene)?;
    let mut back = Vec::new();
    for round in 1..=times {
        let when = format!("around kill {round} of {times}");
        // The flood is in the agent's hands: it has something to lose.
        let watch = agent.watch(&["--all"])?;
        watch.wait_for("an event of the flood", TOLD, |event| event.is_decision())?;
        let before = Timestamp::now();
        agent.kill()?;
        let killed = (before, Timestamp::now());
        drop(watch);
        flood.exchange(&when)?;
        let start = Instant::now();
        agent = setup.start()?;
        back.push(start.elapsed());
        flood.exchange(&when)?;
        let watch = agent.watch(&["--all"])?;
        announced(&watch, killed).with_context(|| format!("{when}; the agent said:\n{}", agent.said()))?;
        flood.judge(&scene, &when)?;
    }
    println!("{times} times kill -9 under flood: back in service after {:?} (median)", median(&mut back));
    adds_up(&agent)?;

    // The mutant: without the pins the very same flood leaks.
    agent.kill()?;
    setup.uninstall()?;
    wait_for("the flood to leak without hooks", TOLD, || Ok((flood.leaked(&scene)? > 0).then_some(())))?;
    Ok(Outcome::Passed)
}

/// The new stream begins with the gap, which holds the kill; what was lost in it is announced by reason, to the unit.
fn announced(watch: &Watch, killed: (Timestamp, Timestamp)) -> Result<()> {
    let gap = watch.wait_for("the gap", TOLD, |event| event.is("kind", "gap"))?;
    let time =
        |field| gap.text(field).and_then(|t| t.parse::<Timestamp>().ok()).context("no time in the gap");
    let (begin, end) = (time("begin")?, time("end")?);
    // The dying agent last looked before it was dead, the new one looked after.
    ensure!(begin <= killed.1 && killed.0 <= end, "killed {killed:?}, which is not in {begin} to {end}");
    let age = killed.0.as_millisecond() - begin.as_millisecond();
    ensure!(age < 5_000, "the gap begins {age} ms before the kill: the agent was reading until then");
    let lost = gap.number("lost").context("no `lost`")?;
    let waiting = gap.number("delivered").context("no `delivered`")?;
    ensure!(waiting > 0, "nothing waited, under a flood: {}", gap.0);
    watch.wait_until("the losses of the gap", TOLD, |events| {
        let told: u64 =
            events.iter().filter(|e| e.is("kind", "lost")).filter_map(|e| e.number("count")).sum();
        (told >= lost).then_some(())
    })
}

/// Every event that the kernel wanted to write, over all agents, is accounted for.
fn adds_up(agent: &Agent) -> Result<()> {
    wait_for("the stops to add up", TOLD, || {
        let status = agent.status()?;
        let stop = |name: &str| {
            let stops = status.get("stops")?.as_array()?;
            let stop = stops.iter().find(|s| s.get("stop").and_then(Value::as_str) == Some(name))?;
            let lost = stop.get("lost")?.as_array()?;
            let lost: u64 = lost.iter().filter_map(|l| l.get("count").and_then(Value::as_u64)).sum();
            let number = |key: &str| stop.get(key).and_then(Value::as_u64);
            Some((number("events_in")?, number("events_out")?, lost))
        };
        let (ring, decode, enrich) = (
            stop("ring").context("no stop ring")?,
            stop("decode").context("no stop decode")?,
            stop("enrich").context("no stop enrich")?,
        );
        ensure!(ring.0 == ring.1 + ring.2, "ring: {ring:?}");
        // The counters are read twice a second, the rings all the time: what is ahead is in flight.
        let flight = decode.0.abs_diff(ring.1);
        let exact = decode.0 == decode.1 + decode.2 && enrich.0 == enrich.1 + enrich.2;
        Ok((exact && flight < 20_000).then_some(()))
    })
}
