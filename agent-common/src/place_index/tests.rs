extern crate std;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::{BuildError, PlaceIndex};
use crate::address::Address;

fn v6(bits: u128) -> Address {
    Address::from_bytes(bits.to_be_bytes())
}

fn naive<T: PartialOrd + Copy>(ranges: &[(T, u16)], key: T) -> u16 {
    ranges.iter().rev().find(|r| r.0 <= key).map(|r| r.1).unwrap()
}

/// Starts that crowd where the index changes its step: bucket, block and /64 edges, and the ends of the space.
fn crowded() -> impl Strategy<Value = u128> {
    let base = prop_oneof![
        any::<u128>(),
        Just(0u128),
        Just(u128::MAX),
        (0u128..1 << 16).prop_map(|t| t << 112),
        (0u128..1 << 6).prop_map(|t| 0x2a01_0000_0000_0000u128 << 64 | t << 100),
        (0u128..1 << 6).prop_map(|t| 0x2a01_0db8_0000_0001u128 << 64 | t),
        (0u128..1 << 6).prop_map(|t| 0xfd00_0000_0000_0000u128 << 64 | t << 64),
        (0u128..1 << 4).prop_map(|t| 0x2a01_0db8_0000_0000u128 << 64 | t << 64 | 1 << 63),
    ];
    (base, -1i8..=1).prop_map(|(b, d)| b.wrapping_add_signed(i128::from(d)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_ranges_answer_as_a_linear_scan_does(
        starts in prop::collection::btree_map(crowded(), 0u16..4096, 1..400),
        starts4 in prop::collection::btree_map(any::<u32>(), 0u16..4096, 1..400),
        probes in prop::collection::vec(crowded(), 200),
    ) {
        let mut starts: BTreeMap<u128, u16> = starts;
        starts.entry(0).or_insert(7);
        let mut starts4: BTreeMap<u32, u16> = starts4;
        starts4.entry(0).or_insert(7);
        // One crowded bucket, so that the binary search has something to halve.
        for i in 0..2000u32 { starts4.insert(0x0a00_0000 + i * 3, (i % 4000) as u16); }
        for i in 0..3000u128 { starts.insert((0x2a02_0000_1000_0000u128 << 64) + ((i * 5) << 64), (i % 4000) as u16); }
        let r6: Vec<_> = starts.into_iter().collect();
        let r4: Vec<_> = starts4.into_iter().collect();
        let mut index = PlaceIndex::boxed();
        index.build(&r4, &r6).unwrap();
        let edges = r6.iter().flat_map(|r| [r.0, r.0.wrapping_sub(1), r.0.wrapping_add(1)]);
        for key in edges.chain(probes.iter().copied()) {
            prop_assert_eq!(index.place_v6(v6(key)), naive(&r6, key), "{:032x}", key);
        }
        for key in r4.iter().flat_map(|r| [r.0, r.0.wrapping_sub(1), r.0.wrapping_add(1)]) {
            prop_assert_eq!(index.place_v4(key), naive(&r4, key), "{:08x}", key);
        }
    }
}

#[test]
fn ranges_that_are_no_cover_are_refused() {
    let mut index = PlaceIndex::boxed();
    assert_eq!(index.build(&[(1, 0)], &[(0, 0)]), Err(BuildError::NoOrigin));
    assert_eq!(index.build(&[], &[(0, 0)]), Err(BuildError::NoOrigin));
    assert_eq!(index.build(&[(0, 0), (5, 1), (5, 2)], &[(0, 0)]), Err(BuildError::Unsorted(2)));
    assert_eq!(index.build(&[(0, 0)], &[(0, 4096)]), Err(BuildError::PlaceId(4096)));
}

#[test]
fn more_ranges_than_fit_are_refused_by_name() {
    let mut index = PlaceIndex::boxed();
    let blocks: Vec<_> = (0..600u128).map(|i| (i << 111, (i % 2) as u16)).collect();
    assert!(matches!(index.build(&[(0, 0)], &blocks), Err(BuildError::Full { capacity: 256, .. })));
    let v4: Vec<_> = (0..600_000u32).map(|i| (i, 0)).collect();
    assert!(matches!(
        PlaceIndex::boxed().build(&v4, &[(0, 0)]),
        Err(BuildError::Full { what: "IPv4 ranges", .. })
    ));
}

#[test]
fn a_single_host_inside_a_64_is_told_from_its_neighbours() {
    let host = 0x2001_0db8_0000_0000_0000_0000_0000_0001u128;
    let ranges = vec![(0, 1), (host, 2), (host + 1, 1)];
    let mut index = PlaceIndex::boxed();
    let usage = index.build(&[(0, 9)], &ranges).unwrap();
    assert_eq!((usage.deep_blocks, usage.deep_cells), (1, 3));
    assert_eq!([host - 1, host, host + 1].map(|k| index.place_v6(v6(k))), [1, 2, 1]);
}
