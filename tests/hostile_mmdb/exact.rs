//! Whole databases against lookups in the file that they were read from.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use agent::places::{Found, Layer, World, WorldBuilder, country_head};
use agent_common::place_index::PlaceIndex;
use ipnet::IpNet;
use maxminddb::{Reader, WithinOptions};

use crate::fixture::{Database, Form, Numbers, Value, random};
use crate::reference::{native, ours, theirs, world};
use crate::tier;

/// The real database, if it is here.
fn real() -> Option<Vec<u8>> {
    let path = std::env::var_os("RINGFENCE_DBIP_MMDB").map(PathBuf::from);
    let path = path.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/data/dbip-country.mmdb"))
    });
    fs::read(path).ok()
}

fn skip(test: &str) {
    println!("SKIP exact::{test}: the real database is not here; docs/data.md says how to get it");
}

/// First and last addresses of the file's networks, with their neighbours.
fn edges(reader: &Reader<&[u8]>) -> Vec<IpAddr> {
    let mut edges = Vec::new();
    for network in reader.networks(WithinOptions::default()).unwrap() {
        let network: IpNet = network.unwrap().network().unwrap().to_string().parse().unwrap();
        match network {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                edges.extend(
                    [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                        .map(|b| IpAddr::V4(Ipv4Addr::from_bits(b))),
                );
            }
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                edges.extend(
                    [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                        .map(|b| IpAddr::V6(Ipv6Addr::from_bits(b))),
                );
            }
        }
    }
    edges
}

/// Holds world and index against the file at some addresses.
fn agree(world: &World, reader: &Reader<&[u8]>, addresses: impl Iterator<Item = IpAddr>) {
    let mut index = PlaceIndex::boxed();
    world.fill(&mut index).unwrap();
    let v6 = reader.metadata().ip_version == 6;
    for address in addresses.filter(|address| native(*address) && (v6 || address.is_ipv4())) {
        assert_eq!(Found::in_index(&index, address), world.lookup(address), "{address}: index and ranges");
        let said = theirs(reader, address).unwrap();
        // A record has its country in one form; the other forms say nothing.
        let said = said.into_iter().flatten().next();
        assert_eq!(ours(world, address), said, "{address}");
    }
}

fn anywhere(numbers: &mut Numbers) -> IpAddr {
    match numbers.below(2) {
        0 => IpAddr::V4((numbers.next() as u32).into()),
        // Global unicast, where the data is.
        _ => IpAddr::V6(
            (1u128 << 125 | (u128::from(numbers.next()) << 64 | u128::from(numbers.next())) >> 3).into(),
        ),
    }
}

#[test]
fn generated_databases_of_every_form_and_record_size_read_as_the_crate_reads_them() {
    let mut numbers = Numbers(7);
    for round in 0..tier(4, 40) {
        for record_size in [24, 28, 32] {
            for ip_version in [4, 6] {
                let form = Form::ALL[round % 3];
                let bytes = random(&mut numbers, record_size, ip_version, form, 120).build();
                let reader = Reader::from_source(&bytes[..]).unwrap();
                let world = world(&bytes).unwrap();
                agree(&world, &reader, edges(&reader).into_iter());
                agree(&world, &reader, (0..500).map(|_| anywhere(&mut numbers)));
            }
        }
    }
}

#[test]
fn the_ipv4_tree_may_be_a_single_leaf() {
    let mut database = Database::new(24, 6);
    database.insert("::/90".parse().unwrap(), &Form::Code.record("DE"));
    database.insert("2a00::/16".parse().unwrap(), &Form::Code.record("FR"));
    let world = world(&database.build()).unwrap();
    for (address, code) in [("1.2.3.4", "DE"), ("223.1.1.1", "DE"), ("2a00::1", "FR")] {
        assert_eq!(
            ours(&world, address.parse().unwrap()).map(|code| code.to_string()).as_deref(),
            Some(code)
        );
    }
}

#[test]
fn copies_of_the_ipv4_tree_under_other_prefixes_do_not_count() {
    // MaxMind hangs the IPv4 tree under ::ffff:0:0/96, 2001::/32 and 2002::/16 too.
    let mut numbers = Numbers(1);
    let mut database = random(&mut numbers, 24, 6, Form::Nested, 200);
    let plain = world(&database.build()).unwrap();
    let mut root = 0;
    for _ in 0..96 {
        let crate::fixture::Record::Node(next) = database.nodes[root][0] else { panic!("no IPv4 tree") };
        root = next;
    }
    for alias in ["::ffff:0:0/96", "2001::/32", "2002::/16"] {
        database.place(alias.parse().unwrap(), crate::fixture::Record::Node(root));
    }
    let aliased = world(&database.build()).unwrap();
    assert_eq!(aliased.ranges_v4(), plain.ranges_v4());
    assert_eq!(aliased.ranges_v6(), plain.ranges_v6());
}

#[test]
fn registered_and_represented_countries_never_stand_in_for_the_country() {
    let iso = |code: &str| Value::map([("iso_code", Value::text(code))]);
    let mut database = Database::new(24, 4);
    database.insert("11.0.0.0/8".parse().unwrap(), &Form::Nested.record("DE"));
    let only = Value::map([("registered_country", iso("FR")), ("represented_country", iso("US"))]);
    database.insert("12.0.0.0/8".parse().unwrap(), &only);
    let world = world(&database.build()).unwrap();
    let table = world.table();
    let at = |address: &str| {
        let found = world.lookup(address.parse().unwrap());
        table.places[usize::from(found.ids().next().unwrap())].clone()
    };
    assert_eq!((at("11.1.1.1").country, at("11.1.1.1").registered), ("DE".parse().ok(), "US".parse().ok()));
    assert_eq!((at("12.1.1.1").country, at("12.1.1.1").registered), (None, "FR".parse().ok()));
}

#[test]
fn the_built_in_database_is_the_one_that_it_names_at_every_edge() {
    let Some(bytes) = real() else {
        return skip("the_built_in_database_is_the_one_that_it_names_at_every_edge");
    };
    let from_file = WorldBuilder::country_db(bytes.clone(), "dbip-country-lite").build().unwrap();
    let digest = |world: &World| {
        let table = world.table();
        table.sources.iter().find(|source| source.layer == Layer::Country).unwrap().digest.clone()
    };
    let builtin = WorldBuilder::builtin().build().unwrap();
    assert_eq!(
        digest(&builtin),
        digest(&from_file),
        "another database than the built-in one: run the refresh"
    );
    assert_eq!(country_head().unwrap().get("sha256").cloned(), digest(&from_file));
    assert_eq!(builtin.ranges_v4(), from_file.ranges_v4());
    assert_eq!(builtin.ranges_v6(), from_file.ranges_v6());
    let reader = Reader::from_source(&bytes[..]).unwrap();
    let edges = edges(&reader);
    let step = tier(7, 1);
    agree(&builtin, &reader, edges.into_iter().step_by(step));
}

#[test]
fn the_index_of_the_real_database_answers_as_the_crate_does_anywhere() {
    let Some(bytes) = real() else {
        return skip("the_index_of_the_real_database_answers_as_the_crate_does_anywhere");
    };
    let reader = Reader::from_source(&bytes[..]).unwrap();
    let world = WorldBuilder::country_db(bytes.clone(), "file").build().unwrap();
    let mut numbers = Numbers(3);
    agree(&world, &reader, (0..tier(200_000, 2_000_000)).map(|_| anywhere(&mut numbers)));
}
