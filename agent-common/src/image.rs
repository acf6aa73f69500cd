//! Policy as it lies in the kernel: one array value, written whole beside the old one and swapped in by one pointer.
//!
//! Three map values make an *image*: the [`Policy`] of a generation, the [`PlaceIndex`](crate::place_index::PlaceIndex)
//! that it names by slot, and the identity table (cgroup id to workload id), which outlives generations. A hook fetches
//! the policy pointer once and reaches everything else through it, so no packet sees half of two images.
//!
//! All matching is compiled away: a fence's row holds, for each place, the bits of the rules that match it; a port
//! class holds the bits of the rules that match the port. What is left for the kernel is two loads and an AND.

use crate::limits::{
    FENCES_PER_SET, MAX_FENCES, MAX_PLACES, MAX_RULES, MAX_SETS, MAX_WORKLOADS, PORT_CLASSES, RULE_CELLS,
};
use crate::verdict::{Reason, Verdict};

/// What kind of place an address is in: the part of a place that the evaluation order of fences asks for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum PlaceKind {
    /// Nothing is known of it.
    Unknown = 0,
    /// A country (by provider range or country database).
    Country = 1,
    /// The node itself, with `0.0.0.0` and `::`.
    Loopback = 2,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal = 3,
    /// Pods, services and nodes of this cluster.
    Cluster = 4,
    /// RFC 1918, ULA, 100.64.0.0/10.
    Private = 5,
    /// Cloud instance metadata.
    Metadata = 6,
    /// 224.0.0.0/4, ff00::/8.
    Multicast = 7,
    /// Documentation, benchmarking, future use, and the rest that IANA keeps from the public internet.
    Reserved = 8,
    /// Announced from many countries at once: no single one is true.
    Anycast = 9,
}

impl PlaceKind {
    /// All kinds, by their number.
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Country,
        Self::Loopback,
        Self::LinkLocal,
        Self::Cluster,
        Self::Private,
        Self::Metadata,
        Self::Multicast,
        Self::Reserved,
        Self::Anycast,
    ];
}

/// One place, as the kernel needs it: [`PlaceKind`] in the low byte, [`place_flags`] in the high byte.
pub type PlaceBits = u16;

/// Bits of a [`PlaceBits`] above the kind.
pub mod place_flags {
    /// A resolver that the node trusts: DNS to it is judged by the fence's `dns`.
    pub const RESOLVER: u16 = 1 << 8;
}

/// What a fence says of a kind of place when no rule matches; index by [`PlaceKind`].
pub type KindVerdicts = [u8; 16];

/// Packs the fallback verdict and its reason: the verdict in the top bit.
#[inline(always)]
#[must_use]
pub const fn kind_verdict(verdict: Verdict, reason: Reason) -> u8 {
    (verdict as u8) << 7 | reason as u8
}

/// The head of a policy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Counts up by one with each published policy; 0 is never published.
    pub generation: u32,
    /// Which slot of the outer map holds this policy's place index.
    pub index_slot: u32,
    /// Lowest cgroup level at which a subject lies.
    pub min_level: u32,
    /// Highest cgroup level at which a subject lies.
    pub max_level: u32,
    /// errno (positive) that a refused connect or sendmsg returns.
    pub errno: u32,
    /// [`head_flags`].
    pub flags: u32,
    /// Violation events that one workload may emit in a second before the rest is only counted.
    pub events_per_second: u32,
    /// Zero.
    pub _pad: u32,
}

/// Bits of [`Head::flags`].
pub mod head_flags {
    /// Emit flow events (open, close), not violations alone.
    pub const FLOWS: u32 = 1;
    /// Some cgroup is watched: a child of it that the identity table does not know is a stranger.
    pub const WATCHING: u32 = 1 << 4;
}

/// The fences that one kind of workload has. Set 0 is empty: no fence matches.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FenceSet {
    /// How many of `fences` count.
    pub len: u32,
    /// [`set_flags`].
    pub flags: u32,
    /// Positions in [`Policy::fences`], ascending.
    pub fences: [u16; FENCES_PER_SET],
}

/// Bits of [`FenceSet::flags`].
pub mod set_flags {
    /// Some fence of the set has mode Enforce: what can't be read is blocked.
    pub const ENFORCES: u32 = 1;
}

/// When an exception holds: boot-time nanoseconds (`CLOCK_BOOTTIME`), from inclusive, until exclusive.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// First nanosecond.
    pub from: u64,
    /// First nanosecond after.
    pub until: u64,
}

/// One fence. A rule is a bit: exceptions first, then block rules, then allow rules.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fence {
    /// Where its row begins in [`Policy::rules`]; one cell a place.
    pub row: u32,
    /// [`fence_flags`].
    pub flags: u32,
    /// Rules that name ports: only these are held against the port class.
    pub ported: u64,
    /// Rules that are exceptions; their windows are in `windows`, by bit.
    pub exceptions: u64,
    /// Rules that block.
    pub blocks: u64,
    /// Rules that allow.
    pub allows: u64,
    /// What holds where no rule matches.
    pub kinds: KindVerdicts,
    /// Packed like a [`kind_verdict`]: DNS to a trusted resolver.
    pub dns: u32,
    /// How many exceptions there are.
    pub exception_count: u32,
    /// Protocols that the fence opens: [`Class::bit`](crate::protocols::Class::bit)s.
    pub protocols: u32,
    /// Zero.
    pub _pad: u32,
    /// For each port class the rules that match it. Class 0 stands for "port unknown".
    pub ports: [u64; PORT_CLASSES],
    /// Windows of the exceptions.
    pub windows: [Window; MAX_RULES],
}

/// Bits of [`Fence::flags`].
pub mod fence_flags {
    /// Mode Enforce; Audit without it.
    pub const ENFORCE: u32 = 1;
    /// `inbound: Allow`: what accepted sockets send back is not judged.
    pub const INBOUND_ALLOW: u32 = 2;
}

/// A workload's slot: the set in the low half, [`WORKLOAD_PRESENT`] above.
pub const WORKLOAD_PRESENT: u32 = 1 << 31;

/// The policy of one generation: 3 MiB.
#[repr(C)]
pub struct Policy {
    /// Generation and settings.
    pub head: Head,
    /// Kind and flags of each place id.
    pub places: [PlaceBits; MAX_PLACES],
    /// Workload id to set; a slot without [`WORKLOAD_PRESENT`] is not a subject of this generation.
    pub workloads: [u32; MAX_WORKLOADS],
    /// Sets of fences.
    pub sets: [FenceSet; MAX_SETS],
    /// Fences, sorted by name.
    pub fences: [Fence; MAX_FENCES],
    /// Port class by protocol (0 TCP, 1 UDP and UDP-Lite) and port.
    pub port_classes: [[u8; 1 << 16]; 2],
    /// The rows of all fences.
    pub rules: [u64; RULE_CELLS],
}

impl Policy {
    /// The bits of a place id.
    #[inline(always)]
    #[must_use]
    pub fn place(&self, id: u16) -> PlaceBits {
        self.places[id as usize & (MAX_PLACES - 1)]
    }

    /// The set of a workload, or `None` if this generation does not know it.
    #[inline(always)]
    #[must_use]
    pub fn set_of(&self, workload: u32) -> Option<u32> {
        let slot = self.workloads[workload as usize & (MAX_WORKLOADS - 1)];
        if slot & WORKLOAD_PRESENT == 0 { None } else { Some(slot & !WORKLOAD_PRESENT) }
    }

    /// A set by number.
    #[inline(always)]
    #[must_use]
    pub fn set(&self, id: u32) -> &FenceSet {
        &self.sets[id as usize & (MAX_SETS - 1)]
    }

    /// A fence by position.
    #[inline(always)]
    #[must_use]
    pub fn fence(&self, at: u16) -> &Fence {
        &self.fences[at as usize & (MAX_FENCES - 1)]
    }

    /// The rules of a fence that match a place.
    #[inline(always)]
    #[must_use]
    pub fn rules(&self, fence: &Fence, place: u16) -> u64 {
        self.rules[(fence.row as usize + place as usize) & (RULE_CELLS - 1)]
    }

    /// The class of a port; 0 where ports mean nothing.
    #[inline(always)]
    #[must_use]
    pub fn port_class(&self, protocol: u8, port: u16) -> u8 {
        use crate::flow::protocol::{TCP, UDP, UDPLITE};
        match protocol {
            TCP => self.port_classes[0][port as usize],
            UDP | UDPLITE => self.port_classes[1][port as usize],
            _ => 0,
        }
    }
}

const _: () = assert!(size_of::<Head>() == 32);
const _: () = assert!(size_of::<FenceSet>() == 40);
const _: () = assert!(size_of::<Fence>() == 72 + PORT_CLASSES * 8 + MAX_RULES * size_of::<Window>());
const _: () = assert!(core::mem::offset_of!(Fence, protocols) == 64);
const _: () = assert!(size_of::<Policy>().is_multiple_of(8));
