//! The flattened world against a naive one: every layer a list that is searched from end to end.

use std::net::IpAddr;

use agent_common::image::PlaceKind;
use agent_common::place_index::PlaceIndex;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::civil::{Date, date};
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::country::CountryCode;
use super::database::{CountryData, Fact};
use super::net::{Nets, normalise};
use super::special::{LOOPBACK, SPECIAL, Special};
use super::steps::Steps;
use super::{Found, Layer, Override, PlacesError, World, WorldBuilder};

const TODAY: Date = date(2026, 11, 20);
const COUNTRIES: [&str; 4] = ["DE", "US", "BR", "JP"];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn country(at: usize) -> CountryCode {
    CountryCode::parse(COUNTRIES[at]).unwrap()
}

/// What a test's world is made of. Networks of one list differ.
#[derive(Clone, Debug)]
struct Layers {
    overrides: Vec<(IpNet, usize)>,
    cluster: Vec<IpNet>,
    providers: Vec<(IpNet, usize)>,
    database: Vec<(IpNet, usize)>,
    resolvers: Vec<IpAddr>,
    sets: Vec<Vec<IpNet>>,
}

impl Layers {
    fn world(&self) -> World {
        let overrides: Vec<Override> = self
            .overrides
            .iter()
            .enumerate()
            .map(|(at, (cidr, place))| Override {
                name: at.to_string(),
                cidrs: vec![*cidr],
                country: (*place < 3).then(|| country(*place)),
                anycast: *place == 3,
                ..Override::default()
            })
            .collect();
        let mut csv = "cidr,country,provider,region\n".to_owned();
        for (cidr, place) in &self.providers {
            let place = if *place == 3 { "ANYCAST" } else { COUNTRIES[*place] };
            csv.push_str(&format!("{cidr},{place},,\n"));
        }
        csv.push_str("192.0.0.0/32,DE,,\n");
        let mut builder =
            WorldBuilder::builtin().overrides(&overrides).cluster(&self.cluster).resolvers(&self.resolvers);
        for (id, set) in self.sets.iter().enumerate() {
            builder = builder.cidr_set(id as u32, set);
        }
        builder.provider_file("csv", csv.as_bytes()).unwrap().above(self.country_data(), TODAY).unwrap()
    }

    fn country_data(&self) -> CountryData {
        let mut nets = Nets::default();
        self.database.iter().for_each(|(net, place)| nets.push(*net, *place as u16 + 1));
        let facts = (0..4).map(|at| Fact { country: Some(country(at)), registered: None });
        CountryData {
            facts: [Fact::default()].into_iter().chain(facts).collect(),
            v4: Steps::nested(nets.v4, |open| open.last().map_or(0, |net| net.value)),
            v6: Steps::nested(nets.v6, |open| open.last().map_or(0, |net| net.value)),
            ..CountryData::empty("database")
        }
    }

    /// What a place must be, by looking at everything.
    fn naive(&self, address: IpAddr) -> String {
        let kind_of = |place: usize| if place == 3 { PlaceKind::Anycast } else { PlaceKind::Country };
        let given = |at: usize| (at < 3).then(|| country(at));
        let cluster: Vec<_> = self.cluster.iter().map(|net| (*net, ())).collect();
        let database = longest(&self.database, address).map(country);
        let (layer, kind, own) = if let Some(kind) = special(LOOPBACK, address) {
            (Layer::Special, kind, None)
        } else if let Some(place) = longest(&self.overrides, address) {
            (Layer::Operator, kind_of(place), given(place))
        } else if longest(&cluster, address).is_some() {
            (Layer::Cluster, PlaceKind::Cluster, None)
        } else if let Some(kind) = special(SPECIAL, address) {
            (Layer::Special, kind, None)
        } else if let Some(place) = longest(&self.providers, address) {
            (Layer::Provider, kind_of(place), given(place))
        } else if let Some(country) = database {
            (Layer::Country, PlaceKind::Country, Some(country))
        } else {
            (Layer::None, PlaceKind::Unknown, None)
        };
        let resolver = self.resolvers.contains(&address);
        let covers = |id: &usize| self.sets[*id].iter().any(|net| net.contains(&address));
        let sets: Vec<usize> = (0..self.sets.len()).filter(covers).collect();
        format!("{layer:?} {kind:?} {:?} {resolver} {sets:?}", own.or(database))
    }

    /// First and last address of every network, and their neighbours.
    fn edges(&self) -> Vec<IpAddr> {
        let listed =
            [&self.overrides, &self.providers, &self.database].into_iter().flatten().map(|(net, _)| *net);
        let special = LOOPBACK.iter().chain(SPECIAL).map(|(cidr, _, _)| net(cidr));
        let resolvers = self.resolvers.iter().map(|address| IpNet::from(*address));
        let all = listed.chain(special).chain(resolvers).chain(self.cluster.iter().copied());
        all.chain(self.sets.iter().flatten().copied()).flat_map(around).collect()
    }
}

fn around(net: IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| IpAddr::V4(bits.into()))
                .to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| IpAddr::V6(bits.into()))
                .to_vec()
        }
    }
}

fn longest<T: Copy>(list: &[(IpNet, T)], address: IpAddr) -> Option<T> {
    list.iter()
        .filter(|(net, _)| net.contains(&address))
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, t)| *t)
}

fn special(table: &[Special], address: IpAddr) -> Option<PlaceKind> {
    let nets: Vec<_> = table.iter().map(|(cidr, kind, _)| (net(cidr), *kind)).collect();
    longest(&nets, address).flatten()
}

/// The flattened world's answer, in the same words. Anycast of the built-in list is told apart by its own test.
fn answer(world: &World, id: u16) -> String {
    let table = world.table();
    let (place, source) = table.get(id).unwrap();
    format!(
        "{:?} {:?} {:?} {} {:?}",
        source.layer, place.kind, place.country, place.resolver, place.cidr_sets
    )
}

/// Networks that nest and touch: few roots, any length. Roots lie away from the built-in anycast list.
fn nets() -> impl Strategy<Value = IpNet> {
    let roots4 =
        [0x0000_0000u32, 0x0a00_0000, 0x7f00_0000, 0xa9fe_a900, 0xc000_0200, 0xfff0_0000, 0x2d00_0000];
    let v4 =
        (prop::sample::select(roots4.to_vec()), 0u32..1 << 12, 4u8..=32).prop_map(|(root, low, length)| {
            IpNet::from(Ipv4Net::new((root | low << 8 | low).into(), length).unwrap().trunc())
        });
    let roots6 =
        [0u128, 0x2a00_5555 << 96, 0xfd00_0ec2 << 96, 0xfe80 << 112, 0x2001_0db8 << 96, 0xff02 << 112];
    let v6 =
        (prop::sample::select(roots6.to_vec()), 0u128..1 << 12, 4u8..=128).prop_map(|(root, low, length)| {
            IpNet::from(Ipv6Net::new((root | low << 64 | low).into(), length).unwrap().trunc())
        });
    prop_oneof![v4, v6].prop_filter("carries IPv4", |net| normalise(*net).is_ok_and(|normal| normal == *net))
}

fn placed(count: usize) -> impl Strategy<Value = Vec<(IpNet, usize)>> {
    prop::collection::btree_map(nets(), 0usize..4, 0..count).prop_map(|map| map.into_iter().collect())
}

fn layers() -> impl Strategy<Value = Layers> {
    let plain = || prop::collection::vec(nets(), 0..8);
    let resolvers = prop::collection::vec(nets().prop_map(|net| net.addr()), 0..4);
    (placed(12), plain(), placed(20), placed(40), resolvers, prop::collection::vec(plain(), 0..4)).prop_map(
        |(overrides, cluster, providers, database, resolvers, sets)| Layers {
            overrides,
            cluster,
            providers,
            database,
            resolvers,
            sets,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_layers_flatten_to_what_a_search_through_all_of_them_finds(
        layers in layers(),
        probes in prop::collection::vec(nets().prop_map(|net| net.addr()), 50),
    ) {
        let world = layers.world();
        let mut index = PlaceIndex::boxed();
        world.fill(&mut index).unwrap();
        for address in layers.edges().into_iter().chain(probes) {
            let found = world.lookup(address);
            prop_assert_eq!(found, Found::in_index(&index, address), "index, {}", address);
            // Addresses that carry others, and the built-in anycast list, have tests of their own.
            let Found::One(id) = found else { continue };
            let carried = normalise(IpNet::from(address)).map_or(true, |net| net.addr() != address);
            let listed = world.table().get(id).is_some_and(|(_, source)| source.layer == Layer::Anycast);
            if !carried && !listed {
                prop_assert_eq!(answer(&world, id), layers.naive(address), "{}", address);
            }
        }
    }
}

fn place_of(world: &World, address: &str) -> String {
    let Found::One(id) = world.lookup(address.parse().unwrap()) else { panic!("{address} has two places") };
    answer(world, id)
}

#[test]
fn ranges_cover_everything_from_zero_and_neighbours_differ() {
    let world = WorldBuilder::builtin().today(TODAY).build().unwrap();
    assert_eq!((world.ranges_v4()[0].0, world.ranges_v6()[0].0), (0, 0));
    assert!(world.ranges_v4().windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
    assert!(world.ranges_v6().windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
}

#[test]
fn addresses_that_carry_ipv4_addresses_are_where_those_are() {
    let world = WorldBuilder::builtin().today(TODAY).build().unwrap();
    let direct = world.lookup("13.110.54.10".parse().unwrap());
    for address in ["::ffff:13.110.54.10", "64:ff9b::13.110.54.10", "2002:0d6e:360a::1"] {
        assert_eq!(world.lookup(address.parse().unwrap()), direct, "{address}");
    }
    let (server, client) =
        (world.lookup("65.54.227.120".parse().unwrap()), world.lookup("192.0.2.45".parse().unwrap()));
    let teredo = world.lookup("2001:0:4136:e378:8000:63bf:3fff:fdd2".parse().unwrap());
    assert_eq!(teredo.ids().collect::<Vec<_>>(), server.ids().chain(client.ids()).collect::<Vec<_>>());
}

#[test]
fn the_anycast_list_stands_above_the_country_database_and_keeps_its_code_for_the_record() {
    let world = WorldBuilder::builtin().today(TODAY).build().unwrap();
    for address in
        ["1.1.1.1", "8.8.8.8", "9.9.9.9", "104.16.0.1", "151.101.1.1", "2606:4700:4700::1111", "2620:fe::9"]
    {
        let place = place_of(&world, address);
        assert!(place.starts_with("Anycast Anycast Some("), "{address}: {place}");
    }
}

#[test]
fn loopback_is_never_overridden_but_other_specials_are() {
    let everything = Override {
        name: "all".to_owned(),
        cidrs: vec![net("0.0.0.0/0"), net("::/0")],
        country: CountryCode::parse("DE"),
        ..Override::default()
    };
    let world = WorldBuilder::builtin().overrides(&[everything]).build().unwrap();
    for address in ["127.0.0.1", "127.255.255.255", "0.0.0.0", "::", "::1"] {
        assert!(place_of(&world, address).starts_with("Special Loopback"), "{address}");
    }
    for address in ["0.0.0.1", "10.1.1.1", "169.254.169.254", "8.8.8.8", "fd00:ec2::254"] {
        assert!(place_of(&world, address).starts_with("Operator Country Some(DE)"), "{address}");
    }
}

#[test]
fn overrides_that_contradict_themselves_or_each_other_are_refused() {
    let said = |name: &str, cidr: &str, code: &str| Override {
        name: name.to_owned(),
        cidrs: vec![net(cidr)],
        country: CountryCode::parse(code),
        ..Override::default()
    };
    let build = |documents: &[Override]| WorldBuilder::builtin().overrides(documents).build().map(|_| ());
    let twice = build(&[said("a", "11.0.0.0/8", "DE"), said("b", "::ffff:11.0.0.0/104", "US")]);
    assert!(matches!(twice, Err(PlacesError::OverrideConflict { .. })), "{twice:?}");
    build(&[said("a", "11.0.0.0/8", "DE"), said("b", "11.0.0.0/8", "DE"), said("c", "11.0.0.0/9", "US")])
        .unwrap();
    let both = build(&[Override { anycast: true, ..said("a", "11.0.0.0/8", "DE") }]);
    assert!(matches!(both, Err(PlacesError::OverrideContradiction { .. })), "{both:?}");
    let nowhere = build(&[said("a", "11.0.0.0/8", "")]);
    assert!(matches!(nowhere, Err(PlacesError::OverrideWithoutPlace { .. })), "{nowhere:?}");
    let host_bits = build(&[said("a", "11.0.0.1/8", "DE")]);
    assert!(matches!(host_bits, Err(PlacesError::HostBits { .. })), "{host_bits:?}");
}

#[test]
fn an_override_may_name_a_known_region_instead_of_a_country() {
    let region = Override {
        name: "ours".to_owned(),
        cidrs: vec![net("11.0.0.0/8")],
        provider: Some("aws".to_owned()),
        region: Some("eu-north-1".to_owned()),
        ..Override::default()
    };
    let world = WorldBuilder::builtin().overrides(&[region]).build().unwrap();
    assert!(place_of(&world, "11.1.1.1").starts_with("Operator Country Some(SE)"));
}

#[test]
fn more_places_than_an_image_holds_are_refused_with_the_numbers() {
    let sets = (0..5000u32)
        .map(|at| (at, vec![IpNet::from(Ipv4Net::new((0x0b00_0000 + at * 256).into(), 24).unwrap())]));
    let builder = sets.fold(WorldBuilder::builtin(), |builder, (id, set)| builder.cidr_set(id, &set));
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("4096 fit"), "{error}");
}

#[test]
fn old_data_is_announced() {
    let warnings = |today| WorldBuilder::builtin().today(today).build().unwrap().table().warnings.join("\n");
    assert!(!warnings(date(2026, 7, 1)).contains("dbip"), "{}", warnings(date(2026, 7, 1)));
    assert!(
        warnings(date(2026, 11, 20)).contains("dbip-country-lite: its data is of 2026-06-01, 172 days old")
    );
    assert!(warnings(date(2027, 6, 1)).contains("anycast-list"));
}

#[test]
fn a_resolver_is_marked_by_the_address_that_it_is_judged_by() {
    let resolvers =
        ["::ffff:11.1.1.1", "11.1.1.3", "2a00:5555::53", "2001::1"].map(|text| text.parse().unwrap());
    let world = WorldBuilder::builtin().resolvers(&resolvers).build().unwrap();
    for (address, marked) in [
        ("11.1.1.1", true),
        ("11.1.1.2", false),
        ("11.1.1.3", true),
        ("2a00:5555::53", true),
        ("2a00:5555::54", false),
    ] {
        assert_eq!(place_of(&world, address).contains(" true "), marked, "{address}");
    }
}
