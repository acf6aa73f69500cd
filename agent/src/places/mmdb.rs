//! A country database file (MaxMind DB format, version 2) to [`CountryData`].
//!
//! The file comes from outside and may be damaged or hostile. Everything is read and checked before anything is
//! used: an error anywhere refuses the whole file. The search tree is walked here, with bounded work ([`tree`]);
//! records are decoded by the `maxminddb` crate, all forms of country at once, and the form that the file uses is
//! found by what its records hold ([`record`]): a reader that assumes MaxMind's own form finds no country at all
//! in the flat databases, and no error either.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::civil::Date;
use maxminddb::Reader;
use sha2::{Digest, Sha256};

use super::age;
use super::country::CountryCode;
use super::database::{CountryData, Fact};
use super::error::PlacesError;
use super::intern::Interner;
use super::layers::Stack;
use super::place::{Layer, Source};
use super::special::SPECIAL;
use super::steps::{Key, Steps};

mod record;
mod tree;

use record::{Form, Record};
use tree::{Leaf, Tree};

/// A whole database has hundreds of thousands of networks.
const MIN_NETWORKS: usize = 1000;
/// Ranges of one family with different countries: twice what the place index holds. A hostile file could make
/// millions, and each is 32 bytes.
const MAX_RANGES: usize = 1 << 20;

/// How much a file must know to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// The share of global unicast IPv4 addresses with a country, 0 to 1.
    pub(crate) share: f64,
    /// The file is known to be small: any number of networks will do.
    pub(crate) small: bool,
}

/// Reads a file that lies in memory.
pub(crate) fn read(
    bytes: &[u8],
    name: &str,
    demand: Demand,
    today: Date,
) -> Result<CountryData, PlacesError> {
    // The decoder has panicked on crafted files before; the walk and the decoding share nothing with the outside.
    let walked = catch_unwind(AssertUnwindSafe(|| walk(bytes)));
    let refuse = |what: String| PlacesError::Database { name: name.to_owned(), what };
    let world = walked.map_err(|_| refuse("the decoder gave up on it".to_owned()))?.map_err(refuse)?;
    let known = world
        .known_form()
        .ok_or_else(|| PlacesError::NoSchema { name: name.to_owned(), records: world.records.len() - 1 })?;
    let (facts, strangers) = world.facts(known);
    let mut data = CountryData {
        source: Source {
            name: name.to_owned(),
            layer: Layer::Country,
            date: age::date_of(world.build_epoch, today),
            digest: Some(hex(&Sha256::digest(bytes))),
        },
        facts,
        v4: world.v4,
        v6: world.v6,
        warnings: Vec::new(),
    };
    check(&data, &world.networks, demand)?;
    data.warnings.extend(age::warning(&data.source, today));
    if !strangers.is_empty() {
        let list: Vec<String> = strangers.iter().map(|(code, n)| format!("{code} ({n})")).collect();
        data.warnings.push(format!(
            "{name}: codes that are no countries count as UNKNOWN (networks in brackets): {}",
            list.join(", ")
        ));
    }
    if !world.has_v6 {
        data.warnings.push(format!("{name}: it has no IPv6 addresses: all of them are UNKNOWN in it"));
    }
    Ok(data)
}

/// The walked file, before it is known which form of country counts.
struct Walked {
    records: Vec<Record>,
    /// Networks that carry each record.
    networks: Vec<usize>,
    v4: Steps<u32>,
    v6: Steps<u128>,
    has_v6: bool,
    build_epoch: u64,
}

fn walk(bytes: &[u8]) -> Result<Walked, String> {
    let reader = Reader::from_source(bytes).map_err(|error| error.to_string())?;
    let metadata = reader.metadata();
    let mut tree = Tree::new(bytes, metadata.node_count, metadata.record_size).map_err(|e| e.to_string())?;
    let mut records = Records {
        reader: &reader,
        by_offset: HashMap::new(),
        table: Interner::new(Record::default()),
        networks: vec![0],
    };
    let has_v6 = metadata.ip_version == 6;
    let v4_root = if has_v6 { tree.v4_root() } else { 0 };
    let v4 = steps(&mut tree, v4_root, 32, None, &mut records, |bits| {
        let key = (bits >> 96) as u32;
        (key, IpAddr::V4(Ipv4Addr::from_bits(key)))
    })?;
    let v6 = if has_v6 {
        // The IPv4 tree hangs at ::/96, and in MaxMind's files under 6to4, Teredo and v4-mapped as well. Addresses
        // there are judged by their IPv4 address, so no copy of the tree is of use.
        let skip = tree.is_inner(v4_root).then_some(v4_root);
        steps(&mut tree, 0, 128, skip, &mut records, |bits| (bits, IpAddr::V6(Ipv6Addr::from_bits(bits))))?
    } else {
        Steps::constant(0)
    };
    if records.table.overflowed() {
        return Err("it has more than 65,536 different countries".to_owned());
    }
    Ok(Walked {
        networks: records.networks,
        records: records.table.into_values(),
        v4,
        v6,
        has_v6,
        build_epoch: metadata.build_epoch,
    })
}

/// Walks one family's tree to a step function of record numbers.
fn steps<K: Key>(
    tree: &mut Tree<'_>,
    root: u32,
    depth: u32,
    skip: Option<u32>,
    records: &mut Records<'_>,
    key: impl Fn(u128) -> (K, IpAddr),
) -> Result<Steps<K>, String> {
    let mut steps = Steps::with_capacity(1 << 12);
    let mut failed = None;
    let walked = tree.walk(root, depth, skip, |leaf: Leaf| {
        let (key, address) = key(leaf.first);
        match records.number(leaf.record, address) {
            Ok(number) => steps.push(key, number),
            Err(error) => failed = Some(error),
        }
        if steps.as_slice().len() > MAX_RANGES {
            failed = Some(format!("it has more than {MAX_RANGES} ranges"));
        }
        failed.is_none()
    });
    match (walked, failed) {
        (_, Some(why)) => Err(why),
        (Err(error), None) => Err(error.to_string()),
        (Ok(()), None) => Ok(steps),
    }
}

/// Records by their place in the file: a database has millions of networks and a few hundred records.
struct Records<'a> {
    reader: &'a Reader<&'a [u8]>,
    by_offset: HashMap<u32, u16>,
    table: Interner<Record>,
    networks: Vec<usize>,
}

impl Records<'_> {
    fn number(&mut self, record: Option<u32>, address: IpAddr) -> Result<u16, String> {
        let Some(offset) = record else { return Ok(0) };
        let number = match self.by_offset.get(&offset) {
            Some(number) => *number,
            None => {
                let decoded = self.reader.lookup(address).and_then(|found| found.decode::<Record>());
                let record = decoded
                    .map_err(|error| format!("the record of {address} can't be read: {error}"))?
                    .ok_or_else(|| format!("the search tree says two things of {address}"))?;
                let number = self.table.number(record);
                self.by_offset.insert(offset, number);
                self.networks.resize(self.table.len(), 0);
                number
            }
        };
        self.networks[usize::from(number)] += 1;
        Ok(number)
    }
}

impl Walked {
    /// The form in which most networks have a country.
    fn known_form(&self) -> Option<Form> {
        let known = |form: Form| -> usize {
            let counted = self.records.iter().zip(&self.networks);
            counted.filter(|(record, _)| record.country(form).is_some()).map(|(_, networks)| networks).sum()
        };
        Form::ALL
            .into_iter()
            .map(|form| (known(form), form))
            .filter(|(n, _)| *n > 0)
            .max_by_key(|(n, _)| *n)
            .map(|(_, form)| form)
    }

    /// What the records say in that form, and the codes that are no countries with their number of networks.
    fn facts(&self, form: Form) -> (Vec<Fact>, BTreeMap<String, usize>) {
        let mut strangers = BTreeMap::new();
        for (record, networks) in self.records.iter().zip(&self.networks) {
            if let (Some(text), None) = (record.text(form), record.country(form)) {
                *strangers.entry(text).or_default() += networks;
            }
        }
        let fact = |record: &Record| Fact { country: record.country(form), registered: record.registered() };
        (self.records.iter().map(fact).collect(), strangers)
    }
}

/// Whether the file knows enough.
fn check(data: &CountryData, networks: &[usize], demand: Demand) -> Result<(), PlacesError> {
    let known = |fact: u16| data.facts[usize::from(fact)].country.is_some();
    let share = known_share(&data.v4, known)?;
    let counted = data.facts.iter().zip(networks);
    let networks = counted.filter(|(fact, _)| fact.country.is_some()).map(|(_, networks)| networks).sum();
    let min_networks = if demand.small { 1 } else { MIN_NETWORKS };
    if share < demand.share || networks < min_networks {
        return Err(PlacesError::TooLittle {
            name: data.source.name.clone(),
            share,
            min_share: demand.share,
            networks,
            min_networks,
        });
    }
    Ok(())
}

/// The share of global unicast IPv4 addresses for which `known` holds.
fn known_share(v4: &Steps<u32>, known: impl Fn(u16) -> bool) -> Result<f64, PlacesError> {
    let mut special = Stack::new();
    special.lay_special(SPECIAL)?;
    let marked =
        special.v4.zip(v4, |special, fact| if special != 0 { 0 } else { 1 + u16::from(known(fact)) });
    let (mut global, mut with_country) = (0u64, 0u64);
    for (at, (start, mark)) in marked.as_slice().iter().enumerate() {
        let end = marked.as_slice().get(at + 1).map_or(1 << 32, |next| u64::from(next.0));
        let addresses = end - u64::from(*start);
        global += if *mark > 0 { addresses } else { 0 };
        with_country += if *mark > 1 { addresses } else { 0 };
    }
    Ok(with_country as f64 / global as f64)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Record {
    fn country(&self, form: Form) -> Option<CountryCode> {
        self.text(form).as_deref().and_then(CountryCode::parse)
    }
}
