//! ringfence, the agent.
//!
//! The path of a flow, from the kernel to the subscriber:
//! 1. to 4. hook, view, verdict, ring: the `agent-ebpf` and `agent-common` packages, loaded by [`bpf`];
//!
//! Where policy enters: `policy` compiles documents and `places` into the image that [`bpf::image`] publishes.

pub mod bpf;
