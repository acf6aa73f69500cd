//! Published ranges of cloud providers: whose country is a fact and not a guess.
//!
//! The format is told by the content ([`read`]). Where a range lies follows from its region by our own table; a
//! region that is not in it makes the range UNKNOWN, and is said. What a provider calls global is ANYCAST.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agent_common::image::PlaceKind;
use ipnet::IpNet;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use super::country::CountryCode;
use super::error::PlacesError;
use super::layers::{Candidate, Stack};
use super::mmdb::hex;
use super::net::{Nets, normalise};
use super::place::{Layer, Source};
use super::regions::Regions;

mod json;
mod table;
#[cfg(test)]
mod tests;

/// The largest file that is read: Azure's, the largest, has 5 MB.
const MAX_BYTES: usize = 64 << 20;

/// Where a file says that a range is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Where {
    /// In this region of the provider.
    Region,
    /// In this country, whatever the region.
    Country(CountryCode),
    /// In many countries.
    Anycast,
}

/// One range of a file.
#[derive(Clone, Debug)]
struct Range {
    net: IpNet,
    provider: Arc<str>,
    region: Option<Arc<str>>,
    place: Where,
}

/// A file that has been read.
#[derive(Clone, Debug)]
pub(crate) struct ProviderFile {
    source: Source,
    ranges: Vec<Range>,
}

/// What a format's reader gives back, or where and what is wrong.
struct Contents {
    /// What the file is, if it says so itself.
    provider: Option<&'static str>,
    date: Option<Date>,
    ranges: Vec<Range>,
}

/// What is wrong with a file: the line or JSON path, and what.
struct Flaw(String, String);

/// Reads a file in any of the formats: AWS `ip-ranges.json`, Google `cloud.json`, Azure `ServiceTags`, plain CSV.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<ProviderFile, PlacesError> {
    let refuse = |Flaw(at, what): Flaw| PlacesError::ProviderFile { name: name.to_owned(), at, what };
    let whole = |what: String| refuse(Flaw("whole file".to_owned(), what));
    if bytes.len() > MAX_BYTES {
        return Err(whole(format!("{} bytes are more than the {MAX_BYTES} that are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| whole(format!("it is not text: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let contents = if text.trim_start().starts_with('{') { json::read(text) } else { table::read(text) };
    let contents = contents.map_err(refuse)?;
    if contents.ranges.is_empty() {
        return Err(whole("it has no ranges: give the provider's own file, or CSV".to_owned()));
    }
    let source = Source {
        name: contents.provider.unwrap_or(name).to_owned(),
        layer: Layer::Provider,
        date: contents.date,
        digest: Some(hex(&Sha256::digest(bytes))),
    };
    Ok(ProviderFile { source, ranges: contents.ranges })
}

/// Reads a network where a file should have one.
fn network(text: &str, at: impl Fn() -> String) -> Result<IpNet, Flaw> {
    let net = text
        .parse::<IpNet>()
        .map_err(|_| Flaw(at(), format!("{text:?} is not a network in CIDR notation")))?;
    normalise(net).map_err(|error| Flaw(at(), error.to_string()))
}

impl Stack {
    /// Lays the ranges of all files on top. The longest prefix wins. Where two places are given for one prefix,
    /// anycast wins over any country, and of two countries neither is believed.
    pub(crate) fn lay_providers(&mut self, files: &[ProviderFile], today: Date) -> Result<(), PlacesError> {
        if files.is_empty() {
            return Ok(());
        }
        let regions = Regions::builtin()?;
        let mut chosen: HashMap<IpNet, Candidate> = HashMap::new();
        let mut strangers: BTreeMap<(Arc<str>, Arc<str>), usize> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for file in files {
            if file.source.date.is_some() {
                self.warnings.extend(super::age::warning(&file.source, today));
            }
            let source = self.source(file.source.clone());
            for range in &file.ranges {
                let candidate = range.candidate(source, &regions);
                if candidate.kind == PlaceKind::Unknown {
                    let region = range.region.clone().unwrap_or_else(|| Arc::from("no region"));
                    *strangers.entry((Arc::clone(&range.provider), region)).or_default() += 1;
                }
                let kept = match chosen.remove(&range.net) {
                    None => candidate,
                    Some(before) => before.settle(candidate, || conflicts.push(range.net)),
                };
                chosen.insert(range.net, kept);
            }
        }
        for ((provider, region), count) in strangers {
            self.warnings.push(format!(
                "provider ranges: region {region} of {provider} is not in the region table: its {count} ranges are \
                 UNKNOWN; a PlaceOverride can say where it is"
            ));
        }
        if let [first, ..] = conflicts[..] {
            self.warnings.push(format!(
                "provider ranges: {} networks are given with different countries and are UNKNOWN, {first} among them",
                conflicts.len()
            ));
        }
        let mut nets = Nets::default();
        for (net, candidate) in chosen {
            let value = self.candidates.number(Some(candidate));
            nets.push(net, value);
        }
        self.lay(nets);
        Ok(())
    }
}

impl Range {
    fn candidate(&self, source: u16, regions: &Regions) -> Candidate {
        let country = match self.place {
            Where::Region => self.region.as_ref().and_then(|region| regions.country(&self.provider, region)),
            Where::Country(country) => Some(country),
            Where::Anycast => None,
        };
        let kind = match (&self.place, country) {
            (Where::Anycast, _) => PlaceKind::Anycast,
            (Where::Region | Where::Country(_), Some(_)) => PlaceKind::Country,
            (Where::Region | Where::Country(_), None) => PlaceKind::Unknown,
        };
        Candidate {
            kind,
            country,
            provider: Some(Arc::clone(&self.provider)),
            region: self.region.clone(),
            source,
        }
    }
}

impl Candidate {
    /// What to believe of a network that two entries name.
    fn settle(self, other: Self, conflict: impl FnOnce()) -> Self {
        match (self.kind, other.kind) {
            (PlaceKind::Anycast, _) => self,
            (_, PlaceKind::Anycast) => other,
            _ if self.country == other.country => self,
            _ => {
                conflict();
                Self { kind: PlaceKind::Unknown, country: None, region: None, ..self }
            }
        }
    }
}
