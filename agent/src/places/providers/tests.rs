//! Provider files: each format, and each way to be wrong.

use jiff::civil::{Date, date};

use super::read;
use crate::places::{Found, PlacesError, World, WorldBuilder};

const TODAY: Date = date(2026, 11, 20);

const AWS: &str = r#"{
  "syncToken": "1790000000", "createDate": "2026-09-21-10-00-00",
  "prefixes": [
    {"ip_prefix": "11.0.0.0/16", "region": "eu-central-1", "service": "AMAZON", "network_border_group": "eu-central-1"},
    {"ip_prefix": "11.0.0.0/16", "region": "eu-central-1", "service": "EC2", "network_border_group": "eu-central-1"},
    {"ip_prefix": "11.0.4.0/24", "region": "us-east-1", "service": "EC2", "network_border_group": "us-east-1-scl-1"},
    {"ip_prefix": "11.0.5.0/24", "region": "GLOBAL", "service": "ROUTE53", "network_border_group": "GLOBAL"},
    {"ip_prefix": "11.0.6.0/24", "region": "us-east-1", "service": "GLOBALACCELERATOR", "network_border_group": "us-east-1"},
    {"ip_prefix": "11.0.7.0/24", "region": "mars-east-1", "service": "EC2", "network_border_group": "mars-east-1"}
  ],
  "ipv6_prefixes": [
    {"ipv6_prefix": "2a00:5555::/36", "region": "ap-northeast-1", "service": "EC2", "network_border_group": "ap-northeast-1"}
  ]
}"#;

const GOOGLE: &str = r#"{
  "syncToken": "1", "creationTime": "2026-09-11T10:03:28.48825",
  "prefixes": [
    {"ipv4Prefix": "11.1.0.0/16", "service": "Google Cloud", "scope": "europe-west6"},
    {"ipv6Prefix": "2a00:5556::/32", "service": "Google Cloud", "scope": "global"}
  ]
}"#;

const AZURE: &str = r#"{
  "changeNumber": 400, "cloud": "Public",
  "values": [
    {"name": "AzureCloud", "id": "AzureCloud", "properties": {"changeNumber": 1, "region": "", "regionId": 0,
      "platform": "Azure", "systemService": "", "addressPrefixes": ["11.2.0.0/16", "11.3.0.0/16"]}},
    {"name": "AzureCloud.germanywc", "id": "x", "properties": {"region": "germanywc", "platform": "Azure",
      "systemService": "", "addressPrefixes": ["11.2.0.0/16", "2a00:5557::/32"]}},
    {"name": "AzureFrontDoor.Frontend", "id": "x", "properties": {"region": "", "platform": "Azure",
      "systemService": "AzureFrontDoor", "addressPrefixes": ["11.2.9.0/24"]}}
  ]
}"#;

const CSV: &str = "\
# ours
cidr, country, provider, region
11.4.0.0/16,FR,acme,paris
11.4.4.0/24,ANYCAST,acme,
11.5.0.0/16,-,aws,eu-north-1
2a00:5558::/32,CH,,
";

fn world(files: &[(&str, &str)]) -> World {
    let builder = files.iter().fold(WorldBuilder::builtin(), |builder, (name, text)| {
        builder.provider_file(name, text.as_bytes()).unwrap()
    });
    builder.today(TODAY).build().unwrap()
}

/// Source, kind, judged country, provider and region.
fn at(world: &World, address: &str) -> String {
    let Found::One(id) = world.lookup(address.parse().unwrap()) else { panic!("{address} has two places") };
    let table = world.table();
    let (place, source) = table.get(id).unwrap();
    let country = place.judged_country().map(|code| code.to_string());
    let words = [country.as_deref(), place.provider.as_deref(), place.region.as_deref()];
    let words: Vec<&str> = words.into_iter().map(|word| word.unwrap_or("-")).collect();
    format!("{} {:?} {}", source.name, place.kind, words.join(" "))
}

#[test]
fn aws_ranges_lie_where_they_are_announced() {
    let world = world(&[("ip-ranges.json", AWS)]);
    for (address, place) in [
        ("11.0.1.1", "aws Country DE aws eu-central-1"),
        ("11.0.4.1", "aws Country CL aws us-east-1-scl-1"),
        ("11.0.5.1", "aws Anycast - aws GLOBAL"),
        ("11.0.6.1", "aws Anycast - aws us-east-1"),
        ("11.0.7.1", "aws Unknown - aws mars-east-1"),
        ("2a00:5555::1", "aws Country JP aws ap-northeast-1"),
    ] {
        assert_eq!(at(&world, address), place, "{address}");
    }
    let table = world.table();
    let source = table.sources.iter().find(|source| source.name == "aws").unwrap();
    assert_eq!(source.date, Some(date(2026, 9, 21)));
    assert_eq!(source.digest.as_ref().map(String::len), Some(64));
}

#[test]
fn a_region_that_is_not_in_the_table_is_said_with_its_provider() {
    let warnings = world(&[("ip-ranges.json", AWS)]).table().warnings.join("\n");
    assert!(
        warnings.contains("region mars-east-1 of aws is not in the region table: its 1 ranges are UNKNOWN"),
        "{warnings}"
    );
}

#[test]
fn google_and_azure_ranges_lie_in_their_regions_and_global_ones_nowhere() {
    let world = world(&[("cloud.json", GOOGLE), ("ServiceTags_Public.json", AZURE)]);
    for (address, place) in [
        ("11.1.0.1", "google Country CH google europe-west6"),
        ("2a00:5556::1", "google Anycast - google global"),
        ("11.2.0.1", "azure Country DE azure germanywc"),
        ("2a00:5557::1", "azure Country DE azure germanywc"),
        ("11.2.9.1", "azure Anycast - azure -"),
    ] {
        assert_eq!(at(&world, address), place, "{address}");
    }
    assert!(!at(&world, "11.3.0.1").starts_with("azure"), "a tag without a region says nothing");
}

#[test]
fn csv_says_countries_anycast_or_regions() {
    let world = world(&[("ours.csv", CSV)]);
    for (address, place) in [
        ("11.4.0.1", "ours.csv Country FR acme paris"),
        ("11.4.4.1", "ours.csv Anycast - acme -"),
        ("11.5.0.1", "ours.csv Country SE aws eu-north-1"),
        ("2a00:5558::1", "ours.csv Country CH  -"),
    ] {
        assert_eq!(at(&world, address), place, "{address}");
    }
}

#[test]
fn of_two_countries_for_one_network_neither_is_believed_and_anycast_wins_over_both() {
    let header = "cidr,country,provider,region\n";
    let one =
        format!("{header}11.4.0.0/16,FR,a,\n11.5.0.0/16,FR,a,\n11.6.0.0/16,FR,a,x\n11.7.0.0/16,ANYCAST,a,\n");
    let two =
        format!("{header}11.4.0.0/16,DE,b,\n11.5.0.0/16,ANYCAST,b,\n11.6.0.0/16,FR,b,y\n11.7.0.0/16,FR,b,\n");
    let world = world(&[("one.csv", &one), ("two.csv", &two)]);
    assert_eq!(at(&world, "11.4.0.1"), "one.csv Unknown - a -");
    assert_eq!(at(&world, "11.5.0.1"), "two.csv Anycast - b -");
    assert_eq!(at(&world, "11.6.0.1"), "one.csv Country FR a x");
    assert_eq!(at(&world, "11.7.0.1"), "one.csv Anycast - a -");
    let warnings = world.table().warnings.join("\n");
    assert!(
        warnings.contains("1 networks are given with different countries and are UNKNOWN, 11.4.0.0/16"),
        "{warnings}"
    );
}

#[test]
fn provider_ranges_stand_below_the_specials() {
    let world = world(&[("ours.csv", "cidr,country,provider,region\n10.0.0.0/8,FR,,\n")]);
    assert_eq!(at(&world, "10.1.1.1"), "special Private - - -");
}

#[test]
fn a_flaw_is_refused_with_its_place_in_the_file() {
    for (text, place, what) in [
        ("", "whole file", "it is empty"),
        ("cidr,country\n", "line 1", "header"),
        ("cidr,country,provider,region\n", "whole file", "no ranges"),
        ("cidr,country,provider,region\n1.2.3.0/24,UK,,\n", "line 2", "did you mean GB?"),
        ("cidr,country,provider,region\n\n1.2.3.4/24,GB,,\n", "line 3", "write 1.2.3.0/24"),
        ("cidr,country,provider,region\n1.2.3.0/24,GB,\n", "line 2", "3 fields"),
        ("cidr,country,provider,region\n1.2.3.0/24,-,aws,\n", "line 2", "needs a provider and its region"),
        ("cidr,country,provider,region\n\"1.2.3.0/24\",GB,,\n", "line 2", "quotes"),
        ("cidr,country,provider,region\n2002::/16,GB,,\n", "line 2", "judged by them"),
        ("{\"prefixes\": [", "line 1 column", "EOF"),
        ("{\"prefixes\": []}", "whole file", "no ranges"),
        ("{\"prefixes\": [{\"ip_prefix\": 4}]}", "line 1 column", "invalid type"),
        (
            "{\"prefixes\": [{\"ip_prefix\": \"1.2.3.4/24\", \"region\": \"x\"}]}",
            "prefixes[0].ip_prefix",
            "write 1.2.3.0/24",
        ),
        ("{\"prefixes\": [{\"region\": \"x\"}]}", "prefixes[0]", "no ip_prefix"),
        ("{\"prefixes\": [{\"ipv4Prefix\": \"1.2.3.0/24\"}]}", "prefixes[0]", "give cloud.json"),
        (
            "{\"values\": [{\"name\": \"a\", \"properties\": {\"region\": \"x\", \"addressPrefixes\": [\"y\"]}}]}",
            "values[0].properties.addressPrefixes[0]",
            "is not a network",
        ),
    ] {
        let error = read("file", text.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("provider ranges file: {place}")) && error.contains(what),
            "{text:?}: {error}"
        );
    }
    assert!(matches!(read("file", &[0xff, 0xfe]), Err(PlacesError::ProviderFile { .. })));
}

#[test]
fn a_byte_order_mark_is_no_flaw() {
    read("file", format!("\u{feff}{GOOGLE}").as_bytes()).unwrap();
    read("file", format!("\u{feff}{CSV}").as_bytes()).unwrap();
}
