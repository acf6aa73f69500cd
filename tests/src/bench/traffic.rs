//! Traffic under each mode, in turn: what the fence costs, and what its peers do.
//!
//! In each round every mode gets one slice, and "none" gets two, first and last. A ratio is a mode's rate by the mean of
//! the two; the two by each other are the A/A spread. Every other round runs backwards.

use std::time::Duration;

use anyhow::{Context, Result};

use super::bar::Bar;
use super::ground::{FEW, Ground, MANY};
use super::modes::{MODES, Mode, Stages};
use super::options::{Effort, Options};
use super::programs::ProgramTimes;
use super::report::{Report, Row, Unit};
use super::stats::Sample;
use super::worker::Order;

/// A load, and what the fence must reach under it.
struct Load {
    title: &'static str,
    order: fn(u64) -> Order,
    unit: Unit,
    bar: Bar,
    /// Whether there is a packet a call, so that the added time is a cost per packet.
    per_packet: bool,
}

const LOADS: [Load; 4] = [
    Load {
        title: "connect + close",
        order: |for_ms| Order::Connect { for_ms },
        unit: Unit::PerSecond,
        bar: Bar::AtLeast { goal: 0.97, floor: 0.93 },
        per_packet: false,
    },
    Load {
        title: "UDP send, 16,384 destinations",
        order: |for_ms| Order::Send { targets: MANY, for_ms },
        unit: Unit::PerSecond,
        bar: Bar::AtLeast { goal: 0.92, floor: 0.85 },
        per_packet: true,
    },
    Load {
        title: "UDP send, 16 destinations",
        order: |for_ms| Order::Send { targets: FEW, for_ms },
        unit: Unit::PerSecond,
        bar: Bar::AtLeast { goal: 0.95, floor: 0.87 },
        per_packet: true,
    },
    Load {
        title: "TCP throughput",
        order: |for_ms| Order::Stream { for_ms },
        unit: Unit::Gigabits,
        bar: Bar::AtLeast { goal: 0.98, floor: 0.95 },
        per_packet: false,
    },
];

/// Added time per packet by that of nftables with merged sets.
const AGAINST_NFT: Bar = Bar::AtMost { goal: 1.0 / 3.0, floor: 0.5 };

/// Measures all loads under all modes.
///
/// # Errors
/// A mode can't be set up, or a load broke off.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let effort = options.effort();
    let mut stages = Stages::set(ground, report)?;
    for load in &LOADS {
        eprintln!("  {}", load.title);
        let rates = stages.rounds(load, effort)?;
        present(load, &rates, report);
    }
    stages.time_in_programs(effort, report)
}

/// Rates of one load: by mode, one a round.
struct Rates(Vec<(Mode, Vec<f64>)>);

impl Rates {
    fn of(&self, mode: Mode) -> &[f64] {
        self.0.iter().find(|(of, _)| *of == mode).map_or(&[], |(_, rates)| rates)
    }

    /// A round's rate with nothing in between: the mean of its two slices.
    fn base(&self, round: usize) -> f64 {
        (self.of(Mode::None)[round] + self.of(Mode::NoneAgain)[round]) / 2.0
    }

    fn by_round(&self, mode: Mode, value: impl Fn(usize, f64) -> f64) -> Option<Sample> {
        let values: Vec<f64> =
            self.of(mode).iter().enumerate().map(|(round, rate)| value(round, *rate)).collect();
        Sample::of(&values)
    }

    /// A mode by none.
    fn ratio(&self, mode: Mode) -> Option<Sample> {
        self.by_round(mode, |round, rate| rate / self.base(round))
    }

    /// None by none: what the measurement itself scatters by.
    fn spread(&self) -> f64 {
        let again = self.by_round(Mode::NoneAgain, |round, rate| rate / self.of(Mode::None)[round]);
        again.map_or(f64::INFINITY, Sample::spread_about_one)
    }

    /// Time that a mode adds to each call, ns.
    fn added(&self, mode: Mode) -> Option<Sample> {
        self.by_round(mode, |round, rate| 1e9 / rate - 1e9 / self.base(round))
    }

    /// Time that the fence adds, by that which a peer adds. Of the medians: a quotient of two small differences a round
    /// would scatter without bound.
    fn added_by(&self, peer: Mode) -> Option<f64> {
        Some(self.added(Mode::Fence)?.median / self.added(peer)?.median)
    }
}

impl Stages {
    /// One slice of each mode and round, in turn.
    fn rounds(&mut self, load: &Load, effort: Effort) -> Result<Rates> {
        let order = (load.order)(milliseconds(effort.slice)?);
        let mut rates = Rates(MODES.iter().map(|mode| (*mode, Vec::new())).collect());
        let count = self.stages.len();
        // The first round warms caches, connections' metrics and the processor's clock, and does not count.
        for round in 0..=effort.rounds {
            for at in 0..count {
                let at = if round % 2 == 0 { at } else { count - 1 - at };
                let (mode, stage) = &mut self.stages[at];
                let answer = stage
                    .worker()
                    .tell(&order)
                    .with_context(|| format!("{}, {}", load.title, mode.name()))?;
                if round > 0 {
                    rates.0[at].1.push(answer.rate());
                }
            }
        }
        Ok(rates)
    }

    /// Where the time goes: the kernel's own statistics of each program, under the fence.
    fn time_in_programs(&mut self, effort: Effort, report: &mut Report) -> Result<()> {
        report.section(
            "Time in the fence's programs, by load (the statistics themselves cost some 30 ns a run)",
        );
        let pid = self.agents.iter().find(|(mode, ..)| *mode == Mode::Fence).map(|(_, agent, _)| agent.pid());
        let pid = pid.context("no agent with a fence")?;
        let stage = self.stages.iter_mut().find(|(mode, _)| *mode == Mode::Fence);
        let (_, stage) = stage.context("no stage with a fence")?;
        let times = ProgramTimes::of(pid, &self.kernel.programs)?;
        for load in &LOADS {
            let before = times.read()?;
            let order = (load.order)(milliseconds(effort.slice * 4)?);
            let calls = stage.worker().tell(&order)?.done;
            for (name, runs, time) in times.read()?.since(&before) {
                let what =
                    format!("{}: {name}, {:.2} runs a call", load.title, runs as f64 / calls.max(1) as f64);
                if load.unit == Unit::PerSecond && runs > calls / 100 {
                    report.row(Row::new(
                        what,
                        Unit::Nanoseconds,
                        Sample::one(time.as_nanos() as f64 / runs as f64),
                    ));
                } else if load.unit == Unit::Gigabits && runs > 100 {
                    let what = format!("{}: {name}", load.title);
                    report.row(Row::new(
                        what,
                        Unit::Nanoseconds,
                        Sample::one(time.as_nanos() as f64 / runs as f64),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> Result<u64> {
    Ok(u64::try_from(time.as_millis())?)
}

fn present(load: &Load, rates: &Rates, report: &mut Report) {
    report.section(load.title);
    let spread = rates.spread();
    let scale = if load.unit == Unit::Gigabits { 8e-9 } else { 1.0 };
    if let Some(base) = rates.by_round(Mode::None, |_, rate| rate * scale) {
        report.row(Row::new("none", load.unit, base));
    }
    for mode in MODES.into_iter().filter(|mode| !matches!(mode, Mode::None | Mode::NoneAgain)) {
        let Some(ratio) = rates.ratio(mode) else { continue };
        let row =
            Row::new(format!("{}: {} ÷ none", load.title, mode.name()), Unit::Ratio, ratio).against(spread);
        report.row(if mode == Mode::Fence { row.bar(load.bar) } else { row });
    }
    let what = if load.per_packet { "added per packet" } else { "added per call" };
    for mode in [Mode::Empty, Mode::Fence, Mode::Trie, Mode::NftMerged, Mode::NftPrefixes] {
        let Some(added) = rates.added(mode).filter(|_| load.unit == Unit::PerSecond) else { continue };
        report.row(Row::new(format!("{what}: {}", mode.name()), Unit::Nanoseconds, added));
    }
    if !load.per_packet {
        return;
    }
    for (peer, bar) in [(Mode::NftMerged, Some(AGAINST_NFT)), (Mode::NftPrefixes, None), (Mode::Trie, None)] {
        let Some(share) = rates.added_by(peer) else { continue };
        let what = format!("{what}, {}: ringfence ÷ {}", load.title, peer.name());
        // A peer whose own cost hides in the spread is nothing to divide by.
        let hidden = rates.ratio(peer).is_none_or(|ratio| (ratio.median - 1.0).abs() <= spread);
        let row = Row::new(what, Unit::Ratio, Sample::one(share));
        match bar.filter(|_| !hidden) {
            Some(bar) => report.row(row.bar(bar)),
            None => report.row(row),
        }
    }
}
