//! The gap to the unit: more events than the rings hold while nobody reads, and not one unaccounted for.

use std::time::Duration;

use agent_tests::actor::{Command, Repeat};
use agent_tests::agent::Agent;
use agent_tests::deadline::wait_for;
use agent_tests::events::Event;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, PORT, Shape, Use};
use crate::policies::{FENCE, eea_only};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const SHAPE: Shape = Shape { address: Address::V4, used: Use::Tcp };
/// Connections while nobody reads; each writes two events, and the flow ring holds 11,915.
const CONNECTIONS: u64 = 8_000;
/// How long these may take, and how long events may take to be told.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    let name =
        "pins::of_more_events_than_the_rings_hold_while_nobody_reads_every_one_is_delivered_or_announced";
    vec![trial(Place::Anywhere, name, run)]
}

fn run() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let agent = setup.start()?;
    agent.kill()?;
    let to = SHAPE.target(Destination::Allowed, PORT);
    let connects = Command::Load {
        what: Repeat::Connect,
        to: vec![to],
        for_ms: u64::try_from(LONG.as_millis())?,
        rounds: CONNECTIONS,
        until: None,
        pause_us: 0,
    };
    let answer = crm.tell(&connects)?;
    ensure!(answer.times(to, "done") == CONNECTIONS, "not every connect succeeded: {:?}", answer.tally);

    let agent = setup.start()?;
    let first = seen(&agent)?;
    let written = CONNECTIONS * 2;
    ensure!(first.lost > 0, "nothing was lost: this is no test of a loss");
    ensure!(first.delivered + first.lost == written, "{first:?} of {written} events");
    ensure!(first.flows == first.delivered, "{} were announced, {} came", first.delivered, first.flows);
    ensure!(
        first.announced == first.lost,
        "the gap says {} lost, `lost` events {}",
        first.lost,
        first.announced
    );
    agent.kill()?;

    // What was delivered and announced once is so for good.
    let agent = setup.start()?;
    let second = seen(&agent)?;
    ensure!((second.delivered, second.lost, second.announced) == (0, 0, 0), "told again: {second:?}");
    Ok(Outcome::Passed)
}

#[derive(Debug)]
struct Seen {
    delivered: u64,
    lost: u64,
    flows: u64,
    announced: u64,
}

/// The gap, and all that came of it.
fn seen(agent: &Agent) -> Result<Seen> {
    let watch = agent.watch(&["--all"])?;
    let gap = watch.wait_for("the gap", LONG, |event| event.is("kind", "gap"))?;
    let (delivered, lost) =
        (gap.number("delivered").context("no count")?, gap.number("lost").context("no count")?);
    wait_for("what the gap announces", LONG, || {
        let events = watch.events();
        let flows = events.iter().filter(|e| e.is("kind", "flow")).count() as u64;
        Ok((flows >= delivered && sum(&events) >= lost).then_some(()))
    })?;
    let events = watch.events();
    for event in events.iter().filter(|e| e.is("kind", "flow")) {
        // Decided by the dead agent's image, which was of the same documents.
        ensure!(
            event.is("fence", FENCE) && event.is("country", "DE"),
            "an event without its names: {}",
            event.0
        );
    }
    let flows = events.iter().filter(|e| e.is("kind", "flow")).count() as u64;
    Ok(Seen { delivered, lost, flows, announced: sum(&events) })
}

fn sum(events: &[Event]) -> u64 {
    events.iter().filter(|e| e.is("kind", "lost")).filter_map(|e| e.number("count")).sum()
}
