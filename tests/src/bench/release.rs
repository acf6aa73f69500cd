//! What freeing the old index does to traffic, beside freeing an LPM trie with the same world: the longest connect while
//! it happens. (A world-size trie is freed node by node in one go, and has stalled a SYN for a second.)

use std::time::Duration;

use anyhow::{Context, Result};

use super::bar::Bar;
use super::clock::Watch;
use super::ground::Ground;
use super::kernel::Kernel;
use super::options::Options;
use super::report::{Report, Row, Unit};
use super::stage::Stage;
use super::stats::Sample;
use super::trie::Prefixes;
use super::worker::Order;

const LONGEST: Bar = Bar::AtMost { goal: 10.0, floor: 50.0 };
/// The connect loop runs this long around each release.
const AROUND: Duration = Duration::from_millis(500);
/// Long enough for a lost SYN, tried again after a second, to be seen.
const AFTER: Duration = Duration::from_millis(1300);

/// Measures index, trie, and neither.
///
/// # Errors
/// The kernel refuses, or the loop broke off.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut stage = Stage::new(&ground.allowed_targets()?)?;
    let (v4, v6) = (Prefixes::v4(ground), Prefixes::v6(ground));
    let (_kernel, maps) = Kernel::load()?;
    let mut maps = maps.image;
    let times = if options.quick { 1 } else { 5 };
    let (mut nothing, mut index, mut trie) = (Vec::new(), Vec::new(), Vec::new());
    let (mut index_took, mut trie_took) = (Vec::new(), Vec::new());
    let mut old = None;
    for _ in 0..times {
        nothing.push(longest(&mut stage, || Ok(()))?.0);

        // Two publications in a row: with the handles of the first gone, the second frees its index.
        let mut new = maps.new_index()?;
        ground.world.fill(new.value())?;
        drop(old.take());
        let handles = maps.publish(maps.new_policy()?, Some(new))?;
        let mut next = maps.new_index()?;
        ground.world.fill(next.value())?;
        let policy = maps.new_policy()?;
        drop(handles);
        let (max, took) = longest(&mut stage, || {
            old = Some(maps.publish(policy, Some(next))?);
            Ok(())
        })?;
        index.push(max);
        index_took.push(took);

        let tries = (v4.trie()?, v6.trie()?);
        let (max, took) = longest(&mut stage, || {
            drop(tries);
            Ok(())
        })?;
        trie.push(max);
        trie_took.push(took);
    }
    report.section("Freeing the old index under a connect loop: the longest connect");
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let sample = |values: &[f64]| Sample::of(values).map(|sample| Sample { median: worst(values), ..sample });
    let row = |what: &str, values: &[f64]| -> Result<Row> {
        Ok(Row::new(what, Unit::Milliseconds, sample(values).context("nothing was released")?))
    };
    report.row(row("nothing freed (worst of all)", &nothing)?);
    report.row(row("old index swapped out and freed: longest connect (worst of all)", &index)?.bar(LONGEST));
    report.row(row("LPM tries of the world freed: longest connect (worst of all)", &trie)?);
    report.row(row("the swap itself", &index_took)?);
    report.row(row("closing the tries", &trie_took)?);
    report.note("The first column is the worst of all releases, not their median. Time in which the loop waited for a processor does \
                 not count; other work of a shared machine may still be in it: the first line says how much.");
    Ok(())
}

/// Runs `work` in the middle of a connect loop; returns the longest connect and how long `work` took (ms).
fn longest(stage: &mut Stage, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let all = AROUND + AFTER;
    stage.worker().begin(&Order::Windows { for_ms: u64::try_from(all.as_millis())? })?;
    // The loop runs before, during and after.
    std::thread::sleep(AROUND);
    let watch = Watch::start()?;
    let result = work();
    let took = watch.own()?;
    let answer = stage.worker().answer()?;
    result?;
    let max = answer.values.iter().copied().max().unwrap_or(0);
    Ok((max as f64 / 1e6, took.as_secs_f64() * 1e3))
}
