//! Images on the heap of the host: 3 and 12 MB that no thread's stack should carry, not even for a moment.
#![expect(unsafe_code, reason = "safe Rust makes a value on the stack before it can be put into a box")]

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
