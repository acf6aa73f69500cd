//! What the kernel programs, the agent, the tests and the simulator share.
//!
//! Everything here is pure: no map, no context, no clock. The same source is compiled into the BPF object and
//! into the host binaries, so that "what would the kernel say" is answered by running it, never by a model of it.
//! Two seams carry the difference between the two worlds, both by static dispatch:
//! [`bytes::Bytes`] (where packet bytes come from) and [`verdict::View`] (where the image and the time come from).
//!
//! In the order of a flow:
//! - [`parse`]: packet bytes to a [`flow::Flow`];
//! - [`place_index`]: an address to a place id;
//! - [`lineage`] and [`birth`]: a cgroup to a workload;
//! - [`image`]: policy as it lies in the kernel's maps;
//! - [`protocols`]: what a fence opens by name;
//! - [`verdict`]: `decide(&view, set, &flow) -> Decision`;
//! - [`sock`]: what is kept per socket, and how repeats are folded;
//! - [`host`]: what is kept per interface, where no socket is known;
//! - [`wire`]: the event that goes through the ring buffer.
//!
//! `probe` (feature `probe`) is what the test-only programs are asked, to hold the kernel against the host.
#![no_std]
#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod address;
pub mod birth;
pub mod bytes;
pub mod control;
pub mod flow;
pub mod host;
pub mod image;
pub mod limits;
pub mod lineage;
pub mod parse;
pub mod place_index;
#[cfg(all(any(test, feature = "user"), not(target_arch = "bpf")))]
mod pod;
#[cfg(feature = "probe")]
pub mod probe;
pub mod protocols;
pub mod sock;
pub mod verdict;
pub mod wire;
