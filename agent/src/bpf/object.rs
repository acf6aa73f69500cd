//! The kernel object, built into the binary by `build.rs`.

/// The compiled kernel programs; empty in a build without them (`cargo xtask build` has them).
#[cfg(not(ebpf_stub))]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ringfence-ebpf.o"));

/// A build without the kernel toolchain: the command line and the tests work, `run` says what is missing.
#[cfg(ebpf_stub)]
pub static OBJECT: &[u8] = &[];
