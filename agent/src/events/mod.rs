//! Stops 5 to 8 of a flow's path, in userspace: decode, enrich, number and keep.

pub mod enrich;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod hub;
pub mod model;
pub mod reader;
