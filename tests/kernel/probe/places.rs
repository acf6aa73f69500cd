//! (a) Place lookups.

use std::collections::BTreeMap;

use agent::places::WorldBuilder;
use agent::policy::host_view::HostView;
use agent_common::address::{Address, Judged};
use agent_common::probe::{BATCH, Batch, PlaceQuestion, UNANSWERED};
use agent_common::verdict::places_of;
use anyhow::{Result, ensure};

use super::draw::Draw;
use super::{ANY_PACKET, Probe, count};
use crate::suite::Outcome;

/// Disjoint ranges: first address and place, the first at zero.
struct Ranges {
    v4: Vec<(u32, u16)>,
    v6: Vec<(u128, u16)>,
}

pub(super) fn world() -> Result<Outcome> {
    let world = WorldBuilder::builtin().build()?;
    let ranges = Ranges { v4: world.ranges_v4().to_vec(), v6: world.ranges_v6().to_vec() };
    compare(&ranges, count(40_000, 1_000_000, 0))
}

pub(super) fn crowded() -> Result<Outcome> {
    compare(&made_up(), count(40_000, 1_000_000, 10_000))
}

/// Crowds where the index changes its step: one IPv4 bucket, one IPv6 bucket, many deep /64s, and the ends of the space.
fn made_up() -> Ranges {
    let mut draw = Draw::new(7);
    let mut v4: BTreeMap<u32, u16> = [(0, 1)].into();
    let mut v6: BTreeMap<u128, u16> = [(0, 1)].into();
    v4.extend((0..50_000).map(|_| (draw.u32(), draw.u32() as u16 & 0xfff)));
    v4.extend((0..16_384).map(|i| (0x0a00_0000 + i, (i % 4000) as u16)));
    v4.insert(u32::MAX, 77);
    for _ in 0..40_000 {
        let top = 0x2000 + draw.below(100) as u128;
        v6.insert(top << 112 | (draw.u64() as u128 >> 16) << 64, draw.u32() as u16 & 0xfff);
    }
    v6.extend((0..20_000u128).map(|i| (0x2a02_0000_1000_0000_u128 << 64 | i << 65, (i % 4000) as u16)));
    for block in 0..1000u128 {
        let network = 0x2a03_0000_0000_0000_u128 << 64 | block << 65;
        v6.extend((0..20).map(|_| (network | u128::from(draw.u64()), draw.u32() as u16 & 0xfff)));
        v6.insert(network | 1 << 63, 99);
    }
    v6.insert(u128::MAX, 78);
    Ranges { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
}

fn compare(ranges: &Ranges, lookups: usize) -> Result<Outcome> {
    let mut probe = Probe::load()?;
    let fill = |index: &mut agent_common::place_index::PlaceIndex| {
        index.build(&ranges.v4, &ranges.v6).map(|_| ()).map_err(Into::into)
    };
    let (policy, index) = probe.publish(fill, |_| Ok(()))?;
    let mut map = probe.array::<Batch<PlaceQuestion>>("PROBE_PLACES")?;
    let view = HostView { policy: &policy, index: &index, now: 0 };
    let mut draw = Draw::new(11);
    let mut distinct = std::collections::BTreeSet::new();
    for _ in 0..lookups.div_ceil(BATCH) {
        let questions = Batch(std::array::from_fn(|_| PlaceQuestion {
            address: address(&mut draw, ranges),
            first: UNANSWERED,
            second: UNANSWERED,
        }));
        map.set(0, questions, 0)?;
        probe.run("probe_places", &ANY_PACKET)?;
        for answer in map.get(&0, 0)?.0 {
            let kernel = (answer.first, answer.second);
            let (first, second) = places_of(&view, answer.address);
            let host = (u64::from(first), u64::from(second));
            let plain = plain(ranges, answer.address);
            ensure!(
                kernel == host && host == plain,
                "{:x?}: kernel {kernel:?}, host {host:?}, by plain search {plain:?}",
                answer.address
            );
            distinct.insert(kernel);
        }
    }
    ensure!(
        distinct.len() > 100,
        "only {} different answers: the questions are too much alike",
        distinct.len()
    );
    Ok(Outcome::Passed)
}

/// By the ranges themselves, without an index.
fn plain(ranges: &Ranges, address: Address) -> (u64, u64) {
    fn at<K: Copy + PartialOrd>(ranges: &[(K, u16)], key: K) -> u64 {
        ranges[ranges.partition_point(|range| range.0 <= key) - 1].1.into()
    }
    let v4 = |a: u32| at(&ranges.v4, a);
    match address.judged() {
        Judged::V4(a) => (v4(a), v4(a)),
        Judged::V6(a) => {
            let place = at(&ranges.v6, u128::from_be_bytes(a.to_bytes()));
            (place, place)
        }
        Judged::Teredo { server, client } => (v4(server), v4(client)),
    }
}

/// Range edges and their neighbours, addresses near them, embedded IPv4 addresses, and any.
fn address(draw: &mut Draw, ranges: &Ranges) -> Address {
    let edge4 = draw.of(&ranges.v4).0.wrapping_add(draw.of(&[u32::MAX, 0, 0, 1]));
    let edge6 = draw.of(&ranges.v6).0.wrapping_add(draw.of(&[u128::MAX, 0, 0, 1]));
    let bits = match draw.below(10) {
        0..3 => return Address::v4(edge4),
        3 => return Address::v4(draw.u32()),
        4..7 => edge6,
        7 => edge6 ^ draw.u128() >> draw.of(&[32, 48, 64, 100]),
        8 => draw.u128(),
        _ => return embedded(draw, edge4),
    };
    Address::from_bytes(bits.to_be_bytes())
}

/// An IPv6 address that is judged by an IPv4 one, or by two.
pub(super) fn embedded(draw: &mut Draw, v4: u32) -> Address {
    match draw.below(3) {
        0 => Address { hi: 0x0064_ff9b << 32, lo: v4.into() },
        1 => Address { hi: 0x2002 << 48 | u64::from(v4) << 16 | draw.below(1 << 16), lo: draw.u64() },
        _ => Address { hi: 0x2001_0000 << 32 | u64::from(v4), lo: draw.u64() },
    }
}
