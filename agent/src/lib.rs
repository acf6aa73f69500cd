//! ringfence.
pub mod places;
