//! Who and where to: cgroups by path and id.

pub mod cgroups;
pub mod layout;
