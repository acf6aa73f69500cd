//! Places: from data files to disjoint ranges.
//!
//! ```text
//! country database  (mmdb, builtin)  ┐
//! anycast list      (anycast)        │   each layer becomes a step function over the address space (steps);
//! provider ranges   (providers)      ├─▶ builder lays them over each other, first match wins, and numbers
//! special networks  (special)        │   the distinct places ─▶ World: ranges and PlaceTable ─▶ PlaceIndex
//! cluster, overrides, CIDR rules     ┘
//! ```
//!
//! [`Groups`] says which jurisdictions a place belongs to, on a day. Nothing here touches the kernel or the policy.

mod age;
mod anycast;
mod builder;
mod builtin;
mod country;
mod csv;
mod database;
mod error;
mod file;
mod flatten;
mod groups;
mod intern;
mod layers;
mod mmdb;
mod net;
mod overrides;
mod packed;
mod place;
mod providers;
mod regions;
mod special;
mod steps;
#[cfg(test)]
mod tests;
mod world;

pub use builder::{MIN_KNOWN_SHARE, WorldBuilder};
pub use builtin::{COUNTRY_NOTICE, country_head, pack_country_db};
pub use country::{CountryCode, NotACountry};
pub use error::PlacesError;
pub use file::{FileError, read_data_file};
pub use groups::{Expiring, GroupError, GroupSpec, Groups, Jurisdiction};
pub use net::{normalise, parse_cidr};
pub use overrides::Override;
pub use packed::Head;
pub use place::{Layer, PlaceInfo, PlaceTable, Source, special_name};
pub use world::{Found, World};
