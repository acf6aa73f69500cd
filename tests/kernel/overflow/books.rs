//! Double-entry: what the kernel programs counted, read from the pinned map, against what a subscriber got.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use agent_common::wire::Counter;
use agent_tests::agent::{Agent, Setup};
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};
use serde_json::Value;
use std::time::Duration;

/// How long the rings and the stream may take to run empty.
const DRAINED: Duration = Duration::from_secs(60);

/// The counters of the programs, read without the agent.
pub(super) struct Counters(PerCpuArray<MapData, u64>);

impl Counters {
    /// The pinned ones.
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let folders = fs::read_dir(setup.pins())?.flatten().map(|entry| entry.path().join("COUNTERS"));
        let found: Vec<_> = folders.filter(|path| path.exists()).collect();
        let [path] = &found[..] else { anyhow::bail!("one set of counters expected: {found:?}") };
        let map = Map::from_map_data(MapData::from_pin(path)?)?;
        Ok(Self(map.try_into()?))
    }

    /// One of them, over all processors.
    pub(super) fn get(&self, what: Counter) -> Result<u64> {
        Ok(self.0.get(&(what as u32), 0).with_context(|| format!("counter {}", what.name()))?.iter().sum())
    }

    /// Events that were to be written.
    pub(super) fn produced(&self) -> Result<u64> {
        Ok(self.get(Counter::Violations)? + self.get(Counter::Flows)?)
    }
}

/// What a subscriber got.
#[derive(Clone, Debug, Default)]
pub(super) struct Got {
    /// Events counted so far.
    read: usize,
    /// Violations and flows.
    pub(super) delivered: [u64; 2],
    /// Announced losses, by reason and kind.
    pub(super) lost: BTreeMap<(String, String), u64>,
    /// The last number.
    pub(super) sequence: u64,
}

impl Got {
    /// Counts what is new in a stream's events.
    pub(super) fn read(&mut self, events: &[Event]) {
        for event in &events[self.read..] {
            match event.text("kind") {
                Some("violation") => self.delivered[0] += 1,
                Some("flow") => self.delivered[1] += 1,
                Some("lost") => {
                    let word = |field| event.text(field).unwrap_or("any").to_owned();
                    let count = event.number("count").unwrap_or(0);
                    *self.lost.entry((word("reason"), word("lost_kind"))).or_default() += count;
                }
                _ => {}
            }
            self.sequence = self.sequence.max(event.number("sequence").unwrap_or(0));
        }
        self.read = events.len();
    }

    /// Losses that were announced for a reason, of a kind.
    pub(super) fn lost(&self, reason: &str, kind: &str) -> u64 {
        self.lost.get(&(reason.to_owned(), kind.to_owned())).copied().unwrap_or(0)
    }

    /// Delivered, or announced as lost by name of the ring.
    fn of_ring(&self, ring: usize) -> u64 {
        self.delivered[ring] + self.lost("KernelRingFull", ["violation", "flow"][ring])
    }

    /// Announced without a ring's name: of whichever.
    fn of_either(&self) -> u64 {
        self.lost("SubscriberSlow", "any") + self.lost("AgentEnded", "any") + self.lost("Decode", "any")
    }

    fn total(&self) -> u64 {
        self.of_ring(0) + self.of_ring(1) + self.of_either()
    }

    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        for ring in 0..2 {
            self.delivered[ring] += other.delivered[ring];
        }
        for (key, count) in &other.lost {
            *self.lost.entry(key.clone()).or_default() += count;
        }
        self
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [violations, flows] = self.delivered;
        write!(f, "{violations} violations and {flows} flows delivered")?;
        self.lost
            .iter()
            .try_for_each(|((reason, kind), count)| write!(f, ", {count} lost ({reason}, {kind})"))
    }
}

/// Waits until the agent has read all counters and the subscriber, which had `before` from elsewhere, has as much as was
/// produced. `unseen`: events in nobody's hands.
pub(super) fn drained(
    counters: &Counters,
    agent: &Agent,
    watch: &Watch,
    before: &Got,
    unseen: i64,
) -> Result<Got> {
    let produced = wait_for("the agent to have read the counters", DRAINED, || {
        let produced = counters.produced()?;
        Ok((read_by(agent)? == Some(produced)).then_some(produced))
    })?;
    let enough = |got: &Got| {
        i128::from(before.total()) + i128::from(got.total()) + i128::from(unseen) >= i128::from(produced)
    };
    let seen = std::cell::RefCell::new(Got::default());
    watch
        .wait_until("every event of the kernel's", DRAINED, |events| {
            let mut seen = seen.borrow_mut();
            seen.read(events);
            enough(&seen).then(|| seen.clone())
        })
        .with_context(|| format!("{produced} were produced; {}", seen.borrow()))
}

/// The sum of the counters, as the agent last read them.
fn read_by(agent: &Agent) -> Result<Option<u64>> {
    let status = agent.status()?;
    let stops = status.get("stops").and_then(Value::as_array).context("no stops")?;
    let ring = stops.iter().find(|stop| stop.get("stop").and_then(Value::as_str) == Some("ring"));
    Ok(ring.and_then(|stop| stop.get("events_in")).and_then(Value::as_u64))
}

/// The judgement: not one event more and not one less, ring by ring. What is announced without a ring's name is missing
/// in one or the other.
pub(super) fn judge(counters: &Counters, got: &Got, unseen: i64) -> Result<()> {
    let rings = [
        (Counter::Violations, Counter::ViolationsLost, "violation"),
        (Counter::Flows, Counter::FlowsLost, "flow"),
    ];
    let mut missing = 0;
    for (ring, (all, lost, kind)) in rings.into_iter().enumerate() {
        let (all, lost) = (counters.get(all)?, counters.get(lost)?);
        let announced = got.lost("KernelRingFull", kind);
        ensure!(announced == lost, "the {kind} ring lost {lost}, {announced} are announced; {got}");
        let here = i128::from(all) - i128::from(got.of_ring(ring));
        ensure!(here >= 0 || unseen < 0, "the {kind} ring: {} events more than {all}; {got}", -here);
        missing += here;
    }
    let known = i128::from(got.of_either()) + i128::from(unseen);
    ensure!(missing == known, "{missing} events are missing, {known} are announced or known; {got}");
    let suppressed = counters.get(Counter::Suppressed)?;
    let announced = got.lost("Suppressed", "violation");
    ensure!(announced == suppressed, "{suppressed} were suppressed, {announced} are announced; {got}");
    ensure!(counters.get(Counter::NoStorage)? == 0, "sockets without storage: their flows are not told of");
    Ok(())
}
