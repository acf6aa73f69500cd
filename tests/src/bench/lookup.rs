//! Place lookups in the kernel: the index and the LPM trie with the same world, over the same keys, in one run.
//!
//! `BPF_PROG_TEST_RUN` of a loop of 65,536 lookups in which the next key depends on the last answer: latency. The same
//! loop without a lookup is taken off. In each round: index, trie, index again, nothing; the two index runs are the A/A
//! spread. All structures must return the same sum.

use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;

use super::bar::Bar;
use super::ground::Ground;
use super::kernel::{KEYS, Kernel, policy, publisher};
use super::options::{Effort, Options};
use super::random::Random;
use super::report::{Report, Row, Unit};
use super::stage::fence;
use super::stats::Sample;
use super::trie::Prefixes;

/// A sample of the prefixes that AWS (ip-ranges.json) and Google (cloud.json) publish, of all sizes as they stand there:
/// what egress traffic of servers mostly goes to.
const CLOUD_V4: [&str; 64] = [
    "150.222.106.0/24",
    "150.222.129.118/31",
    "3.5.48.0/22",
    "13.34.97.192/27",
    "13.248.73.0/24",
    "15.220.152.0/21",
    "15.230.77.64/26",
    "15.230.165.0/24",
    "15.251.0.5/32",
    "51.112.0.0/16",
    "52.74.0.0/16",
    "52.93.50.182/31",
    "54.168.0.0/16",
    "54.239.54.0/23",
    "13.34.11.192/27",
    "15.177.89.0/24",
    "15.230.14.17/32",
    "18.156.0.0/14",
    "52.82.170.0/24",
    "52.93.126.244/32",
    "52.95.24.0/22",
    "52.119.196.0/22",
    "52.144.218.64/26",
    "64.252.113.0/24",
    "79.125.0.0/17",
    "99.77.134.0/24",
    "99.78.144.0/21",
    "3.2.41.128/26",
    "13.214.0.0/15",
    "52.46.224.0/20",
    "54.180.0.0/15",
    "3.4.6.0/24",
    "16.12.2.0/24",
    "103.8.172.0/22",
    "176.34.0.0/19",
    "35.71.120.0/24",
    "35.80.0.0/12",
    "52.219.62.0/23",
    "69.107.6.216/29",
    "54.223.0.0/16",
    "34.80.0.0/15",
    "34.137.0.0/16",
    "35.185.128.0/19",
    "35.187.144.0/20",
    "35.220.32.0/21",
    "104.155.192.0/19",
    "104.199.242.0/23",
    "107.167.176.0/20",
    "130.211.240.0/20",
    "34.104.88.0/21",
    "35.220.27.0/24",
    "34.84.0.0/16",
    "34.64.64.0/22",
    "35.216.0.0/17",
    "34.124.44.0/23",
    "35.201.41.0/24",
    "34.101.18.0/24",
    "34.116.64.0/18",
    "34.118.0.0/17",
    "34.88.0.0/16",
    "8.34.208.0/23",
    "23.251.128.0/20",
    "34.76.0.0/14",
    "35.187.0.0/17",
];
/// The same for IPv6, the high 32 bits.
const CLOUD_V6: [(u32, u32); 10] = [
    (0x2600_1f00, 24), // AWS, United States
    (0x2a05_d000, 25), // AWS, Europe
    (0x2406_da00, 24), // AWS, Asia
    (0x2804_0800, 25), // AWS, Brazil
    (0x2603_1000, 24), // Azure
    (0x2a01_0111, 32), // Microsoft
    (0x2600_1900, 28), // Google
    (0x2607_f8b0, 32), // Google
    (0x2a01_04f8, 29), // Hetzner
    (0x2001_41d0, 32), // OVH
];
const HOT: usize = 16;

/// A set of keys: name, addresses as words, goal and floor against the trie.
struct Keys {
    name: &'static str,
    keys: Vec<(u64, u64)>,
    floor: f64,
}

const GOAL: f64 = 10.0;

fn keys_v4(ground: &Ground) -> Vec<Keys> {
    let mut random = Random::new(4);
    let mut set = |mut address: Box<dyn FnMut(&mut Random) -> u32>| -> Vec<(u64, u64)> {
        (0..KEYS).map(|_| (0, u64::from(address(&mut random)))).collect()
    };
    let blocks: Vec<Ipv4Net> = CLOUD_V4.iter().filter_map(|block| block.parse().ok()).collect();
    let of_block = move |random: &mut Random| {
        let block = blocks[random.below(blocks.len() as u64) as usize];
        block.network().to_bits() + random.below(1 << (32 - block.prefix_len())) as u32
    };
    let ranges: Vec<(u32, u32)> = ground.ranges_v4().map(|(first, last, _)| (first, last)).collect();
    let of_range = move |random: &mut Random| {
        let (first, last) = ranges[random.below(ranges.len() as u64) as usize];
        first + random.below(u64::from(last - first) + 1) as u32
    };
    let cloud = set(Box::new(of_block));
    let anywhere = set(Box::new(|random| random.word() as u32));
    let adversarial = set(Box::new(of_range));
    named(cloud, anywhere, adversarial, [6.0, 8.0, 8.0, 8.0])
}

fn keys_v6(ground: &Ground) -> Vec<Keys> {
    let mut random = Random::new(6);
    let words = |address: u128| ((address >> 64) as u64, address as u64);
    let mut set = |mut address: Box<dyn FnMut(&mut Random) -> u128>| -> Vec<(u64, u64)> {
        (0..KEYS).map(|_| words(address(&mut random))).collect()
    };
    let of_block = |random: &mut Random| {
        let (start, length) = CLOUD_V6[random.below(CLOUD_V6.len() as u64) as usize];
        u128::from(start) << 96 | random.wide() >> length
    };
    let ranges: Vec<(u128, u128)> = ground.ranges_v6().map(|(first, last, _)| (first, last)).collect();
    let of_range = move |random: &mut Random| {
        let (first, last) = ranges[random.below(ranges.len() as u64) as usize];
        // The modulo's bias is nothing beside 2^128; a range of everything does not occur.
        first + random.wide() % (last - first).saturating_add(1)
    };
    let cloud = set(Box::new(of_block));
    // 2000::/3, the part that is in use.
    let anywhere = set(Box::new(|random| 1 << 125 | random.wide() >> 3));
    let adversarial = set(Box::new(of_range));
    named(cloud, anywhere, adversarial, [6.0, 6.0, 6.0, 8.0])
}

fn named(
    cloud: Vec<(u64, u64)>,
    random: Vec<(u64, u64)>,
    adversarial: Vec<(u64, u64)>,
    floors: [f64; 4],
) -> Vec<Keys> {
    // In random order: a fixed cycle of sixteen is what branch predictors learn by heart, and traffic is not.
    let mut random_of = Random::new(16);
    let hot = (0..KEYS).map(|_| cloud[random_of.below(HOT as u64) as usize]).collect();
    let names = ["hot", "cloud", "random", "adversarial"];
    let all = [hot, cloud, random, adversarial];
    names.into_iter().zip(all).zip(floors).map(|((name, keys), floor)| Keys { name, keys, floor }).collect()
}

/// Measures both families.
///
/// # Errors
/// The kernel refuses, or structures disagree.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let (mut kernel, maps) = Kernel::load()?;
    let (mut publisher, _history) = publisher(maps, options.country_db.as_deref())?;
    publisher.publish(policy(&fence("/bench", "EEA"))?, true)?;
    let (v4, v6) = (Prefixes::v4(ground), Prefixes::v6(ground));
    let (took_v4, took_v6) = kernel.fill_tries(&v4, &v6)?;

    report.section("Place lookup in the kernel, against the LPM trie with the same world");
    let families = [("v4", keys_v4(ground)), ("v6", keys_v6(ground))];
    for (family, sets) in families {
        for keys in sets {
            eprintln!("  {family} {}", keys.name);
            kernel.set_keys(&keys.keys)?;
            one(&mut kernel, family, &keys, options.effort(), report)?;
        }
    }
    report.note(format!(
        "Filling the tries took {:.0} ms ({} IPv4 prefixes) and {:.0} ms ({} IPv6 prefixes), in batches.",
        took_v4.as_secs_f64() * 1e3,
        v4.len(),
        took_v6.as_secs_f64() * 1e3,
        v6.len(),
    ));
    report.note(
        "hot: 16 addresses in random order; cloud: random addresses of random cloud prefixes (v6: of large blocks); random: of the whole space (v6: 2000::/3); \
         adversarial: random addresses of random ranges, which picks the finely divided places.",
    );
    Ok(())
}

fn one(kernel: &mut Kernel, family: &str, keys: &Keys, effort: Effort, report: &mut Report) -> Result<()> {
    let (index, trie) = (format!("peer_lookup_index_{family}"), format!("peer_lookup_trie_{family}"));
    let (mut by_index, mut by_trie, mut ratios, mut spreads) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=effort.lookups {
        // Each with a run before it that does not count: both find the caches as they have left them themselves.
        let mut warm = |program: &str| {
            kernel.run(program)?;
            kernel.run(program)
        };
        let (first, sum) = warm(&index)?;
        let (of_trie, other) = warm(&trie)?;
        let (again, _) = warm(&index)?;
        let (nothing, _) = warm("peer_lookup_none")?;
        ensure!(sum == other, "index and trie disagree on {family} {}: {sum:#x} and {other:#x}", keys.name);
        if round == 0 {
            continue;
        }
        let each = |time: Duration| (time.as_nanos() as f64 - nothing.as_nanos() as f64) / KEYS as f64;
        let mean = (each(first) + each(again)) / 2.0;
        by_index.push(mean);
        by_trie.push(each(of_trie));
        ratios.push(each(of_trie) / mean);
        spreads.push(each(again) / each(first));
    }
    let (Some(by_index), Some(by_trie), Some(ratio), Some(spread)) =
        (Sample::of(&by_index), Sample::of(&by_trie), Sample::of(&ratios), Sample::of(&spreads))
    else {
        return Ok(());
    };
    let name = format!("{family} {}", keys.name);
    report.row(Row::new(format!("{name}: index"), Unit::Nanoseconds, by_index));
    report.row(Row::new(format!("{name}: LPM trie"), Unit::Nanoseconds, by_trie));
    let bar = Bar::AtLeast { goal: GOAL, floor: keys.floor };
    let row = Row::new(format!("lookup, {name}: LPM trie ÷ index"), Unit::Times, ratio);
    report.row(row.beside(spread.spread_about_one()).bar(bar));
    Ok(())
}
