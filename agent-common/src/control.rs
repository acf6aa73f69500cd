//! Small values that outlive generations.

/// What all programs read beside the image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Counts up when the identity table changes: what sockets remember of their workload is then found anew.
    pub epoch: u64,
    /// Secret words for [`sock`](crate::sock)'s proofs; random at each start.
    pub key: [u64; 2],
    /// Always zero, which the verifier does not know ([`Loop::hide`](crate::bytes::Loop::hide)).
    pub zero: u64,
}

/// A workload's violation events, to hold them against its cap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// Which window of 2^30 ns `count` counts in.
    pub window: u64,
    /// Events in this window.
    pub count: u64,
    /// Events beyond the cap, since the start.
    pub suppressed: u64,
}

const _: () = assert!(size_of::<Control>() == 32);
const _: () = assert!(size_of::<Limit>() == 24);
