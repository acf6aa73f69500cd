//! What the kernel programs remember of a socket, as the kernel hands it out beside the socket (inet_diag).

use std::os::fd::{AsFd, OwnedFd};

use agent_common::sock::SockState;
use aya::Ebpf;
use aya::maps::Map;

/// A descriptor of the socket storage map; `None` if the object has none or no descriptor is left.
#[must_use]
pub fn descriptor(ebpf: &Ebpf) -> Option<OwnedFd> {
    match ebpf.map("SOCKETS") {
        Some(Map::SkStorage(map) | Map::Unsupported(map)) => map.fd().as_fd().try_clone_to_owned().ok(),
        Some(_) | None => None,
    }
}

/// The state in a storage value; `None` if it is of another size, and so of another build.
#[must_use]
pub fn sock_state(value: &[u8]) -> Option<Box<SockState>> {
    if value.len() != size_of::<SockState>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, read without regard to alignment, and the type is integers and arrays of
    // integers, for which any bytes are a value.
    Some(Box::new(unsafe { std::ptr::read_unaligned(value.as_ptr().cast::<SockState>()) }))
}
