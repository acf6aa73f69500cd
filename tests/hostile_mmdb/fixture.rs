//! Writes MMDB files, sound and unsound: <https://maxmind.github.io/MaxMind-DB/>. Everything is big-endian.

use std::collections::HashMap;

use ipnet::IpNet;

/// A value of the data section or of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Text(String),
    U16(u16),
    U32(u32),
    U64(u64),
    Map(Vec<(String, Self)>),
    List(Vec<Self>),
    /// Bytes as they are: for values that no writer would write.
    Raw(Vec<u8>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(2, text.len(), out);
                out.extend(text.bytes());
            }
            Self::U16(number) => unsigned(5, u64::from(*number), out),
            Self::U32(number) => unsigned(6, u64::from(*number), out),
            Self::U64(number) => unsigned(9, *number, out),
            Self::Map(entries) => {
                control(7, entries.len(), out);
                for (key, value) in entries {
                    Self::text(key).encode(out);
                    value.encode(out);
                }
            }
            Self::List(values) => {
                control(11, values.len(), out);
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }
}

/// An unsigned number, without leading zeros.
fn unsigned(kind: u8, number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..];
    control(kind, bytes.len(), out);
    out.extend(bytes);
}

/// Type and size of a value.
pub(crate) fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more): (u8, Vec<u8>) = match size {
        0..29 => (size as u8, vec![]),
        29..285 => (29, vec![(size - 29) as u8]),
        285..65_821 => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
        _ => (31, ((size - 65_821) as u32).to_be_bytes()[1..].to_vec()),
    };
    if kind < 8 {
        out.push(kind << 5 | low);
    } else {
        out.extend([low, kind - 7]);
    }
    out.extend(more);
}

/// One record of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    Empty,
    Node(usize),
    /// Offset in the data section.
    Data(usize),
    /// A number as it is.
    Raw(u32),
}

/// A database in the making.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) record_size: u16,
    pub(crate) ip_version: u16,
    pub(crate) nodes: Vec<[Record; 2]>,
    pub(crate) data: Vec<u8>,
    /// Overrides of single metadata fields, and additional ones.
    pub(crate) metadata: Vec<(String, Value)>,
    written: HashMap<Value, usize>,
}

impl Database {
    pub(crate) fn new(record_size: u16, ip_version: u16) -> Self {
        Self {
            record_size,
            ip_version,
            nodes: vec![[Record::Empty; 2]],
            data: Vec::new(),
            metadata: Vec::new(),
            written: HashMap::new(),
        }
    }

    /// Writes a value to the data section, once.
    pub(crate) fn value(&mut self, value: &Value) -> usize {
        if let Some(offset) = self.written.get(value) {
            return *offset;
        }
        let offset = self.data.len();
        value.encode(&mut self.data);
        self.written.insert(value.clone(), offset);
        offset
    }

    /// Gives a network a value; what was in the network before is cut around it.
    pub(crate) fn insert(&mut self, net: IpNet, value: &Value) {
        let offset = self.value(value);
        self.place(net, Record::Data(offset));
    }

    pub(crate) fn place(&mut self, net: IpNet, record: Record) {
        let (bits, depth) = match net {
            // An IPv6 tree has the IPv4 addresses at ::/96.
            IpNet::V4(net) if self.ip_version == 6 => {
                (u128::from(net.network().to_bits()), 96 + net.prefix_len())
            }
            IpNet::V4(net) => (u128::from(net.network().to_bits()) << 96, net.prefix_len()),
            IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
        };
        let side = |at: u8| (bits >> (127 - at) & 1) as usize;
        let mut node = 0;
        for at in 0..depth.saturating_sub(1) {
            node = match self.nodes[node][side(at)] {
                Record::Node(next) => next,
                whole @ (Record::Empty | Record::Data(_) | Record::Raw(_)) => {
                    self.nodes.push([whole; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side(at)] = Record::Node(next);
                    next
                }
            };
        }
        match depth {
            0 => self.nodes[0] = [record; 2],
            depth => self.nodes[node][side(depth - 1)] = record,
        }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let count = self.nodes.len();
        for node in &self.nodes {
            let [left, right] = node.map(|record| match record {
                Record::Empty => count as u32,
                Record::Node(next) => next as u32,
                Record::Data(offset) => (count + 16 + offset) as u32,
                Record::Raw(number) => number,
            });
            let (l, r) = (left.to_be_bytes(), right.to_be_bytes());
            match self.record_size {
                24 => file.extend([l[1], l[2], l[3], r[1], r[2], r[3]]),
                28 => file.extend([l[1], l[2], l[3], l[0] << 4 | r[0] & 0xf, r[1], r[2], r[3]]),
                _ => file.extend([l, r].concat()),
            }
        }
        file.extend([0; 16]);
        file.extend(&self.data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        self.metadata().encode(&mut file);
        file
    }

    fn metadata(&self) -> Value {
        let mut fields = vec![
            ("binary_format_major_version".to_owned(), Value::U16(2)),
            ("binary_format_minor_version".to_owned(), Value::U16(0)),
            // 2026-09-01
            ("build_epoch".to_owned(), Value::U64(1_788_220_800)),
            ("database_type".to_owned(), Value::text("Test-Country")),
            ("description".to_owned(), Value::map([("en", Value::text("fixture"))])),
            ("ip_version".to_owned(), Value::U16(self.ip_version)),
            ("languages".to_owned(), Value::List(vec![Value::text("en")])),
            ("node_count".to_owned(), Value::U32(self.nodes.len() as u32)),
            ("record_size".to_owned(), Value::U16(self.record_size)),
        ];
        for (name, value) in &self.metadata {
            match fields.iter_mut().find(|field| field.0 == *name) {
                Some(field) => field.1 = value.clone(),
                None => fields.push((name.clone(), value.clone())),
            }
        }
        Value::Map(fields)
    }
}

/// Numbers that look random and are the same in every run (SplitMix64, Steele et al. 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Where a record holds its country.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Nested,
    Text,
    Code,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Nested, Self::Text, Self::Code];

    pub(crate) fn record(self, code: &str) -> Value {
        let iso = |code: &str| Value::map([("geoname_id", Value::U32(1)), ("iso_code", Value::text(code))]);
        match self {
            Self::Nested => Value::map([
                ("continent", Value::map([("code", Value::text("EU"))])),
                ("country", iso(code)),
                ("registered_country", iso("US")),
                ("represented_country", iso("PH")),
            ]),
            Self::Text => Value::map([("asn", Value::text("AS1")), ("country", Value::text(code))]),
            // IPinfo Lite: `country` is a name.
            Self::Code => {
                Value::map([("country", Value::text("Some Country")), ("country_code", Value::text(code))])
            }
        }
    }
}

const CODES: [&str; 9] = ["DE", "US", "FR", "BR", "JP", "XK", "EU", "ZZ", "AU"];

/// A database of random networks over the whole address space, of any depth.
pub(crate) fn random(
    numbers: &mut Numbers,
    record_size: u16,
    ip_version: u16,
    form: Form,
    networks: usize,
) -> Database {
    let mut database = Database::new(record_size, ip_version);
    // Wide networks first: a later one cuts an earlier one.
    let mut nets: Vec<IpNet> = (0..networks)
        .map(|_| {
            if ip_version == 6 && numbers.below(2) == 0 {
                let high = [0x2a00u128, 0x2600, 0x2c0f][numbers.below(3)] << 112;
                let low = (u128::from(numbers.next()) << 64 | u128::from(numbers.next())) >> 16;
                let low = if numbers.below(3) == 0 { low } else { low & (0xff << 96 | 0xff << 60) };
                ipnet::Ipv6Net::new((high | low).into(), 8 + numbers.below(121) as u8).unwrap().trunc().into()
            } else {
                ipnet::Ipv4Net::new((numbers.next() as u32).into(), 1 + numbers.below(32) as u8)
                    .unwrap()
                    .trunc()
                    .into()
            }
        })
        .collect();
    nets.sort_by_key(|net| net.prefix_len());
    for net in nets {
        database.insert(net, &form.record(CODES[numbers.below(CODES.len())]));
    }
    database
}
