//! ringfence.
pub mod cli;
pub mod places;
pub mod policy;
