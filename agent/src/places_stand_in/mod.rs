//! Only until h/places is merged: its types as they stand in its worktree, and a small double of `Groups`.

mod country;
mod groups;
mod place;

pub use country::CountryCode;
pub use groups::{Groups, GroupsError, Jurisdiction};
pub use place::{Layer, PlaceInfo, PlaceTable, Source, special_name};

/// A `PlaceOverride`.
#[derive(Clone, Debug)]
pub struct Override {
    pub name: String,
    pub cidrs: Vec<ipnet::IpNet>,
    pub country: Option<CountryCode>,
    pub anycast: bool,
    pub provider: Option<String>,
    pub region: Option<String>,
}
