//! Sound files, damaged: refused, or read as the `maxminddb` crate's own lookups read what is left. Never a panic.

use std::net::IpAddr;

use maxminddb::Reader;

use crate::fixture::{Form, Numbers, random};
use crate::reference::{from_database, native, ours, theirs, world};
use crate::tier;

const PAGE: usize = 4096;

/// Some thousand networks: 30 pages or more.
fn large() -> Vec<u8> {
    let bytes = random(&mut Numbers(5), 24, 6, Form::Nested, 3000).build();
    assert!(bytes.len() > 30 * PAGE, "{}", bytes.len());
    bytes
}

fn probes() -> Vec<IpAddr> {
    let mut numbers = Numbers(9);
    let v4 = (0..64u32).map(|at| IpAddr::V4((at << 26 | (numbers.next() as u32) >> 6).into()));
    let v6 = [0x2a00u128, 0x2600, 0x2c0f].map(|top| IpAddr::V6((top << 112 | 1).into()));
    v4.chain(v6).filter(|address| native(*address)).collect()
}

/// Whether the file was taken; if it was, it must be read right.
fn taken(bytes: &[u8], what: &str) -> bool {
    let Ok(world) = world(bytes) else { return false };
    let reader = Reader::from_source(bytes).expect("taken, but the crate refuses it");
    for address in probes().into_iter().filter(|address| from_database(&world, *address)) {
        let said = theirs(&reader, address);
        let said =
            said.unwrap_or_else(|error| panic!("{what}: {address}: taken, but the crate says {error}"));
        assert!(
            said.contains(&ours(&world, address)),
            "{what}: {address}: {:?} is not of {said:?}",
            ours(&world, address)
        );
    }
    true
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = large();
    assert!(taken(&bytes, "whole"));
    for end in (0..bytes.len()).step_by(PAGE).chain(bytes.len() - 300..bytes.len()) {
        assert!(!taken(&bytes[..end], &format!("cut at {end}")), "cut at {end} of {}", bytes.len());
    }
}

#[test]
fn a_file_that_lacks_a_page_or_has_it_zeroed_is_refused_or_read_right() {
    let bytes = large();
    for start in (0..bytes.len() - PAGE).step_by(PAGE) {
        let hole = [&bytes[..start], &bytes[start + PAGE..]].concat();
        taken(&hole, &format!("without the page at {start}"));
        let mut zeroed = bytes.clone();
        zeroed[start..start + PAGE].fill(0);
        taken(&zeroed, &format!("with zeros at {start}"));
    }
}

#[test]
fn a_file_with_flipped_bits_is_refused_or_read_right() {
    let mut numbers = Numbers(2026);
    let files: Vec<Vec<u8>> = [(24, 6), (28, 6), (32, 4)]
        .into_iter()
        .zip(Form::ALL)
        .map(|((record_size, ip_version), form)| {
            random(&mut numbers, record_size, ip_version, form, 40).build()
        })
        .collect();
    let mut survived = 0;
    let rounds = tier(1500, 30_000);
    for round in 0..rounds {
        let mut bytes = files[round % files.len()].clone();
        let flips = 1 + numbers.below(3);
        for _ in 0..flips {
            let at = numbers.below(bytes.len());
            bytes[at] ^= 1 << numbers.below(8);
        }
        survived += usize::from(taken(&bytes, &format!("round {round}")));
    }
    // Most flips hit a node or a value without breaking the format: if none or all survive, nothing was tested.
    assert!(survived > rounds / 20 && survived < rounds, "{survived} of {rounds} were taken");
}
