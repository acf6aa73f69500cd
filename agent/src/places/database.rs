//! What a country database says, whatever file it came from: the lowest layer.

use super::country::CountryCode;
#[cfg(test)]
use super::place::Layer;
use super::place::Source;
use super::steps::Steps;

/// What the country database says of a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Fact {
    /// Where it is used.
    pub(crate) country: Option<CountryCode>,
    /// Where it is registered.
    pub(crate) registered: Option<CountryCode>,
}

/// A whole country database in memory.
#[derive(Clone, Debug)]
pub(crate) struct CountryData {
    pub(crate) source: Source,
    /// What the steps' values stand for; 0 is the fact that nothing is known.
    pub(crate) facts: Vec<Fact>,
    pub(crate) v4: Steps<u32>,
    pub(crate) v6: Steps<u128>,
    pub(crate) warnings: Vec<String>,
}

#[cfg(test)]
impl CountryData {
    /// A database that knows nothing.
    pub(crate) fn empty(name: &str) -> Self {
        Self {
            source: Source { name: name.to_owned(), layer: Layer::Country, date: None, digest: None },
            facts: vec![Fact::default()],
            v4: Steps::constant(0),
            v6: Steps::constant(0),
            warnings: Vec::new(),
        }
    }
}
