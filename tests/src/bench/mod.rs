//! What the fence costs, beside its peers, as ratios within one run.
//!
//! | module | measures |
//! |---|---|
//! | [`traffic`] | connects, datagrams and streams under nothing, the agent, an LPM trie, nftables; time in our programs |
//! | [`lookup`] | the place index against the LPM trie, in the kernel |
//! | [`index`] | memory, file to swapped index, policy flip |
//! | [`release`] | what freeing the old index does to connects |
//! | [`agents`] | start, memory, publication, refused calls |
//! | [`events`] | events to a subscriber, and whether any is lost |
//!
//! [`stage`] sets the scene, [`worker`] and [`loops`] make the load, [`ground`] is the world, [`report`] and [`bar`] say
//! what came of it. Absolute figures move with the machine; the ratios are what counts, each with the spread that two
//! equal things show in the same rounds.

mod agents;
mod backend;
mod bar;
mod clock;
mod events;
mod ground;
mod index;
mod kernel;
mod lookup;
mod loops;
mod machine;
mod modes;
mod nft;
mod options;
mod programs;
mod random;
mod record;
mod release;
mod report;
mod stage;
mod stats;
mod sys;
mod traffic;
mod trie;
mod worker;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::setpriority_process;

use self::ground::Ground;
use self::machine::Machine;
use self::options::{Options, USAGE};
use self::report::Report;

const PRIORITY: i32 = -10;

/// Measures one thing and reports it.
type Measure = fn(&Ground, &Options, &mut Report) -> Result<()>;

/// What there is to measure, in this order.
const SECTIONS: [(&str, Measure); 6] = [
    ("traffic", traffic::measure),
    ("lookup", lookup::measure),
    ("index", index::measure),
    ("release", release::measure),
    ("agent", agents::measure),
    ("events", events::measure),
];

/// Reads the command line, measures, reports.
///
/// # Errors
/// Something could not be measured. What could is reported first.
pub(crate) fn main() -> Result<()> {
    worker::serve_if_asked();
    let options = Options::parse(std::env::args().skip(1), &SECTIONS.map(|(name, _)| name))?;
    if options.help {
        println!("{USAGE}");
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmark makes namespaces and loads programs: run it as root"
    );
    // For all that is started from here, too: what is measured must not wait for other programs. Worse figures, not wrong
    // ones, where this is refused.
    setpriority_process(None, PRIORITY).ok();
    let start = Instant::now();
    let ground = Ground::new(options.country_db.as_deref()).context("the country data")?;
    let machine = Machine::here(&ground.source);
    let mut report = Report::default();
    let mut broken = Vec::new();
    for (name, measure) in SECTIONS.into_iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("· {name}");
        let start = Instant::now();
        if let Err(error) = measure(&ground, &options, &mut report) {
            report.note(format!("The section {name} broke off: {error:#}"));
            broken.push(format!("{name}: {error:#}"));
        }
        eprintln!("· {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    print!("{}", report.plain());
    record::fallen(&report).iter().for_each(|line| println!("{line}"));
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
    if !broken.is_empty() {
        bail!("could not be measured:\n  {}", broken.join("\n  "));
    }
    if options.record {
        record::write(&machine, &report, &options)?;
    }
    Ok(())
}
