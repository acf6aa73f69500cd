//! The place index: what it takes of memory and time, through the agent's own publisher.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use agent_common::place_index::PlaceIndex;
use agent_tests::mmdb::{Shape, country_database};
use anyhow::{Context, Result};
use ipnet::IpNet;

use super::bar::Bar;
use super::clock::Watch;
use super::ground::{Ground, prefixes};
use super::kernel::{Kernel, policy, publisher};
use super::options::Options;
use super::report::{Report, Row, Unit};
use super::stage::fence;
use super::stats::Sample;
use super::trie::Prefixes;

const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// The design says MB.
const MEGABYTE_IN_MEBIBYTES: f64 = 1e6 / MEBIBYTE;
const MEMORY: Bar = Bar::AtMost { goal: 7.0 * MEGABYTE_IN_MEBIBYTES, floor: 8.0 * MEGABYTE_IN_MEBIBYTES };
const FILE_TO_SWAP: Bar = Bar::AtMost { goal: 60.0, floor: 100.0 };
/// The design's floor for a flip is no time but "no wrong verdict", which the kernel suite holds.
const FLIP: Bar = Bar::AtMost { goal: 20.0, floor: 100.0 };

/// Measures memory, builds, swaps and flips, and the tries' builds beside.
///
/// # Errors
/// The data or the kernel refuses.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    report.section("Place index: memory, build and swap");
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("world.mmdb");
    eprintln!("  writing an MMDB of the world");
    fs::write(&file, mmdb(ground)?)?;
    eprintln!("  builds, swaps and flips");
    let given = options.country_db.as_deref().unwrap_or(&file);
    for (what, database) in [("MMDB file", Some(given)), ("built-in data", None)] {
        publications(what, database, options, report)?;
    }
    tries(ground, options, report)
}

/// Publications with the places read anew, and without.
fn publications(what: &str, database: Option<&Path>, options: &Options, report: &mut Report) -> Result<()> {
    let (_kernel, maps) = Kernel::load()?;
    let (mut publisher, history) = publisher(maps, database)?;
    let sets = [policy(&fence("/bench", "EEA"))?, policy(&fence("/bench", "US"))?];
    let (mut swaps, mut flips) = (Vec::new(), Vec::new());
    for (round, set) in sets.iter().cycle().take(options.effort().builds as usize + 1).enumerate() {
        let set_again = set.clone();
        let watch = Watch::start()?;
        publisher.publish(set.clone(), true)?;
        let swapped = watch.own()?;
        let watch = Watch::start()?;
        publisher.publish(set_again, false)?;
        let flipped = watch.own()?;
        history.prune();
        // The first publication has no image to swap out.
        if round > 0 {
            swaps.push(swapped.as_secs_f64() * 1e3);
            flips.push(flipped.as_secs_f64() * 1e3);
        }
    }
    let sample = |values: &[f64]| Sample::of(values).context("no publications");
    if database.is_some() {
        let usage = publisher.usage();
        let memory = Sample::one(usage.bytes() as f64 / MEBIBYTE);
        report.row(Row::new("place index, v4 + v6, used", Unit::Mebibytes, memory).bar(MEMORY));
        let reserved = Sample::one(size_of::<PlaceIndex>() as f64 / MEBIBYTE);
        report.row(Row::new("place index, v4 + v6, reserved", Unit::Mebibytes, reserved));
        report.note(format!(
            "{} IPv4 and {} IPv6 ranges, {} finely divided /16 and {} /64 networks. The bars are 7 and 8 MB.",
            usage.v4_cells, usage.v6_cells, usage.v6_blocks, usage.deep_blocks
        ));
    }
    report.row(
        Row::new(format!("{what} to swapped index"), Unit::Milliseconds, sample(&swaps)?).bar(FILE_TO_SWAP),
    );
    report.row(Row::new(format!("policy flip ({what})"), Unit::Milliseconds, sample(&flips)?).bar(FLIP));
    Ok(())
}

fn tries(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let (v4, v6) = (Prefixes::v4(ground), Prefixes::v6(ground));
    let mut times = Vec::new();
    for _ in 0..if options.quick { 1 } else { 3 } {
        let watch = Watch::start()?;
        let _tries = (v4.trie()?, v6.trie()?);
        times.push(watch.own()?.as_secs_f64() * 1e3);
    }
    let sample = Sample::of(&times).context("no tries")?;
    report.row(Row::new("beside it: both LPM tries, filled in batches", Unit::Milliseconds, sample));
    // A node is 40 bytes and the address, in a slab of 64; half as many again join branches (kernel/bpf/lpm_trie.c).
    let nodes = (v4.len() + v6.len()) as f64 * 1.5 * 64.0 / MEBIBYTE;
    report.row(Row::new("beside it: both LPM tries, estimated memory", Unit::Mebibytes, Sample::one(nodes)));
    Ok(())
}

/// The country layer of the world as a database file, in the publisher's own shape.
fn mmdb(ground: &Ground) -> Result<Vec<u8>> {
    let country = |place: u16| {
        let place = ground.table.places.get(usize::from(place))?;
        place.country.map(|code| code.as_str().to_owned())
    };
    let codes: Vec<Option<String>> =
        (0..ground.table.places.len()).map(|place| country(place as u16)).collect();
    let mut networks = Vec::new();
    for (first, last, place) in ground.ranges_v4() {
        if let Some(Some(code)) = codes.get(usize::from(place)) {
            for (start, length) in prefixes(first.into(), last.into(), 32) {
                let address = IpAddr::V4(Ipv4Addr::from_bits(start as u32));
                networks.push((IpNet::new(address, length as u8)?, code.as_str()));
            }
        }
    }
    for (first, last, place) in ground.ranges_v6() {
        // The first /96 is where the format keeps IPv4.
        if let Some(Some(code)) = codes.get(usize::from(place)).filter(|_| first >> 32 != 0) {
            for (start, length) in prefixes(first, last, 128) {
                networks
                    .push((IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(start)), length as u8)?, code.as_str()));
            }
        }
    }
    Ok(country_database(Shape::DbIp, 1_780_000_000, &networks))
}
