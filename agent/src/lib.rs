//! ringfence's agent.

pub mod cli;
pub mod events;
pub mod grpc;
pub mod places;
