//! The agent as a process: how soon it enforces, what it holds, how soon a changed policy is in force, how a refused
//! call feels.

use std::fs;
use std::time::{Duration, Instant};

use agent_tests::agent::{Agent, Setup};
use anyhow::{Context, Result};

use super::bar::Bar;
use super::ground::{FEW, Ground};
use super::options::Options;
use super::report::{Report, Row, Unit};
use super::stage::{Stage, fence};
use super::stats::{Sample, at};
use super::sys;
use super::worker::Order;

const START: Bar = Bar::AtMost { goal: 200.0, floor: 500.0 };
/// The design's 40 and 64 MB.
const MEMORY: Bar = Bar::AtMost { goal: 38.1, floor: 61.0 };
/// Issue: median under a millisecond.
const REFUSAL: Bar = Bar::AtMost { goal: 1000.0, floor: 1000.0 };
const KIBIBYTES: f64 = 1024.0;

/// Measures everything about one agent.
///
/// # Errors
/// It can't be started, or does not do what it must.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    report.section("The agent");
    let effort = options.effort();
    let refused = ground.refused_targets()?;
    let mut stage = Stage::new(&refused[..FEW])?;
    let setup = Setup::new(&stage.root)?.policy(&stage.fence())?;

    let (mut enforcing, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..effort.starts {
        let limit_ms = 30_000;
        stage.worker().begin(&Order::UntilRefused { limit_ms })?;
        let start = sys::monotonic_ns();
        let agent = setup.start()?;
        ready.push((sys::monotonic_ns() - start) as f64 / 1e6);
        let when = *stage.worker().answer()?.values.first().context("no time of refusal")?;
        enforcing.push((when - start) as f64 / 1e6);
        agent.stop()?;
    }
    let sample = |values: &[f64]| Sample::of(values).context("nothing was measured");
    report.row(Row::new("start to enforcing", Unit::Milliseconds, sample(&enforcing)?).bar(START));
    report.row(Row::new("start to `ringfence status` exiting 0", Unit::Milliseconds, sample(&ready)?));

    let agent = setup.start()?;
    memory(&agent, "agent RSS, world loaded", Some(MEMORY), report)?;
    refusals(&mut stage, options, report)?;
    publications(&agent, &setup, &stage, options, report)?;
    memory(&agent, "agent RSS after these publications", None, report)?;
    agent.stop()?;
    Ok(())
}

/// Resident memory, and what of it is the agent's own. Maps of the kernel side that are mapped (image, rings) are the
/// kernel's memory, counted whole as soon as they are mapped, and rings twice.
fn memory(agent: &Agent, what: &str, bar: Option<Bar>, report: &mut Report) -> Result<()> {
    let path = format!("/proc/{}/smaps", agent.pid());
    let smaps = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let (mut all, mut own, mut maps, mut of_map) = (0.0, 0.0, 0.0, false);
    for line in smaps.lines() {
        let Some((name, value)) = line.split_once(": ") else {
            of_map = line.contains("bpf-map");
            continue;
        };
        let kibibytes =
            value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        match name.trim_end_matches(':') {
            "Rss" => {
                all += kibibytes;
                maps += if of_map { kibibytes } else { 0.0 };
            }
            "Anonymous" => own += kibibytes,
            _ => {}
        }
    }
    let mut put = |what: &str, kibibytes: f64, bar: Option<Bar>| {
        let row = Row::new(what, Unit::Mebibytes, Sample::one(kibibytes / KIBIBYTES));
        report.row(match bar {
            Some(bar) => row.bar(bar),
            None => row,
        });
    };
    put(what, all, bar);
    put("— of that its own data", own, None);
    put("— of that mapped kernel maps", maps, None);
    put("— of that the program file", all - own - maps, None);
    Ok(())
}

fn refusals(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let answer = stage.worker().tell(&Order::Refused { times: options.effort().refused })?;
    let mut values: Vec<f64> = answer.values.iter().map(|ns| *ns as f64 / 1e3).collect();
    values.sort_by(f64::total_cmp);
    let sample = Sample::of(&values).context("nothing was refused")?;
    report.row(Row::new("refused connect(), median", Unit::Microseconds, sample).bar(REFUSAL));
    let p99 = at(&values, 0.99).context("nothing was refused")?;
    report.row(Row::new("refused connect(), p99", Unit::Microseconds, Sample::one(p99)));
    Ok(())
}

/// The policy file replaced, until the generation is visible to whoever asks. Asked every few milliseconds: that is the
/// resolution.
fn publications(
    agent: &Agent,
    setup: &Setup,
    stage: &Stage,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let mut times = Vec::new();
    for jurisdiction in ["US", "EEA"].into_iter().cycle().take(options.effort().starts as usize * 2) {
        let start = Instant::now();
        agent.publish(setup, &fence(stage.workload.name(), jurisdiction))?;
        times.push(start.elapsed());
    }
    let times: Vec<f64> = times.iter().map(|time: &Duration| time.as_secs_f64() * 1e3).collect();
    let sample = Sample::of(&times).context("no publication")?;
    report.row(Row::new("policy file replaced to new generation visible", Unit::Milliseconds, sample));
    Ok(())
}
