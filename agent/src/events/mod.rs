//! Stops 5 to 8 of a flow's path, in userspace: decode, enrich, number and keep.

#[cfg(test)]
pub(crate) mod fixtures;
pub mod enrich;
pub mod hub;
pub mod model;
pub mod reader;
