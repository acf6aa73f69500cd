//! ringfence.
pub mod places;
pub mod policy;
