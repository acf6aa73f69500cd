//! Writes small MMDB files: the country databases of several publishers in miniature, and broken ones.
//!
//! Format: MaxMind DB file format 2.0 (a binary trie over address bits, a data section, a metadata map).
//! Everything is big-endian. Only what fixtures need is here: 24-bit records, no pointers in the data.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A value of the data section.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// UTF-8 text.
    Text(String),
    /// Unsigned 16-bit number.
    U16(u16),
    /// Unsigned 32-bit number.
    U32(u32),
    /// Unsigned 64-bit number.
    U64(u64),
    /// True or false.
    Bool(bool),
    /// List.
    List(Vec<Self>),
    /// Keys with values, in this order.
    Map(Vec<(String, Self)>),
}

impl Value {
    /// A map from literal keys.
    pub fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Where a publisher puts the country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// MaxMind GeoLite2/GeoIP2 Country: `country.iso_code`, beside `registered_country` and `continent`.
    MaxMind,
    /// DB-IP Country Lite: `country.iso_code` with names, beside `continent`.
    DbIp,
    /// IPinfo Country: `country` is the code itself.
    IpInfo,
    /// IPinfo Lite: `country` is the *name*, `country_code` the code.
    IpInfoLite,
    /// ip-location-db: nothing but `country_code`.
    Flat,
    /// A record without any country, such as an ASN database.
    NoCountry,
}

impl Shape {
    /// The record of a network in the country with this ISO code.
    pub fn record(self, code: &str) -> Value {
        let names = |name: &str| Value::map([("en", Value::text(name))]);
        let country = Value::map([("iso_code", Value::text(code)), ("names", names(code))]);
        let continent = Value::map([("code", Value::text("EU")), ("names", names("Europe"))]);
        match self {
            Self::MaxMind => Value::map([
                ("continent", continent),
                ("country", country.clone()),
                ("registered_country", country),
            ]),
            Self::DbIp => Value::map([("continent", continent), ("country", country)]),
            Self::IpInfo => Value::map([
                ("continent", Value::text("EU")),
                ("country", Value::text(code)),
                ("country_name", Value::text("Somewhere")),
            ]),
            Self::IpInfoLite => Value::map([
                ("asn", Value::text("AS64500")),
                ("country", Value::text("Somewhere")),
                ("country_code", Value::text(code)),
            ]),
            Self::Flat => Value::map([("country_code", Value::text(code))]),
            Self::NoCountry => Value::map([("autonomous_system_number", Value::U32(64500))]),
        }
    }

    fn database_type(self) -> &'static str {
        match self {
            Self::MaxMind => "GeoLite2-Country",
            Self::DbIp => "DBIP-Country-Lite",
            Self::IpInfo => "ipinfo standard_country.mmdb",
            Self::IpInfoLite => "ipinfo lite.mmdb",
            Self::Flat => "country ipvAll",
            Self::NoCountry => "GeoLite2-ASN",
        }
    }
}

/// A country database with these networks, as the bytes of a file. A longer prefix wins over a shorter one.
/// `build_epoch` is in seconds since 1970.
pub fn country_database(shape: Shape, build_epoch: u64, networks: &[(IpNet, &str)]) -> Vec<u8> {
    let records: Vec<_> = networks.iter().map(|(net, code)| (*net, shape.record(code))).collect();
    database(shape.database_type(), build_epoch, &records)
}

/// Any database: networks with their records.
pub fn database(database_type: &str, build_epoch: u64, networks: &[(IpNet, Value)]) -> Vec<u8> {
    let mut sorted: Vec<_> = networks.iter().collect();
    sorted.sort_by_key(|(net, _)| depth(net));
    let mut trie = Trie::default();
    let mut data = Vec::new();
    let mut offsets = HashMap::new();
    for (network, record) in sorted {
        let offset = *offsets.entry(record).or_insert_with(|| {
            let offset = data.len();
            encode(record, &mut data);
            offset
        });
        trie.insert(bits(network), depth(network), offset);
    }
    let mut file = trie.encode();
    let node_count = u32::try_from(trie.nodes.len()).expect("invariant: fixtures are small");
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    encode(
        &Value::map([
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(build_epoch)),
            ("database_type", Value::text(database_type)),
            ("description", Value::map([("en", Value::text("ringfence test data"))])),
            ("ip_version", Value::U16(6)),
            ("languages", Value::List(vec![Value::text("en")])),
            ("node_count", Value::U32(node_count)),
            ("record_size", Value::U16(24)),
        ]),
        &mut file,
    );
    file
}

/// Bits of the network's address in the IPv6 tree; IPv4 lies in `::/96`.
fn bits(network: &IpNet) -> u128 {
    match network.network() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Prefix length in the IPv6 tree.
fn depth(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(v4) => 96 + v4.prefix_len(),
        IpNet::V6(v6) => v6.prefix_len(),
    }
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Empty,
    Node(usize),
    Data(usize),
}

struct Trie {
    nodes: Vec<[Slot; 2]>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![[Slot::Empty; 2]] }
    }
}

impl Trie {
    /// Networks must come with the shortest prefix first.
    fn insert(&mut self, bits: u128, depth: u8, offset: usize) {
        if depth == 0 {
            self.nodes[0] = [Slot::Data(offset); 2];
            return;
        }
        let mut node = 0;
        for level in 0..depth {
            let side = usize::from(bits >> (127 - level) & 1 == 1);
            if level + 1 == depth {
                self.nodes[node][side] = Slot::Data(offset);
                return;
            }
            node = match self.nodes[node][side] {
                Slot::Node(next) => next,
                // A shorter prefix ends here: both halves keep its record.
                inherited @ (Slot::Empty | Slot::Data(_)) => {
                    self.nodes.push([inherited; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Slot::Node(next);
                    next
                }
            };
        }
    }

    fn encode(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let records = self.nodes.iter().flatten().map(|slot| match slot {
            Slot::Node(next) => *next,
            Slot::Empty => count,
            Slot::Data(offset) => count + 16 + offset,
        });
        records
            .flat_map(|record| {
                let record = u32::try_from(record).ok().filter(|record| *record < 1 << 24);
                let [_, record @ ..] = record.expect("invariant: fixtures are small").to_be_bytes();
                record
            })
            .collect()
    }
}

/// Type numbers of the format.
fn encode(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            control(2, text.len(), to);
            to.extend(text.as_bytes());
        }
        Value::U16(number) => unsigned(5, &number.to_be_bytes(), to),
        Value::U32(number) => unsigned(6, &number.to_be_bytes(), to),
        Value::U64(number) => unsigned(9, &number.to_be_bytes(), to),
        Value::Bool(flag) => control(14, usize::from(*flag), to),
        Value::List(values) => {
            control(11, values.len(), to);
            values.iter().for_each(|value| encode(value, to));
        }
        Value::Map(entries) => {
            control(7, entries.len(), to);
            for (key, value) in entries {
                control(2, key.len(), to);
                to.extend(key.as_bytes());
                encode(value, to);
            }
        }
    }
}

/// Leading zero bytes are left out.
fn unsigned(kind: u8, bytes: &[u8], to: &mut Vec<u8>) {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    control(kind, bytes.len() - start, to);
    to.extend(&bytes[start..]);
}

/// Control byte (type and size), then the extended type, then more bytes of the size.
fn control(kind: u8, size: usize, to: &mut Vec<u8>) {
    let size = u16::try_from(size).expect("invariant: fixtures are small");
    let (low, more) = match size {
        0..29 => (u8::try_from(size).expect("invariant: below 29"), Vec::new()),
        29..285 => (29, vec![u8::try_from(size - 29).expect("invariant: below 256")]),
        285.. => (30, (size - 285).to_be_bytes().to_vec()),
    };
    if kind < 8 {
        to.push(kind << 5 | low);
    } else {
        to.extend([low, kind - 7]);
    }
    to.extend(more);
}

#[cfg(test)]
mod tests {
    use maxminddb::Reader;
    use serde::Deserialize;

    use super::{Shape, Value, country_database, database};

    fn networks() -> Vec<(ipnet::IpNet, &'static str)> {
        ["13.0.0.0/8", "13.110.54.0/24", "2a01:4f8::/32", "0.0.0.0/8"]
            .map(|net| net.parse().unwrap())
            .into_iter()
            .zip(["US", "DE", "DE", "FR"])
            .collect()
    }

    #[test]
    fn another_reader_finds_what_was_written_and_the_longest_prefix_wins() {
        #[derive(Deserialize)]
        struct Flat {
            country_code: String,
        }
        let reader = Reader::from_source(country_database(Shape::Flat, 1_760_000_000, &networks())).unwrap();
        reader.verify().unwrap();
        assert_eq!(reader.metadata().build_epoch, 1_760_000_000);
        for (address, code) in [
            ("13.1.1.1", Some("US")),
            ("13.110.53.255", Some("US")),
            ("13.110.54.10", Some("DE")),
            ("13.110.55.0", Some("US")),
            ("2a01:4f8::1", Some("DE")),
            ("2a01:4f9::1", None),
            ("14.0.0.0", None),
        ] {
            let found = reader.lookup(address.parse().unwrap()).unwrap();
            let code_found = found.decode::<Flat>().unwrap().map(|flat| flat.country_code);
            assert_eq!(code_found.as_deref(), code, "{address}");
        }
    }

    #[test]
    fn maxmind_and_dbip_shapes_read_as_a_country() {
        for shape in [Shape::MaxMind, Shape::DbIp] {
            let reader = Reader::from_source(country_database(shape, 1, &networks())).unwrap();
            reader.verify().unwrap();
            let found = reader.lookup("13.110.54.10".parse().unwrap()).unwrap();
            let country: maxminddb::geoip2::Country<'_> = found.decode().unwrap().unwrap();
            assert_eq!(country.country.iso_code, Some("DE"), "{shape:?}");
        }
    }

    #[test]
    fn sizes_of_every_encoding_length_are_read_back() {
        for length in [0, 28, 29, 284, 285, 4000] {
            let text = "x".repeat(length);
            let record = Value::map([("country_code", Value::text(&text)), ("n", Value::Bool(true))]);
            let file = database("t", 7, &[("0.0.0.0/1".parse().unwrap(), record)]);
            let reader = Reader::from_source(file).unwrap();
            let found = reader.lookup("1.1.1.1".parse().unwrap()).unwrap();
            let record: serde_json::Value = found.decode().unwrap().unwrap();
            assert_eq!(record["country_code"].as_str().map(str::len), Some(length));
            assert_eq!(record["n"], true);
        }
    }
}
