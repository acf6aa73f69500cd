//! A place: what an address is known to be, and which source said so.

use std::sync::Arc;

use agent_common::image::PlaceKind;
use jiff::civil::Date;

use super::country::CountryCode;

/// The layers of knowledge, in the order in which they are asked: the first that knows an address answers.
/// (Loopback stands above all of them, and is of the layer `Special` too.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layer {
    /// What the IANA special-purpose registries and the metadata services of clouds fix.
    Special,
    /// The operator's `PlaceOverride` documents.
    Operator,
    /// Pods, services and nodes of this cluster.
    Cluster,
    /// Ranges published by cloud providers (`--provider-ranges`).
    Provider,
    /// Networks announced from many countries at once.
    Anycast,
    /// The country database.
    Country,
    /// No layer knows the address.
    None,
}

impl Layer {
    /// The layer's name in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Special => "special",
            Self::Operator => "operator",
            Self::Cluster => "cluster",
            Self::Provider => "provider",
            Self::Anycast => "anycast",
            Self::Country => "country",
            Self::None => "none",
        }
    }
}

/// Where the knowledge of a place comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// `dbip-country-lite`, `aws`, `special`, `anycast-list`, `PlaceOverride/NAME`, or a database's file name.
    pub name: String,
    /// The layer it stands in.
    pub layer: Layer,
    /// The date that the data gives itself.
    pub date: Option<Date>,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub digest: Option<String>,
}

/// What is known of a set of addresses. [`kind`](Self::kind) is what counts for policy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PlaceInfo {
    /// The kind of place.
    pub kind: PlaceKind,
    /// What the data says: the answering layer's country, or for the kinds that have none (anycast, unknown,
    /// specials) the code of the country database underneath, which is for the record only.
    pub country: Option<CountryCode>,
    /// Where the network is registered, if the country database says so. For the record only, never for a verdict.
    pub registered: Option<CountryCode>,
    /// The cloud provider.
    pub provider: Option<Arc<str>>,
    /// The provider's region, by the provider's own name.
    pub region: Option<Arc<str>>,
    /// Position in [`PlaceTable::sources`].
    pub source: u16,
    /// One of the resolvers that the node trusts.
    pub resolver: bool,
    /// Ids of the CIDR sets that cover it, rising.
    pub cidr_sets: Box<[u32]>,
}

impl PlaceInfo {
    /// The country that a policy judges by: only a place of kind `Country` has one.
    #[must_use]
    pub fn judged_country(&self) -> Option<CountryCode> {
        if self.kind == PlaceKind::Country { self.country } else { None }
    }
}

/// All places of a [`World`](super::World), by place id. It stays in memory when the ranges have been dropped.
#[derive(Clone, Debug, Default)]
pub struct PlaceTable {
    /// By place id; 0 is the place that nothing is known of.
    pub places: Vec<PlaceInfo>,
    /// What the places' `source` points to.
    pub sources: Vec<Source>,
    /// What the operator should know of the data: old dates, unknown regions, codes that are none.
    pub warnings: Vec<String>,
}

impl PlaceTable {
    /// The place of an id, and its source.
    #[must_use]
    pub fn get(&self, id: u16) -> Option<(&PlaceInfo, &Source)> {
        let place = self.places.get(usize::from(id))?;
        Some((place, self.sources.get(usize::from(place.source))?))
    }
}

/// The name of a kind that a policy can write; `None` for a country, which goes by its own code.
#[must_use]
pub const fn special_name(kind: PlaceKind) -> Option<&'static str> {
    match kind {
        PlaceKind::Unknown => Some("UNKNOWN"),
        PlaceKind::Country => None,
        PlaceKind::Loopback => Some("LOOPBACK"),
        PlaceKind::LinkLocal => Some("LINK-LOCAL"),
        PlaceKind::Cluster => Some("CLUSTER"),
        PlaceKind::Private => Some("PRIVATE"),
        PlaceKind::Metadata => Some("METADATA"),
        PlaceKind::Multicast => Some("MULTICAST"),
        PlaceKind::Reserved => Some("RESERVED"),
        PlaceKind::Anycast => Some("ANYCAST"),
    }
}
