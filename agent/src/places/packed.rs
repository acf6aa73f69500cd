//! The country database that is built into the binary, in a form a thirteenth of the MMDB's size.
//!
//! ```text
//! ringfence places 1              a head in plain text, for whoever opens the file: name, version, date,
//! key: value …                    licence, SHA-256 of the database that it was made from
//!                                 an empty line
//! zstd frame with checksum of     country codes, then for IPv4 and IPv6:
//!   u16 n, n × 2 letters          fact numbers from 1 on; 0 is "nothing known"
//!   u32 ranges, u32 bytes         numbers are little-endian
//!   ranges × u8                   trailing zero bits of each distance from the start before
//!   bytes                         the distances without those bits, LEB128
//!   ranges × u8                   fact numbers
//! ```
//! The streams are apart because each compresses better alone. The world takes 0.6 MB.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::country::CountryCode;
use super::database::{CountryData, Fact};
use super::place::{Layer, Source};
use super::steps::{Key, Steps};

const MAGIC: &str = "ringfence places 1\n";

/// What the payload may grow to: the world takes 2 MB.
const MAX_PAYLOAD: u64 = 64 << 20;

/// Packing is done once a month, unpacking at every start.
const LEVEL: i32 = 19;

/// What is wrong with packed data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackedError {
    /// It does not begin as it must.
    #[error("it does not begin with a head of this format")]
    Head,
    /// A line of the head is missing or can't be read.
    #[error("its head has no {0} that can be read")]
    Field(&'static str),
    /// The compressed part is damaged.
    #[error("its compressed part is damaged: {0}")]
    Compressed(#[from] std::io::Error),
    /// It ends early, or goes on after its end.
    #[error("it is shorter or longer than it says")]
    Length,
    /// A number is out of bounds.
    #[error("range {0} is out of bounds")]
    Range(usize),
    /// What is to be packed has something that the form can't hold.
    #[error("{0} can't be packed")]
    Unfit(&'static str),
}

/// The head's lines.
pub type Head = BTreeMap<String, String>;

/// Reads the head, and says where the compressed part begins.
pub(crate) fn head(bytes: &[u8]) -> Result<(Head, &[u8]), PackedError> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").ok_or(PackedError::Head)?;
    let text = std::str::from_utf8(&bytes[..=end]).map_err(|_| PackedError::Head)?;
    let lines = text.strip_prefix(MAGIC).ok_or(PackedError::Head)?;
    let head = lines.lines().filter_map(|line| line.split_once(": "));
    let head = head.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok((head, &bytes[end + 2..]))
}

/// Reads packed data.
pub(crate) fn decode(bytes: &[u8]) -> Result<CountryData, PackedError> {
    let (head, compressed) = head(bytes)?;
    let field = |name: &'static str| head.get(name).ok_or(PackedError::Field(name));
    let date = field("date")?.parse::<Date>().map_err(|_| PackedError::Field("date"))?;
    let size = field("size")?.parse::<u64>().ok().filter(|size| *size <= MAX_PAYLOAD);
    let size = size.ok_or(PackedError::Field("size"))?;
    let payload = zstd::bulk::decompress(compressed, usize::try_from(size).unwrap_or(usize::MAX))?;
    let mut rest = Cursor(&payload);
    let mut facts = vec![Fact::default()];
    for _ in 0..u16::from_le_bytes(rest.array()?) {
        let code: [u8; 2] = rest.array()?;
        let country = std::str::from_utf8(&code).ok().and_then(CountryCode::parse);
        facts.push(Fact { country: Some(country.ok_or(PackedError::Range(facts.len()))?), registered: None });
    }
    let v4 = rest.steps(facts.len(), |at| u32::try_from(at).ok())?;
    let v6 = rest.steps(facts.len(), Some)?;
    if !rest.0.is_empty() {
        return Err(PackedError::Length);
    }
    let source = Source {
        name: field("name")?.clone(),
        layer: Layer::Country,
        date: Some(date),
        digest: Some(field("sha256")?.clone()),
    };
    Ok(CountryData { source, facts, v4, v6, warnings: Vec::new() })
}

/// Bytes that are still to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PackedError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(PackedError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackedError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(PackedError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<usize, PackedError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PackedError::Length)
    }

    fn leb128(&mut self) -> Result<u128, PackedError> {
        let mut value = 0u128;
        for at in 0..19 {
            let (byte, rest) = self.0.split_first().ok_or(PackedError::Length)?;
            self.0 = rest;
            value |= u128::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(PackedError::Length)
    }

    fn steps<K: Key>(
        &mut self,
        facts: usize,
        key: impl Fn(u128) -> Option<K>,
    ) -> Result<Steps<K>, PackedError> {
        let (ranges, bytes) = (self.number()?, self.number()?);
        let zeros = self.take(ranges)?;
        let mut distances = Cursor(self.take(bytes)?);
        let values = self.take(ranges)?;
        let mut steps = Steps::with_capacity(ranges);
        let mut start = 0u128;
        for (at, (zeros, value)) in zeros.iter().zip(values).enumerate() {
            let bad = PackedError::Range(at);
            let distance = distances.leb128()?.checked_mul(1u128.checked_shl(u32::from(*zeros)).unwrap_or(0));
            // Only the first range starts at zero; every other one starts above the one before it.
            let distance = distance.filter(|distance| (*distance == 0) == (at == 0));
            let next = distance.and_then(|distance| start.checked_add(distance));
            let Some((next, key)) = next.and_then(|next| Some((next, key(next)?))) else { return Err(bad) };
            if usize::from(*value) >= facts {
                return Err(bad);
            }
            start = next;
            steps.push(key, u16::from(*value));
        }
        if ranges == 0 || !distances.0.is_empty() {
            return Err(PackedError::Length);
        }
        Ok(steps)
    }
}

/// Packs a database. `head` must have `name`, `date` and `sha256`; `size` is added. Registered countries are left out.
pub(crate) fn encode(data: &CountryData, mut head: Head) -> Result<Vec<u8>, PackedError> {
    // Equal countries get one number: what differed was the registered country only.
    let mut countries: Vec<CountryCode> = data.facts.iter().filter_map(|fact| fact.country).collect();
    countries.sort_unstable();
    countries.dedup();
    let number = |fact: u16| match data.facts[usize::from(fact)].country {
        None => 0,
        Some(country) => countries.iter().position(|known| *known == country).map_or(0, |at| at + 1),
    };
    let numbers: Vec<u8> = (0..data.facts.len())
        .map(|fact| u8::try_from(number(fact as u16)))
        .collect::<Result<_, _>>()
        .map_err(|_| PackedError::Unfit("a database with more than 255 countries"))?;
    let mut payload = (countries.len() as u16).to_le_bytes().to_vec();
    countries.iter().for_each(|code| payload.extend(code.as_str().bytes()));
    put_steps(
        &mut payload,
        data.v4.as_slice().iter().map(|step| (u128::from(step.0), numbers[usize::from(step.1)])),
    );
    put_steps(&mut payload, data.v6.as_slice().iter().map(|step| (step.0, numbers[usize::from(step.1)])));
    head.insert("size".to_owned(), payload.len().to_string());
    if head.iter().any(|(key, value)| key.contains(['\n', ':']) || value.contains('\n') || value.is_empty()) {
        return Err(PackedError::Unfit("a head with line breaks or empty values"));
    }
    let mut packed = MAGIC.as_bytes().to_vec();
    head.iter().for_each(|(key, value)| packed.extend(format!("{key}: {value}\n").bytes()));
    packed.push(b'\n');
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    packed.extend(compressor.compress(&payload)?);
    Ok(packed)
}

fn put_steps(payload: &mut Vec<u8>, steps: impl Iterator<Item = (u128, u8)>) {
    let (mut zeros, mut distances, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = None;
    for (start, value) in steps {
        // Neighbours that differed in the registered country only are one range here.
        if values.last() == Some(&value) {
            continue;
        }
        let distance = start - before.unwrap_or(0);
        let shift = if distance == 0 { 0 } else { distance.trailing_zeros() };
        zeros.push(shift as u8);
        put_leb128(&mut distances, distance >> shift);
        values.push(value);
        before = Some(start);
    }
    payload.extend((values.len() as u32).to_le_bytes());
    payload.extend((distances.len() as u32).to_le_bytes());
    payload.extend(zeros);
    payload.extend(distances);
    payload.extend(values);
}

fn put_leb128(bytes: &mut Vec<u8>, mut value: u128) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::{Head, PackedError, decode, encode};
    use crate::places::country::CountryCode;
    use crate::places::database::{CountryData, Fact};
    use crate::places::steps::Steps;

    fn data() -> CountryData {
        let fact = |code| Fact { country: CountryCode::parse(code), registered: None };
        let (mut v4, mut v6) = (Steps::constant(0), Steps::constant(0));
        for (start, value) in [(1, 1), (0x0a00_0000, 2), (0x0a00_0001, 0), (u32::MAX, 1)] {
            v4.push(start, value);
        }
        for (start, value) in [(1 << 125, 1), ((1 << 125) + 3, 2), (u128::MAX, 1)] {
            v6.push(start, value);
        }
        CountryData {
            facts: vec![Fact::default(), fact("DE"), fact("US")],
            v4,
            v6,
            ..CountryData::empty("x")
        }
    }

    fn packed() -> Vec<u8> {
        let lines = [("name", "test"), ("date", "2026-06-01"), ("sha256", "00")];
        let head: Head = lines.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        encode(&data(), head).unwrap()
    }

    #[test]
    fn what_was_packed_comes_back() {
        let back = decode(&packed()).unwrap();
        let before = data();
        assert_eq!((&back.facts, &back.v4, &back.v6), (&before.facts, &before.v4, &before.v6));
        assert_eq!(back.source.name, "test");
        assert_eq!(back.source.date.map(|date| date.to_string()).as_deref(), Some("2026-06-01"));
    }

    #[test]
    fn no_damaged_byte_and_no_truncation_goes_unnoticed_or_panics() {
        let good = packed();
        let body = good.windows(2).position(|two| two == b"\n\n").unwrap() + 2;
        for at in body..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                if let Ok(read) = decode(&bad) {
                    // Unused header bits of the zstd frame may flip: what is read must then be right.
                    assert_eq!((&read.v4, &read.v6), (&data().v4, &data().v6), "byte {at} bit {bit}");
                }
            }
        }
        for end in 0..good.len() {
            assert!(decode(&good[..end]).is_err(), "{end}");
        }
        assert!(matches!(decode(b""), Err(PackedError::Head)));
    }
}
