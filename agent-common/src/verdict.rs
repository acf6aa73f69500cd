//! `decide`: may this flow pass? Pure and total; the same code in the kernel, in tests, in fuzzers and in `explain`.
//!
//! Every fence that matches the workload gives its own verdict, the first of: a live exception, a block rule, an allow
//! rule, DNS to a trusted resolver, and then what the fence says of this kind of place. Every enforcing fence must let
//! the flow through. A fence more never opens anything; an Audit fence never changes what is enforced.

use crate::address::{Address, Judged};
use crate::bytes::{Loop, Step};
use crate::flow::{Direction, Flow, flags};
use crate::image::{Fence, FenceSet, PlaceKind, Policy, fence_flags, place_flags, set_flags};
use crate::limits::{CANARY, FENCES_PER_SET};
use crate::parse::stack::is_near;
use crate::place_index::PlaceIndex;
use crate::protocols::Class;

/// May the bytes pass?
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They may.
    Allow = 0,
    /// They may not.
    Block = 1,
}

/// Why a verdict is what it is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Reason {
    /// No fence matches the workload.
    NoFence = 0,
    /// Loopback is never judged.
    Loopback = 1,
    /// `inbound: Allow`, and the socket was accepted.
    Inbound = 2,
    /// A live exception matches.
    Exception = 3,
    /// A block rule matches.
    BlockRule = 4,
    /// An allow rule matches.
    AllowRule = 5,
    /// DNS to a trusted resolver.
    Dns = 6,
    /// Cloud instance metadata, which only a rule can open.
    Metadata = 7,
    /// CLUSTER, PRIVATE or LINK-LOCAL: the fence's `internal`.
    Internal = 8,
    /// UNKNOWN, ANYCAST, MULTICAST or RESERVED: the fence's `unknown`.
    Unknown = 9,
    /// Any other place: the fence's `default`.
    Default = 10,
    /// The packet names its own route.
    Routed = 11,
    /// Something could not be read or found: blocked for workloads with an enforcing fence.
    Fault = 12,
    /// A protocol that the fence does not open (`protocols`).
    Protocol = 13,
    /// What a network stack needs to live, in its narrow form.
    Stack = 14,
    /// Host layer: the packet's source is not the workload's.
    Spoofed = 15,
}

impl Reason {
    /// All reasons, by their number.
    pub const ALL: [Self; 16] = [
        Self::NoFence,
        Self::Loopback,
        Self::Inbound,
        Self::Exception,
        Self::BlockRule,
        Self::AllowRule,
        Self::Dns,
        Self::Metadata,
        Self::Internal,
        Self::Unknown,
        Self::Default,
        Self::Routed,
        Self::Fault,
        Self::Protocol,
        Self::Stack,
        Self::Spoofed,
    ];
}

/// Stands for "no rule" and "no fence" in an [`Outcome`].
pub const NONE: u8 = 0xff;

/// What one fence says: verdict, reason, fence and rule in one word, so that it costs the kernel one register.
///
/// Bits 0..8 rule, 8..16 fence, 16..24 reason, 24 verdict, 25 enforcing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome(pub u32);

impl Outcome {
    const BLOCK: u32 = 1 << 24;
    const ENFORCE: u32 = 1 << 25;

    /// An outcome that no fence gave.
    #[inline(always)]
    #[must_use]
    pub const fn unfenced(verdict: Verdict, reason: Reason) -> Self {
        Self((verdict as u32) << 24 | (reason as u32) << 16 | (NONE as u32) << 8 | NONE as u32)
    }

    #[inline(always)]
    const fn of(packed: u32, fence: u16, rule: u32, enforce: u32) -> Self {
        Self(
            (packed & 0x80) << 17
                | (packed & 0x7f) << 16
                | (fence as u32 & 0xff) << 8
                | rule & 0xff
                | (enforce & fence_flags::ENFORCE) << 25,
        )
    }

    /// Allow or block.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        if self.0 & Self::BLOCK == 0 { Verdict::Allow } else { Verdict::Block }
    }

    /// Whether the fence enforces.
    #[inline(always)]
    #[must_use]
    pub const fn enforces(self) -> bool {
        self.0 & Self::ENFORCE != 0
    }

    /// The reason's number ([`Reason::ALL`]).
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The fence's position, or [`NONE`].
    #[inline(always)]
    #[must_use]
    pub const fn fence(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The rule's bit, or [`NONE`]; with [`Reason::Protocol`], the number of the protocol's [`Class`].
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u8 {
        self.0 as u8
    }
}

/// The answer for one flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What happens to the bytes.
    pub enforced: Verdict,
    /// What would happen if every fence enforced.
    pub would_be: Verdict,
    /// The outcome that decided: the first enforcing block, else the first block, else the first fence's allow.
    pub outcome: Outcome,
    /// The place that decided.
    pub place: u16,
    /// Which fences of the set say Block: bit `i` is the set's fence `i`.
    pub blocking: u16,
    /// Until when this answer holds while the policy does (boot-time ns); `u64::MAX` if time plays no part.
    pub until: u64,
}

/// What one fence is judged by: the policy and the time.
pub trait Rules: Loop {
    /// The policy.
    fn policy(&self) -> &Policy;
    /// Boot-time nanoseconds now; asked only where an exception could matter.
    fn now(&self) -> u64;
}

/// Where a verdict gets the image from.
pub trait View: Rules {
    /// The place index that the policy names.
    fn index(&self) -> &PlaceIndex;

    /// The place id of an IPv4 address. The kernel side overrides this and the next two with the same code behind a
    /// function call, so that the verifier checks it once for all callers.
    #[inline(always)]
    fn place_v4(&self, address: u32) -> u16 {
        self.index().place_v4(address)
    }

    /// The place id of an IPv6 address, taken as it is.
    #[inline(always)]
    fn place_v6(&self, address: Address) -> u16 {
        self.index().place_v6(address)
    }

    /// [`judge`] for the fence at position `at`; `until` is lowered to when the outcome may change by itself.
    #[inline(always)]
    fn fence(&self, at: u16, flow: &Flow, place: u16, until: &mut u64) -> Outcome {
        judge(self, at, flow, place, until)
    }
}

/// The place ids that an address is judged by: twice the same, but for Teredo.
#[inline(always)]
pub fn places_of<V: View>(view: &V, address: Address) -> (u16, u16) {
    match address.judged() {
        Judged::V4(a) => {
            let p = view.place_v4(a);
            (p, p)
        }
        Judged::V6(a) => {
            let p = view.place_v6(a);
            (p, p)
        }
        Judged::Teredo { server, client } => (view.place_v4(server), view.place_v4(client)),
    }
}

#[inline(always)]
fn live<V: Rules>(view: &V, fence: &Fence, bits: u64, until: &mut u64) -> u64 {
    struct Live<'a> {
        fence: &'a Fence,
        bits: u64,
        now: u64,
        until: u64,
        found: u64,
    }
    impl Step for Live<'_> {
        #[inline(always)]
        fn step(&mut self, i: u32) -> bool {
            if self.bits >> (i & 63) & 1 == 0 {
                return false;
            }
            let window = &self.fence.windows[i as usize & 63];
            if self.now < window.from {
                if window.from < self.until {
                    self.until = window.from;
                }
                return false;
            }
            if self.now >= window.until {
                return false;
            }
            if window.until < self.until {
                self.until = window.until;
            }
            self.found = u64::from(i) + 1;
            true
        }
    }
    let mut s = Live { fence, bits, now: view.now(), until: *until, found: view.hide(0) };
    view.repeat(fence.exception_count, &mut s);
    *until = s.until;
    s.found
}

/// What one fence says of one place.
#[inline(always)]
pub fn judge<V: Rules>(view: &V, at: u16, flow: &Flow, place: u16, until: &mut u64) -> Outcome {
    let policy = view.policy();
    let fence = policy.fence(at);
    let enforce = fence.flags;
    let pack = |verdict: Verdict, reason: Reason, rule: u32| {
        Outcome::of((verdict as u32) << 7 | reason as u32, at, rule, enforce)
    };
    if flow.direction as u8 == Direction::Inbound as u8 && fence.flags & fence_flags::INBOUND_ALLOW != 0 {
        return pack(Verdict::Allow, Reason::Inbound, NONE as u32);
    }
    if flow.flags & flags::ROUTED != 0 {
        return pack(Verdict::Block, Reason::Routed, NONE as u32);
    }
    if let Some(class) = Class::of(flow) {
        // Before exceptions: they open addresses, not protocols.
        if fence.protocols & class.bit() == 0 {
            return pack(Verdict::Block, Reason::Protocol, class as u32);
        }
        if flow.flags & flags::SOCKET != 0 {
            return pack(Verdict::Allow, Reason::Protocol, class as u32);
        }
    }
    let mut matching = policy.rules(fence, place);
    if matching & fence.ported != 0 {
        let class =
            if flow.flags & flags::NO_PORT != 0 { 0 } else { policy.port_class(flow.protocol, flow.port) };
        matching &= fence.ports[class as usize] | !fence.ported;
    }
    if matching & fence.exceptions != 0 {
        let found = live(view, fence, matching & fence.exceptions, until);
        if found != 0 {
            return pack(Verdict::Allow, Reason::Exception, found as u32 - 1);
        }
    }
    if matching & fence.blocks != 0 {
        return pack(Verdict::Block, Reason::BlockRule, (matching & fence.blocks).trailing_zeros());
    }
    if matching & fence.allows != 0 {
        return pack(Verdict::Allow, Reason::AllowRule, (matching & fence.allows).trailing_zeros());
    }
    let bits = policy.place(place);
    if bits & place_flags::RESOLVER != 0 && flow.port == 53 && flow.flags & flags::NO_PORT == 0 {
        return Outcome::of(fence.dns, at, NONE as u32, enforce);
    }
    Outcome::of(u32::from(fence.kinds[bits as usize & 15]), at, NONE as u32, enforce)
}

/// Turns over the fences of a set, twice where two places count.
///
/// Kept small: it lies on the kernel's stack below the deepest chain of calls, where every word is one of 64.
struct Fences<'a, V> {
    view: &'a V,
    set: &'a FenceSet,
    flow: &'a Flow,
    /// The two place ids: bits 0..16 and 16..32.
    places: u64,
    until: u64,
    /// The outcome that decides so far: outcome in bits 0..32, place 32..48, [`rank`] on top.
    best: u64,
    blocking: u64,
}

/// Which outcome decides: the first of the highest rank.
mod rank {
    pub(super) const SHIFT: u32 = 56;
    pub(super) const ALLOWS: u64 = 1;
    pub(super) const WOULD_BLOCK: u64 = 2;
    pub(super) const BLOCKS: u64 = 3;
}

impl<V: View> Step for Fences<'_, V> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let len = self.set.len;
        let (turn, place) = if i < len { (i, self.places) } else { (i - len, self.places >> 16) };
        let at = self.set.fences[turn as usize & (FENCES_PER_SET - 1)];
        let outcome = self.view.fence(at, self.flow, place as u16, &mut self.until);
        let rank = if outcome.0 & Outcome::BLOCK == 0 {
            rank::ALLOWS
        } else {
            self.blocking |= 1 << (turn & 15);
            if outcome.0 & Outcome::ENFORCE == 0 { rank::WOULD_BLOCK } else { rank::BLOCKS }
        };
        if rank > self.best >> rank::SHIFT {
            self.best = u64::from(outcome.0) | (place & 0xffff) << 32 | rank << rank::SHIFT;
        }
        false
    }
}

/// What can be said of a flow before any fence is asked.
pub enum Start {
    /// All of it.
    Answer(Decision),
    /// Nothing: the fences are to be asked about two place ids, in bits 0..16 and 16..32.
    Places(u64),
}

/// The verdict on one flow of a workload with the fences of `set`.
///
/// The kernel side calls the two steps one by one: what the first keeps on its stack does not lie below the second's
/// deep chain of calls.
#[inline(always)]
pub fn decide<V: View>(view: &V, set: u32, flow: &Flow) -> Decision {
    match start(view, set, flow) {
        Start::Answer(decision) => decision,
        Start::Places(places) => ask_fences(view, set, flow, places),
    }
}

/// The first step of [`decide`]: what no fence need be asked about.
#[inline(always)]
pub fn start<V: View>(view: &V, set: u32, flow: &Flow) -> Start {
    if flow.flags & flags::SPOOFED != 0 {
        return Start::Answer(refused(view, set, Reason::Spoofed));
    }
    if flow.flags & flags::UNREADABLE != 0 {
        return Start::Answer(refused(view, set, Reason::Fault));
    }
    if flow.flags & flags::SPOOFED != 0 {
        return Start::Answer(refused(view, set, Reason::Spoofed));
    }
    if flow.flags & flags::SOCKET != 0 {
        // No remote yet: the protocol alone decides, and all zeros would be LOOPBACK.
        let nobody = view.policy().set(set).len == 0;
        return if nobody { Start::Answer(unfenced(Reason::NoFence, 0)) } else { Start::Places(0) };
    }
    if flow.remote.hi == CANARY.hi && flow.remote.lo == CANARY.lo {
        return Start::Answer(Decision { enforced: Verdict::Block, ..unfenced(Reason::Loopback, 0) });
    }
    let (first, second) = places_of(view, flow.remote);
    let kind = view.policy().place(first) as u8;
    if kind == PlaceKind::Loopback as u8 && first == second {
        return Start::Answer(unfenced(Reason::Loopback, first));
    }
    if view.policy().set(set).len == 0 {
        return Start::Answer(unfenced(Reason::NoFence, first));
    }
    if flow.flags & flags::STACK != 0 && first == second && is_near(flow.remote, kind, flow.protocol) {
        return Start::Answer(unfenced(Reason::Stack, first));
    }
    Start::Places(u64::from(first) | u64::from(second) << 16)
}

#[inline(always)]
const fn unfenced(reason: Reason, place: u16) -> Decision {
    Decision {
        enforced: Verdict::Allow,
        would_be: Verdict::Allow,
        outcome: Outcome::unfenced(Verdict::Allow, reason),
        place,
        blocking: 0,
        until: u64::MAX,
    }
}

/// The second step of [`decide`]: every fence of the set, about two places.
#[inline(always)]
pub fn ask_fences<V: View>(view: &V, set: u32, flow: &Flow, places: u64) -> Decision {
    let set = view.policy().set(set);
    let mut s = Fences {
        view,
        set,
        flow,
        places,
        until: view.hide(u64::MAX),
        best: view.hide(0),
        blocking: view.hide(0),
    };
    let turns = if places & 0xffff == places >> 16 { set.len } else { set.len * 2 };
    if turns == 1 {
        // One fence, as most workloads have: without the loop's call.
        s.step(0);
    } else {
        view.repeat(turns, &mut s);
    }
    let rank = s.best >> rank::SHIFT;
    Decision {
        enforced: if rank == rank::BLOCKS { Verdict::Block } else { Verdict::Allow },
        would_be: if rank >= rank::WOULD_BLOCK { Verdict::Block } else { Verdict::Allow },
        outcome: Outcome(s.best as u32),
        place: (s.best >> 32) as u16,
        blocking: s.blocking as u16,
        until: s.until,
    }
}

/// The verdict where no fence need be asked: blocked if some fence of the set enforces.
#[inline(always)]
fn refused<V: Rules>(view: &V, set: u32, reason: Reason) -> Decision {
    let set = view.policy().set(set);
    let would_be = if set.len == 0 { Verdict::Allow } else { Verdict::Block };
    let enforced = if set.flags & set_flags::ENFORCES == 0 { Verdict::Allow } else { Verdict::Block };
    Decision {
        enforced,
        would_be,
        outcome: Outcome::unfenced(would_be, reason),
        place: 0,
        blocking: ((1u32 << (set.len & 31)) - 1) as u16,
        until: u64::MAX,
    }
}

/// Each fence's own outcome, in the set's order: the detail that `explain` gives and that an event leaves to its
/// reader, who has the same image. Where two places count, the stricter of the two outcomes is given.
#[cfg(not(target_arch = "bpf"))]
pub fn outcomes<V: View>(view: &V, set: u32, flow: &Flow, mut put: impl FnMut(Outcome)) {
    if flow.flags & flags::UNREADABLE != 0 {
        return;
    }
    let (first, second) = if flow.flags & flags::SOCKET != 0 { (0, 0) } else { places_of(view, flow.remote) };
    let set = view.policy().set(set);
    for at in set.fences.iter().take(set.len as usize) {
        let mut until = u64::MAX;
        let mut outcome = view.fence(*at, flow, first, &mut until);
        if first != second && outcome.verdict() == Verdict::Allow {
            outcome = view.fence(*at, flow, second, &mut until);
        }
        put(outcome);
    }
}
