//! `ringfence.v1`: messages, clients and servers of the gRPC interface.
//!
//! The interface is written in `ringfence/v1/*.proto`; the code below is generated from it and committed,
//! so that a build needs no `protoc`. `tests/drift.rs` holds the two together and says how to renew them.

#![forbid(unsafe_code)]

/// Messages and services of package `ringfence.v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    unreachable_pub,
    missing_docs,
    reason = "generated code"
)]
#[rustfmt::skip]
#[path = "generated/ringfence.v1.rs"]
pub mod v1;

/// The encoded `FileDescriptorSet` of the package and its imports: what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/ringfence.v1.bin");
