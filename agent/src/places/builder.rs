//! All layers to one world.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::builtin;
use super::database::CountryData;
use super::error::PlacesError;
use super::flatten::{Marks, flatten};
use super::layers::Stack;
use super::mmdb::{self, Demand};
use super::overrides::Override;
use super::providers::{self, ProviderFile};
use super::special::{LOOPBACK, SPECIAL};
use super::world::World;

/// The share of global unicast IPv4 addresses that a country database must know, unless the operator lowers it.
pub const MIN_KNOWN_SHARE: f64 = 0.6;

/// Collects the sources of places. Nothing is in force before [`build`](Self::build) has succeeded.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    base: Base,
    providers: Vec<ProviderFile>,
    overrides: Vec<Override>,
    cluster: Vec<IpNet>,
    resolvers: Vec<IpAddr>,
    cidr_sets: Vec<(u32, Vec<IpNet>)>,
    min_known_share: f64,
    today: Option<Date>,
}

#[derive(Clone, Debug)]
enum Base {
    BuiltIn,
    File { bytes: Arc<Vec<u8>>, name: String },
}

impl WorldBuilder {
    /// Above the country database that is built into the binary.
    #[must_use]
    pub fn builtin() -> Self {
        Self::on(Base::BuiltIn)
    }

    /// Above a country database file (MMDB, any known schema), which [`build`](Self::build) reads.
    #[must_use]
    pub fn country_db(bytes: Vec<u8>, name: impl Into<String>) -> Self {
        Self::on(Base::File { bytes: Arc::new(bytes), name: name.into() })
    }

    fn on(base: Base) -> Self {
        Self {
            base,
            providers: Vec::new(),
            overrides: Vec::new(),
            cluster: Vec::new(),
            resolvers: Vec::new(),
            cidr_sets: Vec::new(),
            min_known_share: MIN_KNOWN_SHARE,
            today: None,
        }
    }

    /// The share of global unicast IPv4 addresses, 0 to 1, that a country database file must know. A value below
    /// [`MIN_KNOWN_SHARE`] declares the file to be deliberately small, and any number of networks will do.
    #[must_use]
    pub fn min_known_share(mut self, share: f64) -> Self {
        self.min_known_share = share;
        self
    }

    /// The day by which data is called old; without it the day of [`build`](Self::build), in UTC.
    #[must_use]
    pub fn today(mut self, today: Date) -> Self {
        self.today = Some(today);
        self
    }

    /// Adds a provider's published ranges; the format is told by the content.
    ///
    /// # Errors
    /// A file that is in none of the known formats, or is damaged: with the line or the JSON path.
    pub fn provider_file(mut self, name: &str, bytes: &[u8]) -> Result<Self, PlacesError> {
        self.providers.push(providers::read(name, bytes)?);
        Ok(self)
    }

    /// Adds the operator's overrides.
    #[must_use]
    pub fn overrides(mut self, overrides: &[Override]) -> Self {
        self.overrides.extend_from_slice(overrides);
        self
    }

    /// Adds networks of this cluster.
    #[must_use]
    pub fn cluster(mut self, nets: &[IpNet]) -> Self {
        self.cluster.extend_from_slice(nets);
        self
    }

    /// Marks the resolvers that the node trusts.
    #[must_use]
    pub fn resolvers(mut self, addresses: &[IpAddr]) -> Self {
        self.resolvers.extend_from_slice(addresses);
        self
    }

    /// Marks what a rule's CIDRs cover: the places there carry `id` in their `cidr_sets`. Sets may overlap, and one
    /// id may be given more than once.
    #[must_use]
    pub fn cidr_set(mut self, id: u32, nets: &[IpNet]) -> Self {
        self.cidr_sets.push((id, nets.to_vec()));
        self
    }

    /// Reads, checks and flattens everything.
    ///
    /// # Errors
    /// Whatever is wrong with any source; the world is built whole or not at all.
    pub fn build(&self) -> Result<World, PlacesError> {
        let today = self.today.unwrap_or_else(|| Zoned::now().with_time_zone(TimeZone::UTC).date());
        let country = match &self.base {
            Base::BuiltIn => builtin::country(today)?,
            Base::File { bytes, name } => {
                let small = self.min_known_share < MIN_KNOWN_SHARE;
                mmdb::read(bytes, name, Demand { share: self.min_known_share, small }, today)?
            }
        };
        self.above(country, today)
    }

    /// Lays everything above a country database that has been read.
    pub(super) fn above(&self, country: CountryData, today: Date) -> Result<World, PlacesError> {
        let mut stack = Stack::new();
        stack.lay_anycast(today)?;
        stack.lay_providers(&self.providers, today)?;
        stack.lay_special(SPECIAL)?;
        stack.lay_cluster(&self.cluster)?;
        stack.lay_overrides(&self.overrides)?;
        stack.lay_special(LOOPBACK)?;
        let marks = Marks::new(&self.resolvers, &self.cidr_sets)?;
        flatten(stack, &marks, country)
    }
}
