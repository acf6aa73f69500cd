//! The agent stands still (SIGSTOP) until both rings overflow, and goes on while the flood does.

use std::time::{Duration, Instant};

use agent_common::wire::Counter;
use agent_tests::agent::Agent;
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch, no_unannounced_loss};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rustix::process::Signal;

use super::books::{Counters, Got, drained, judge};
use super::flood::{Flood, MIXED, last_ones};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Tier};

/// How long the rings may take to overflow.
const FULL: Duration = Duration::from_secs(120);
/// How long an event may take to arrive on a busy machine.
const TOLD: Duration = Duration::from_secs(30);
/// How soon after it goes on the agent must have announced what was lost.
const SOON_MS: i64 = 1_000;

/// An agent that can always go on: one that stands still does not even end.
struct Still<'a>(&'a Agent);

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT).ok();
    }
}

pub(super) fn run() -> Result<Outcome> {
    let still = match Tier::from_environment() {
        Tier::Default => Duration::from_secs(5),
        Tier::All => Duration::from_secs(30),
    };
    let scene = Scene::with_udp(&[])?;
    Flood::arrives_unfenced(&scene)?;
    // A cap of its own would keep the violations from their ring.
    let setup =
        scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.arg("--events-per-second").arg("1000000000");
    let agent = setup.start()?;
    let counters = Counters::open(&setup)?;
    let watch = agent.watch(&["--all"])?;
    let mut flood = Flood::begin(&scene, MIXED)?;
    watch.wait_for("an event of the flood", TOLD, Event::is_decision)?;

    let stopped = Still(&agent);
    agent.signal(Signal::STOP)?;
    let (begin, before) = (Instant::now(), lost(&counters)?);
    wait_for("both rings to overflow", FULL + still, || {
        flood.judge(&scene, "while nobody reads")?;
        let now = lost(&counters)?;
        let over = now.iter().zip(before).all(|(now, before)| *now > before + 1_000);
        Ok((over && begin.elapsed() >= still).then_some(()))
    })?;
    let (stood, went_on) = (begin.elapsed(), Timestamp::now());
    drop(stopped);
    let told = [announced_soon(&watch, "violation", went_on)?, announced_soon(&watch, "flow", went_on)?];
    flood.judge(&scene, "after the agent went on")?;
    flood.end();

    drained(&counters, &agent, &watch, &Got::default(), 0)?;
    // Whatever is announced twice, is by the time that these have been.
    last_ones(&scene)?;
    drained(&counters, &agent, &watch, &Got::default(), 0)?;
    let events = watch.events();
    let mut got = Got::default();
    got.read(&events);
    judge(&counters, &got, 0).with_context(|| format!("the agent said:\n{}", agent.said()))?;
    no_unannounced_loss(&events)?;
    flood.judge(&scene, "in the end")?;
    let (stood, produced) = (stood.as_secs_f64(), counters.produced()?);
    println!("overflow: still for {stood:.1} s, losses told {told:?} ms later; {produced} produced: {got}");

    // The mutant: without the hooks the very same flood leaks.
    agent.stop()?;
    let flood = Flood::begin(&scene, MIXED)?;
    wait_for("the flood to leak without hooks", TOLD, || Ok((flood.leaked(&scene)? > 0).then_some(())))?;
    Ok(Outcome::Passed)
}

/// What each ring has lost.
fn lost(counters: &Counters) -> Result<[u64; 2]> {
    Ok([counters.get(Counter::ViolationsLost)?, counters.get(Counter::FlowsLost)?])
}

/// A loss of this kind was announced within a second of `went_on`, by the stream's own clock: how long a line takes to get
/// through a flood is not the agent's. Returns after how many milliseconds.
fn announced_soon(watch: &Watch, kind: &str, went_on: Timestamp) -> Result<i64> {
    let time = |event: &Event| event.text("time").and_then(|t| t.parse::<Timestamp>().ok());
    let event = watch.wait_for(&format!("a loss of the {kind} ring"), TOLD, |event| {
        let lost = event.is("reason", "KernelRingFull") && event.is("lost_kind", kind);
        lost && time(event).is_some_and(|time| time >= went_on)
    })?;
    let after = time(&event).context("no time")?.as_millisecond() - went_on.as_millisecond();
    ensure!(after <= SOON_MS, "the loss of the {kind} ring was announced after {after} ms");
    Ok(after)
}
