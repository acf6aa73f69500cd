//! ringfence, the agent.
pub mod bpf;
pub mod cli;
pub mod events;
pub mod grpc;
pub mod places;
pub mod policy;
