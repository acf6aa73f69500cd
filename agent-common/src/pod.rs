//! Raw memory: the only `unsafe` of this crate. Images on the host's heap, and `aya::Pod` for the small values that the
//! agent writes into maps. ([`Policy`] and [`PlaceIndex`] are never passed by value: they are filled in place.)
#![expect(unsafe_code, reason = "zeroed boxes, and an unsafe trait of aya's")]

extern crate std;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;

use crate::image::Policy;
use crate::place_index::PlaceIndex;

impl Policy {
    /// A policy of zeros: no workload, no fence. For the host; the kernel's lies in a map.
    #[must_use]
    pub fn boxed() -> Box<Self> {
        // SAFETY: integers and arrays of integers only, so zero bytes are a value of it.
        unsafe { zeroed() }
    }
}

impl PlaceIndex {
    /// An index of zeros, to be built. For the host; the kernel's lies in a map.
    #[must_use]
    pub fn boxed() -> Box<Self> {
        // SAFETY: integers and arrays of integers only, so zero bytes are a value of it.
        unsafe { zeroed() }
    }
}

/// # Safety
/// Zero bytes must be a value of `T`.
unsafe fn zeroed<T>() -> Box<T> {
    const { assert!(size_of::<T>() > 0) }
    let layout = Layout::new::<T>();
    // SAFETY: the size is not zero, asserted above.
    let block = unsafe { alloc_zeroed(layout) };
    if block.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: the global allocator made the block with the layout of `T`, and by this function's contract its zeros
    // are a `T`.
    unsafe { Box::from_raw(block.cast()) }
}

#[cfg(feature = "user")]
mod values {
    use aya::Pod;

    use crate::birth::{Layout, PathKey};
    use crate::control::Control;
    use crate::host::{Veth, VethCounts};

    // SAFETY: `repr(C)`, integers only, no padding (asserted beside the type).
    unsafe impl Pod for Control {}

    // SAFETY: `repr(C)`, integers of one size only.
    unsafe impl Pod for Layout {}

    // SAFETY: `repr(C)`, bytes only.
    unsafe impl Pod for PathKey {}

    // SAFETY: `repr(C)`, integers only, no padding (asserted beside the type).
    unsafe impl Pod for Veth {}

    // SAFETY: `repr(C)`, integers only.
    unsafe impl Pod for VethCounts {}
}

#[cfg(all(feature = "user", feature = "probe"))]
mod probe {
    use aya::Pod;

    use crate::probe::{Batch, PacketAnswer, PlaceQuestion, VerdictQuestion};

    // SAFETY: `repr(C)`, `u64`s only.
    unsafe impl Pod for PacketAnswer {}

    // SAFETY: an array of `u64`s only.
    unsafe impl Pod for Batch<PlaceQuestion> {}

    // SAFETY: an array of `u64`s only.
    unsafe impl Pod for Batch<VerdictQuestion> {}
}
