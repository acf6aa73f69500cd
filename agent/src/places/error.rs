//! Why data files do not make a world. Whatever fails, the places in force stay.

use agent_common::place_index::BuildError;

/// Why places could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacesError {
    /// A CIDR has bits set beyond its prefix length.
    #[error("{cidr} has bits set beyond its prefix length: write {mend}")]
    HostBits {
        /// As given.
        cidr: String,
        /// The network that the prefix length names.
        mend: String,
    },
    /// An IPv6 CIDR inside a prefix that carries IPv4 addresses, which are judged instead.
    #[error("{cidr} carries IPv4 addresses and is judged by them: write the IPv4 network that you mean")]
    CarriesV4 {
        /// As given.
        cidr: String,
    },
    /// Text that is not a CIDR.
    #[error("{text:?} is not a network in CIDR notation, as 192.0.2.0/24 or 2001:db8::/32")]
    NotACidr {
        /// As given.
        text: String,
    },
    /// Two overrides name one network and differ.
    #[error("PlaceOverride {first} and {second} both name {cidr} and say different things: remove one")]
    OverrideConflict {
        /// The network.
        cidr: String,
        /// One override.
        first: String,
        /// The other.
        second: String,
    },
    /// An override from which no place follows.
    #[error(
        "PlaceOverride {name} says neither country nor anycast, and {place} is not in the region table: add `country:`"
    )]
    OverrideWithoutPlace {
        /// The override.
        name: String,
        /// Provider and region, as given.
        place: String,
    },
    /// An override that says two things at once.
    #[error("PlaceOverride {name} says anycast and a country: remove one")]
    OverrideContradiction {
        /// The override.
        name: String,
    },
    /// A provider file that can't be read.
    #[error("provider ranges {name}: {at}: {what}")]
    ProviderFile {
        /// The file.
        name: String,
        /// The line or the JSON path.
        at: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A country database that is damaged or is none.
    #[error("country database {name}: {what}: the file is refused")]
    Database {
        /// The file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A country database without countries.
    #[error(
        "country database {name}: no record of {records} has a country in a form that is known (country.iso_code, \
         country, country_code): give a country or city database of MaxMind, DB-IP, IPinfo or ip-location-db"
    )]
    NoSchema {
        /// The file.
        name: String,
        /// How many records were looked at.
        records: usize,
    },
    /// A country database that knows too little.
    #[error(
        "country database {name}: it knows a country for {} of the IPv4 internet in {networks} networks, below the \
         {} (and {min_networks} networks) that are asked for: give a whole database, or for a deliberately small one \
         lower --country-db-min-share", percent(*share), percent(*min_share)
    )]
    TooLittle {
        /// The file.
        name: String,
        /// The share of global unicast IPv4 addresses with a country, 0 to 1.
        share: f64,
        /// The share that is asked for.
        min_share: f64,
        /// Networks with a country.
        networks: usize,
        /// The number that is asked for.
        min_networks: usize,
    },
    /// More distinct places than an image holds.
    #[error(
        "{count} or more distinct places, {capacity} fit into an image: use fewer CIDR rules or a coarser database"
    )]
    TooManyPlaces {
        /// How many there are at least.
        count: usize,
        /// How many fit.
        capacity: usize,
    },
    /// The data that is built into the binary is damaged: the binary is.
    #[error("built-in data {name}: {what}: this binary is damaged, install it again")]
    BuiltIn {
        /// Which data.
        name: &'static str,
        /// What is wrong.
        what: String,
    },
    /// More ranges than the place index holds.
    #[error("place index: {0}")]
    Index(#[from] BuildError),
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
