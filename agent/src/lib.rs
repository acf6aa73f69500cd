//! ringfence's agent.
#[path = "places_stand_in/mod.rs"]
pub mod places;
pub mod policy;
