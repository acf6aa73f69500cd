//! The last step: candidates, marks and countries laid over each other, and each distinct combination numbered.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agent_common::address::{Address, Judged};
use agent_common::image::PlaceKind;
use agent_common::limits::MAX_PLACES;
use ipnet::IpNet;

use super::database::{CountryData, Fact};
use super::error::PlacesError;
use super::intern::Interner;
use super::layers::{Candidate, NO_SOURCE, Stack};
use super::net::{Nets, normalise};
use super::place::{PlaceInfo, PlaceTable};
use super::steps::{Key, Net, Steps};
use super::world::World;

/// Marks cut ranges further without changing where an address is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Mark {
    resolver: bool,
    cidr_sets: Box<[u32]>,
}

/// The trusted resolvers and the rules' CIDR sets, as step functions.
pub(crate) struct Marks {
    marks: Vec<Mark>,
    v4: Steps<u32>,
    v6: Steps<u128>,
}

/// The value of a resolver's network.
const RESOLVER: u16 = 0;

impl Marks {
    pub(crate) fn new(resolvers: &[IpAddr], cidr_sets: &[(u32, Vec<IpNet>)]) -> Result<Self, PlacesError> {
        // A network's value is a position here; the first stands for the resolvers.
        let mut meanings: Interner<Option<u32>> = Interner::new(None);
        let mut nets = Nets::default();
        for address in resolvers {
            match Address::from(*address).judged() {
                Judged::V4(bits) => nets.push(IpAddr::V4(Ipv4Addr::from_bits(bits)).into(), RESOLVER),
                Judged::V6(address) => nets.push(IpAddr::from(address).into(), RESOLVER),
                // Two addresses are behind it: neither alone is the resolver.
                Judged::Teredo { .. } => {}
            }
        }
        for (id, set) in cidr_sets {
            let value = meanings.number(Some(*id));
            for net in set {
                nets.push(normalise(*net)?, value);
            }
        }
        let mut marks = Interner::new(Mark::default());
        let v4 = marked(nets.v4, &meanings, &mut marks);
        let v6 = marked(nets.v6, &meanings, &mut marks);
        if meanings.overflowed() || marks.overflowed() {
            return Err(too_many(usize::from(u16::MAX)));
        }
        Ok(Self { marks: marks.into_values(), v4, v6 })
    }
}

fn marked<K: Key>(
    nets: Vec<Net<K>>,
    meanings: &Interner<Option<u32>>,
    marks: &mut Interner<Mark>,
) -> Steps<K> {
    Steps::nested(nets, |open| {
        let mut mark = Mark::default();
        let mut ids = Vec::new();
        for net in open {
            match meanings.value(net.value) {
                Some(id) => ids.push(*id),
                None => mark.resolver = true,
            }
        }
        ids.sort_unstable();
        ids.dedup();
        mark.cidr_sets = ids.into();
        marks.number(mark)
    })
}

fn too_many(count: usize) -> PlacesError {
    PlacesError::TooManyPlaces { count, capacity: MAX_PLACES }
}

/// Makes the world. The registered country is for the record only: where it alone makes more distinct places than
/// an image holds, it is left out, with a warning.
pub(crate) fn flatten(stack: Stack, marks: &Marks, country: CountryData) -> Result<World, PlacesError> {
    match attempt(&stack, marks, &country, true) {
        Ok((v4, v6, places)) => Ok(world(v4, v6, places, stack, country, None)),
        Err(_) => {
            let (v4, v6, places) = attempt(&stack, marks, &country, false)?;
            let warning = format!(
                "{}: too many combinations of country and registered country: the latter is not recorded",
                country.source.name
            );
            Ok(world(v4, v6, places, stack, country, Some(warning)))
        }
    }
}

fn world(
    v4: Steps<u32>,
    v6: Steps<u128>,
    places: Vec<PlaceInfo>,
    stack: Stack,
    country: CountryData,
    warning: Option<String>,
) -> World {
    let mut sources = stack.sources;
    sources.push(country.source);
    let mut warnings = country.warnings;
    warnings.extend(stack.warnings);
    warnings.extend(warning);
    World { v4: v4.into_vec(), v6: v6.into_vec(), table: Arc::new(PlaceTable { places, sources, warnings }) }
}

type Flat = (Steps<u32>, Steps<u128>, Vec<PlaceInfo>);

fn attempt(
    stack: &Stack,
    marks: &Marks,
    country: &CountryData,
    registered: bool,
) -> Result<Flat, PlacesError> {
    let country_source = u16::try_from(stack.sources.len()).unwrap_or(u16::MAX);
    let mut above = Interner::new((0, 0));
    let above_v4 = stack.v4.zip(&marks.v4, |candidate, mark| above.number((candidate, mark)));
    let above_v6 = stack.v6.zip(&marks.v6, |candidate, mark| above.number((candidate, mark)));
    let mut places = Interner::new(nowhere());
    let mut numbers = Numbers::new(above.len(), country.facts.len());
    let mut number = |over: u16, fact: u16| {
        numbers.get(over, fact, || {
            let (candidate, mark) = above.value(over);
            let fact = country.facts[usize::from(fact)];
            let mut place =
                place(stack.candidates.value(*candidate).as_ref(), fact, country_source, registered);
            let mark = &marks.marks[usize::from(*mark)];
            place.resolver = mark.resolver;
            place.cidr_sets = mark.cidr_sets.clone();
            places.number(place)
        })
    };
    let v4 = above_v4.zip(&country.v4, &mut number);
    let v6 = above_v6.zip(&country.v6, &mut number);
    if above.overflowed() || stack.candidates.overflowed() || places.overflowed() || places.len() > MAX_PLACES
    {
        return Err(too_many(places.len()));
    }
    Ok((v4, v6, places.into_values()))
}

/// The place of which nothing is known: id 0.
fn nowhere() -> PlaceInfo {
    PlaceInfo {
        kind: PlaceKind::Unknown,
        country: None,
        registered: None,
        provider: None,
        region: None,
        source: NO_SOURCE,
        resolver: false,
        cidr_sets: Box::default(),
    }
}

fn place(candidate: Option<&Candidate>, fact: Fact, country_source: u16, registered: bool) -> PlaceInfo {
    let fact_registered = fact.registered.filter(|_| registered);
    match (candidate, fact.country) {
        (Some(candidate), underneath) => PlaceInfo {
            kind: candidate.kind,
            country: candidate.country.or(underneath),
            provider: candidate.provider.clone(),
            region: candidate.region.clone(),
            source: candidate.source,
            ..nowhere()
        },
        (None, Some(country)) => PlaceInfo {
            kind: PlaceKind::Country,
            country: Some(country),
            registered: fact_registered,
            source: country_source,
            ..nowhere()
        },
        (None, None) => PlaceInfo { registered: fact_registered, ..nowhere() },
    }
}

/// Place ids by what lies above and by country fact: a table of rows that are made when first asked for, because a
/// hash per range would be half of the time that a build takes.
struct Numbers {
    rows: Vec<Vec<u16>>,
    width: usize,
}

/// A place id that is not known yet.
const UNASKED: u16 = u16::MAX;

impl Numbers {
    fn new(rows: usize, width: usize) -> Self {
        Self { rows: vec![Vec::new(); rows], width }
    }

    fn get(&mut self, over: u16, fact: u16, ask: impl FnOnce() -> u16) -> u16 {
        let row = &mut self.rows[usize::from(over)];
        if row.is_empty() {
            row.resize(self.width, UNASKED);
        }
        let cell = &mut row[usize::from(fact)];
        if *cell == UNASKED {
            *cell = ask();
        }
        *cell
    }
}
