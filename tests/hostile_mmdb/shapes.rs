//! The shapes of MaxMind's `bad-data` and broken `test-data` (repository maxmind/MaxMind-DB), written anew, and worse.
//!
//! Each is refused, or read as the `maxminddb` crate's own lookups read it; in bounded time, and without a panic.

use std::time::{Duration, Instant};

use agent::places::{PlacesError, WorldBuilder};
use maxminddb::Reader;

use crate::fixture::{Database, Form, Numbers, Record, Value, control, random};
use crate::reference::{from_database, native, ours, theirs, world};

const LONG: Duration = Duration::from_secs(60);

/// A small sound database.
fn sound() -> Database {
    let mut database = Database::new(24, 6);
    for (net, code) in [("11.0.0.0/8", "DE"), ("12.0.0.0/8", "US"), ("2a00::/16", "FR")] {
        database.insert(net.parse().unwrap(), &Form::Nested.record(code));
    }
    database
}

/// Refused, with this in the message.
#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let start = Instant::now();
    let error = world(bytes).expect_err("taken").to_string();
    assert!(error.contains(why), "{error}");
    assert!(start.elapsed() < LONG, "it took {:?}", start.elapsed());
}

/// Refused with any message, or read as the crate reads it.
#[track_caller]
fn refused_or_right(bytes: &[u8]) {
    let start = Instant::now();
    let built = world(bytes);
    assert!(start.elapsed() < LONG, "it took {:?}", start.elapsed());
    let (Ok(world), Ok(reader)) = (built, Reader::from_source(bytes)) else { return };
    for address in ["1.1.1.1", "11.1.1.1", "12.1.1.1", "200.1.1.1", "2a00::1", "2c00::1"] {
        let address = address.parse().unwrap();
        if native(address) && from_database(&world, address) {
            assert!(theirs(&reader, address).unwrap().contains(&ours(&world, address)), "{address}");
        }
    }
}

/// The sound database with one value in it replaced by bytes.
fn with_value(bytes: Vec<u8>) -> Vec<u8> {
    let mut database = sound();
    database.insert("13.0.0.0/8".parse().unwrap(), &Value::Raw(bytes));
    database.build()
}

fn with_metadata(name: &str, value: Value) -> Vec<u8> {
    let mut database = sound();
    database.metadata.push((name.to_owned(), value));
    database.build()
}

fn bytes_of(kind: u8, size: usize, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    control(kind, size, &mut bytes);
    bytes.extend(rest);
    bytes
}

#[test]
fn the_sound_database_is_read() {
    let world = world(&sound().build()).unwrap();
    assert_eq!(ours(&world, "11.1.1.1".parse().unwrap()), "DE".parse().ok());
    assert_eq!(ours(&world, "2a00::1".parse().unwrap()), "FR".parse().ok());
    refused_or_right(&sound().build());
}

#[test]
fn what_is_no_database_is_refused() {
    refused(b"", "could not find MaxMind DB metadata");
    refused(b"\xab\xcd\xefMaxMind.com", "file");
    refused(&[0; 4096], "could not find MaxMind DB metadata");
    refused(include_bytes!("main.rs"), "could not find MaxMind DB metadata");
}

// maxminddb-golang/cyclic-data-structure: a map whose value is a pointer to itself.
#[test]
fn a_record_that_contains_itself_is_refused() {
    let mut database = sound();
    let here = database.data.len();
    let mut cyclic = bytes_of(7, 1, &bytes_of(2, 7, b"country"));
    cyclic.extend([0x20 | (here >> 8) as u8, here as u8]);
    database.insert("13.0.0.0/8".parse().unwrap(), &Value::Raw(cyclic));
    refused_or_right(&database.build());
    // And where nothing looks at the value.
    let mut database = sound();
    let here = database.data.len();
    let mut cyclic = bytes_of(7, 1, &bytes_of(2, 5, b"other"));
    cyclic.extend([0x20 | (here >> 8) as u8, here as u8]);
    database.insert("13.0.0.0/8".parse().unwrap(), &Value::Raw(cyclic));
    refused_or_right(&database.build());
}

// invalid-bytes-length, invalid-string-length, invalid-map-key-length, unexpected-bytes: sizes beyond the file's end.
#[test]
fn values_that_reach_beyond_the_file_are_refused() {
    for kind in [2, 4] {
        refused(
            &with_value(bytes_of(
                7,
                1,
                &[&bytes_of(2, 7, b"country")[..], &bytes_of(kind, 1 << 20, b"DE")].concat(),
            )),
            "can't be read",
        );
    }
    refused(&with_value(bytes_of(7, 1, &bytes_of(2, 1 << 20, b"country"))), "can't be read");
}

// libmaxminddb-oversized-map, oversized-array: sizes that no file could hold.
#[test]
fn maps_and_lists_of_millions_of_entries_are_refused_before_they_are_walked() {
    refused(&with_value(bytes_of(7, 16_000_000, b"")), "can't be read");
    refused(
        &with_value(bytes_of(
            7,
            1,
            &[&bytes_of(2, 7, b"country")[..], &bytes_of(11, 16_000_000, b"")].concat(),
        )),
        "can't be read",
    );
}

// libmaxminddb-deep-nesting, deep-array-nesting.
#[test]
fn nesting_without_end_is_refused_and_the_stack_holds() {
    let maps = bytes_of(7, 1, &bytes_of(2, 1, b"x")).repeat(100_000);
    refused(&with_value(maps), "can't be read");
    let lists =
        [&bytes_of(7, 1, &bytes_of(2, 7, b"country"))[..], &bytes_of(11, 1, b"").repeat(100_000)].concat();
    refused(&with_value(lists), "can't be read");
}

// maxminddb-python/bad-unicode-in-map-key; invalid UTF-8 in a code.
#[test]
fn text_that_is_not_utf8_is_refused_or_no_country() {
    refused_or_right(&with_value(bytes_of(
        7,
        1,
        &[&bytes_of(2, 2, b"\xff\xfe")[..], &bytes_of(2, 2, b"DE")].concat(),
    )));
    let code = [&bytes_of(2, 12, b"country_code")[..], &bytes_of(2, 2, b"\xff\xfe")].concat();
    refused_or_right(&with_value(bytes_of(7, 1, &code)));
}

// GeoIP2-City-Test-Broken-Double-Format: a double of a size that no double has.
#[test]
fn numbers_of_impossible_sizes_are_refused_or_no_country() {
    for (kind, size) in [(3, 2), (5, 3), (6, 5), (8, 5), (9, 9), (10, 17), (15, 3), (14, 2)] {
        let value = [&bytes_of(2, 7, b"country")[..], &bytes_of(kind, size, &[1; 20])].concat();
        refused_or_right(&with_value(bytes_of(7, 1, &value)));
    }
}

// A record that is no map, and values that are no text where text is looked for.
#[test]
fn other_types_where_a_country_should_be_are_no_country() {
    for value in [Value::U32(7), Value::text("DE"), Value::List(vec![Value::text("DE")])] {
        let mut database = sound();
        database.insert("13.0.0.0/8".parse().unwrap(), &value);
        refused_or_right(&database.build());
    }
    for value in [Value::U16(17_477), Value::List(vec![]), Value::map([("iso_code", Value::U32(5))])] {
        let mut database = sound();
        database.insert("13.0.0.0/8".parse().unwrap(), &Value::map([("country", value)]));
        let world = world(&database.build()).unwrap();
        assert_eq!(ours(&world, "13.1.1.1".parse().unwrap()), None);
        assert_eq!(ours(&world, "11.1.1.1".parse().unwrap()), "DE".parse().ok());
    }
}

// invalid-data-record-offset, MaxMind-DB-test-broken-pointers-24, libmaxminddb-offset-integer-overflow.
#[test]
fn records_that_point_outside_the_data_are_refused() {
    for raw in [0x00ff_ffff, 0x0000_fff0] {
        let mut database = sound();
        database.place("13.0.0.0/8".parse().unwrap(), Record::Raw(raw));
        refused(&database.build(), "file");
    }
    let mut database = sound();
    database.record_size = 32;
    database.place("13.0.0.0/8".parse().unwrap(), Record::Raw(u32::MAX));
    refused(&database.build(), "file");
    let mut database = sound();
    let separator = database.nodes.len() as u32 + 3;
    database.place("13.0.0.0/8".parse().unwrap(), Record::Raw(separator));
    refused(&database.build(), "separator");
    // A pointer inside the data that leads outside it.
    refused(&with_value(vec![0x3f, 0xff, 0xff, 0xff, 0xff]), "can't be read");
}

// MaxMind-DB-test-broken-search-tree-24, libmaxminddb-corrupt-search-tree: cycles.
#[test]
fn a_search_tree_with_a_cycle_is_refused() {
    let mut database = sound();
    database.place("13.0.0.0/8".parse().unwrap(), Record::Node(0));
    refused(&database.build(), "cycle");
    let mut database = Database::new(24, 4);
    database.nodes = vec![[Record::Node(0); 2]];
    refused(&database.build(), "cycle");
}

// Worse: a tree without a cycle whose nodes are shared, so that 128 of them unfold to 2^128 networks; with leaves that
// an iterator skips in silence, it never comes back.
#[test]
fn a_search_tree_that_unfolds_without_end_is_refused_in_bounded_time() {
    let chain = |depth: usize, end: Record| -> Vec<[Record; 2]> {
        (1..=depth).map(|next| if next == depth { [end; 2] } else { [Record::Node(next); 2] }).collect()
    };
    for (end, depth) in [(Record::Empty, 128), (Record::Data(0), 128), (Record::Empty, 97)] {
        let mut database = Database::new(24, 6);
        database.value(&Form::Code.record("DE"));
        database.nodes = chain(depth, end);
        refused(&database.build(), "unfolds");
    }
}

// GeoIP2-City-Test-Invalid-Node-Count.
#[test]
fn a_node_count_that_the_file_does_not_hold_is_refused() {
    for count in [1 << 20, u32::MAX] {
        refused(&with_metadata("node_count", Value::U32(count)), "file");
    }
    refused(&with_metadata("node_count", Value::U64(u64::MAX)), "file");
    refused_or_right(&with_metadata("node_count", Value::U32(0)));
    refused_or_right(&with_metadata("node_count", Value::U32(1)));
}

// metadata-is-an-uint128, empty-map/array-last-in-metadata, and fields of other types.
#[test]
fn metadata_of_other_types_is_refused() {
    for (name, value) in [
        ("node_count", Value::Raw(bytes_of(10, 16, &[1; 16]))),
        ("record_size", Value::U16(26)),
        ("record_size", Value::text("24")),
        ("ip_version", Value::U16(5)),
        ("binary_format_major_version", Value::U16(3)),
        ("database_type", Value::U32(3)),
    ] {
        refused(&with_metadata(name, value), "file");
    }
    refused_or_right(&with_metadata("zzz", Value::Map(vec![])));
    refused_or_right(&with_metadata("zzz", Value::List(vec![])));
}

// libmaxminddb-uint64-max-epoch: read, without a date.
#[test]
fn a_nonsense_build_time_is_no_date() {
    for epoch in [0, 1, u64::MAX, 1 << 40] {
        let Ok(world) = world(&with_metadata("build_epoch", Value::U64(epoch))) else { continue };
        let table = world.table();
        let source = table.sources.iter().find(|source| source.name == "file").unwrap();
        assert_eq!(source.date, None, "{epoch}");
        assert!(table.warnings.iter().any(|warning| warning.contains("does not say of what date")));
    }
}

#[test]
fn a_database_in_no_known_form_is_refused() {
    let mut database = Database::new(24, 4);
    database.insert("0.0.0.0/1".parse().unwrap(), &Value::map([("land", Value::text("DE"))]));
    refused(&database.build(), "has a country in a form that is known");
    let mut names = Database::new(24, 4);
    names.insert("0.0.0.0/1".parse().unwrap(), &Value::map([("country", Value::text("Germany"))]));
    refused(&names.build(), "has a country in a form that is known");
    refused(&Database::new(24, 4).build(), "has a country in a form that is known");
}

#[test]
fn codes_that_are_no_countries_are_unknown_and_counted() {
    let mut database = sound();
    for (at, code) in ["EU", "AP", "ZZ", "A1", "O1", "AN", "de"].iter().enumerate() {
        database.insert(format!("13.{at}.0.0/16").parse().unwrap(), &Form::Nested.record(code));
    }
    let world = world(&database.build()).unwrap();
    for at in 0..7 {
        assert_eq!(ours(&world, format!("13.{at}.1.1").parse().unwrap()), None);
    }
    let warnings = world.table().warnings.join("\n");
    assert!(warnings.contains("A1 (1), AN (1), AP (1), EU (1), O1 (1), ZZ (1), de (1)"), "{warnings}");
}

#[test]
fn a_database_that_knows_too_little_is_refused_unless_it_is_meant_to() {
    let build = |bytes: &[u8], share: Option<f64>| {
        let builder = WorldBuilder::country_db(bytes.to_vec(), "file");
        share.map_or(builder.clone(), |share| builder.min_known_share(share)).build().map(|_| ())
    };
    let small = sound().build();
    let error = build(&small, None).unwrap_err();
    assert!(matches!(error, PlacesError::TooLittle { networks: 3, .. }), "{error}");
    assert!(error.to_string().contains("lower --country-db-min-share"), "{error}");
    assert!(build(&small, Some(0.05)).is_err());
    build(&small, Some(0.005)).unwrap();
    // Everything is known, but by two networks: a default route is no database.
    let mut halves = Database::new(24, 4);
    halves.insert("0.0.0.0/1".parse().unwrap(), &Form::Code.record("DE"));
    halves.insert("128.0.0.0/1".parse().unwrap(), &Form::Code.record("US"));
    assert!(matches!(build(&halves.build(), None), Err(PlacesError::TooLittle { networks: 2, .. })));
    build(&halves.build(), Some(0.5)).unwrap();
}

#[test]
fn a_refused_file_leaves_the_world_in_force_as_it_is() {
    let before = world(&sound().build()).unwrap();
    let (v4, v6) = (before.ranges_v4().to_vec(), before.ranges_v6().to_vec());
    refused(&with_value(bytes_of(7, 16_000_000, b"")), "can't be read");
    assert_eq!((before.ranges_v4(), before.ranges_v6()), (&v4[..], &v6[..]));
}

#[test]
fn random_databases_are_no_special_case_of_the_sound_one() {
    let mut numbers = Numbers(11);
    for form in Form::ALL {
        refused_or_right(&random(&mut numbers, 28, 6, form, 300).build());
    }
}
