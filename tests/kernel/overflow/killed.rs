//! The agent dies (SIGKILL) with events in hand, the flow ring overflows, and the next agent takes over.

use std::time::{Duration, Instant};

use agent_common::wire::Counter;
use agent_tests::agent::Agent;
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use anyhow::{Context, Result, ensure};

use super::books::{Counters, Got, drained, judge};
use super::flood::{Flood, MOSTLY_ALLOWED, last_ones};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Tier};

/// How long the ring may take to overflow.
const FULL: Duration = Duration::from_secs(120);
/// How long an event may take to arrive on a busy machine.
const TOLD: Duration = Duration::from_secs(30);

pub(super) fn run() -> Result<Outcome> {
    let times = match Tier::from_environment() {
        Tier::Default => 1,
        Tier::All => 5,
    };
    for _ in 0..times {
        once()?;
    }
    Ok(Outcome::Passed)
}

fn once() -> Result<()> {
    let scene = Scene::with_udp(&[])?;
    Flood::arrives_unfenced(&scene)?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let agent = setup.start()?;
    let counters = Counters::open(&setup)?;
    let watch = agent.watch(&["--all"])?;
    let mut flood = Flood::begin(&scene, MOSTLY_ALLOWED)?;
    watch.wait_until("a thousand events of the flood", TOLD, |events| {
        (events.iter().filter(|event| event.is_decision()).count() > 1_000).then_some(())
    })?;
    agent.kill()?;
    let mut first = Got::default();
    let events = watch.until_the_end(TOLD)?;
    first.read(&events);
    let stream = events.last().and_then(|event| event.text("stream_id")).context("no stream")?;
    // A notice has a number and is no event of the kernel's: with one in the tail that nobody saw, the sum below would be
    // about something else. This flood is one that an agent keeps up with.
    ensure!(first.lost.is_empty(), "the agent did not keep up with the flood: {first}");

    wait_for("the flow ring to overflow", FULL, || {
        flood.judge(&scene, "without an agent")?;
        Ok((counters.get(Counter::FlowsLost)? > 1_000).then_some(()))
    })?;
    flood.end();
    let violations = counters.get(Counter::ViolationsLost)?;
    ensure!(violations == 0, "a flood of allowed flows cost {violations} violations");

    let start = Instant::now();
    let agent = setup.start()?;
    let back = start.elapsed();
    let watch = agent.watch(&["--all"])?;
    let gap = watch.wait_for("the gap", TOLD, |event| event.is("kind", "gap"))?;
    ensure!(gap.is("earlier_stream_id", stream), "the gap follows another stream than {stream}: {}", gap.0);
    let unseen = unseen(&gap, &first)?;
    let second = settled(&scene, &counters, &agent, &watch, &first, unseen)?;
    let both = first.clone().and(&second);
    judge(&counters, &both, unseen).with_context(|| format!("the agent said:\n{}", agent.said()))?;
    ensure!(
        gap.number("lost") == Some(second.lost("AgentEnded", "any") + second.lost("KernelRingFull", "flow")),
        "the gap has another sum of losses than its announcements: {}; {second}",
        gap.0
    );
    flood.judge(&scene, "in the end")?;
    println!(
        "overflow: {} produced; before the kill {first}; {unseen} in nobody's hands; after it {second}; back after {back:?}",
        counters.produced()?
    );

    // Nothing of it is told again by a third agent.
    agent.kill()?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let gap = watch.wait_for("the second gap", TOLD, |event| event.is("kind", "gap"))?;
    let unseen = unseen + self::unseen(&gap, &second)?;
    let third = settled(&scene, &counters, &agent, &watch, &both, unseen)?;
    judge(&counters, &both.and(&third), unseen).context("over two deaths")?;

    // The mutant: without the hooks the very same flood leaks.
    agent.stop()?;
    setup.uninstall()?;
    let flood = Flood::begin(&scene, MOSTLY_ALLOWED)?;
    wait_for("the flood to leak without hooks", TOLD, || Ok((flood.leaked(&scene)? > 0).then_some(())))?;
    Ok(())
}

/// What a subscriber has got when everything is told. Whatever is told twice, is by the time that the last ones have been.
fn settled(
    scene: &Scene,
    counters: &Counters,
    agent: &Agent,
    watch: &Watch,
    before: &Got,
    unseen: i64,
) -> Result<Got> {
    drained(counters, agent, watch, before, unseen)?;
    last_ones(scene)?;
    drained(counters, agent, watch, before, unseen)?;
    let mut got = Got::default();
    got.read(&watch.events());
    Ok(got)
}

/// Events that the earlier agent had numbered and its subscriber did not get. Negative: the subscriber got more than the
/// agent had entered in its books when it died, and as many count as lost with it.
fn unseen(gap: &Event, first: &Got) -> Result<i64> {
    let numbered = gap.number("earlier_sequence").context("the gap does not say where the stream ended")?;
    Ok(i64::try_from(numbered)? - i64::try_from(first.sequence)?)
}
