//! `aya::Pod` for the small values that the agent writes into maps: the only `unsafe` of this crate.
//!
//! [`Policy`](crate::image::Policy) and [`PlaceIndex`](crate::place_index::PlaceIndex) are not here: at megabytes
//! they are never passed by value, but filled in place in the mapped map.
#![expect(unsafe_code, reason = "Pod is an unsafe trait of aya's")]

use aya::Pod;

use crate::control::{Control, Limit};

// SAFETY: `repr(C)`, integers only, no padding (asserted beside the type).
unsafe impl Pod for Control {}

// SAFETY: `repr(C)`, integers only, no padding (asserted beside the type).
unsafe impl Pod for Limit {}

#[cfg(feature = "probe")]
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
