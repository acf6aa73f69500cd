//! What the test-only programs are asked and answer, as it lies in their maps: integers only.
//!
//! Questions come in batches, because a run costs three system calls whatever it does. The asker fills the answers with
//! [`UNANSWERED`] before each run: what the program did not write would else be the answer of the run before.

use crate::address::Address;

/// Questions of one run; a power of two.
pub const BATCH: usize = 128;

/// Stands where an answer is to be written.
pub const UNANSWERED: u64 = 0xdead_beef_dead_beef;

/// A batch of questions.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch<T>(pub [T; BATCH]);

/// Which places is an address judged by?
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceQuestion {
    /// The address.
    pub address: Address,
    /// Answer: the place id.
    pub first: u64,
    /// Answer: the same, or the place id of a Teredo client.
    pub second: u64,
}

/// Answer: what the parser says of the packet that the program runs on.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketAnswer {
    /// 1 if the packet could be read, 0 if not; the rest is then left as it was.
    pub readable: u64,
    /// As in [`Packet`](crate::parse::ip::Packet), like all below.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Upper-layer protocol.
    pub protocol: u64,
    /// Flags of the flow.
    pub flags: u64,
    /// Where the upper-layer header begins.
    pub upper: u64,
    /// Source port, host order.
    pub source_port: u64,
    /// Destination port, host order.
    pub destination_port: u64,
}

/// What is the verdict on a flow?
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerdictQuestion {
    /// Remote address.
    pub remote: Address,
    /// Remote port, host order.
    pub port: u64,
    /// IP protocol.
    pub protocol: u64,
    /// [`Direction`](crate::flow::Direction).
    pub direction: u64,
    /// [`flags`](crate::flow::flags).
    pub flags: u64,
    /// Set of fences.
    pub set: u64,
    /// Answer: the boot clock before the verdict (ns).
    pub before: u64,
    /// Answer: the [`Cached`](crate::sock::Cached) decision.
    pub decision: u64,
    /// Answer: until when it holds (boot-time ns).
    pub until: u64,
    /// Answer: the boot clock after the verdict (ns).
    pub after: u64,
}

const _: () = assert!(BATCH.is_power_of_two());
const _: () = assert!(size_of::<PlaceQuestion>() == 32);
const _: () = assert!(size_of::<PacketAnswer>() == 80);
const _: () = assert!(size_of::<VerdictQuestion>() == 88);
