//! The one place where flows are judged, shared by all hooks: recall, else decide and record.
//!
//! The functions here are *global* ones in BPF's sense: the verifier checks each once, for any arguments, and not again
//! at every path of every caller, which is the difference between thousands of instructions and more than a million.
//! Their arguments may be integers and pointers to memory of a known size (5.13), five at most; so the image travels
//! as two pointers and is never fetched twice for one packet. A function's stack is free again when it returns: three
//! calls one after the other fit into the 512 bytes, nested they do not.

use agent_common::flow::Flow;
use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use agent_common::sock::{Cached, SockState, Who, recall, record};
use agent_common::verdict::{Decision, Start, ask_fences, start};
use agent_common::wire::Hook;

use crate::ctx::{argument, argument_mut};
use crate::emit::Rings;
use crate::maps::Image;

/// A question, on the caller's stack: no padding, all of it written.
#[repr(C)]
pub(crate) struct Ask {
    pub(crate) flow: Flow,
    pub(crate) who: Who,
    /// Coarse clock (ns).
    pub(crate) now: u64,
    hook: u64,
    /// Answer: the [`Cached`] decision.
    decision: u64,
    /// Answer: until when it holds. Between the two steps of a decision, the places that the fences are asked about.
    pub(crate) until: u64,
}

const _: () = assert!(size_of::<Ask>() == 72);

impl Ask {
    #[inline(always)]
    pub(crate) const fn new(flow: Flow, who: Who, hook: Hook, now: u64) -> Self {
        Self { flow, who, now, hook: hook as u64, decision: 0, until: 0 }
    }

    /// The answer.
    #[inline(always)]
    pub(crate) const fn verdict(&self) -> Cached {
        Cached(self.decision)
    }
}

impl Ask {
    #[inline(always)]
    fn answer(&mut self, decision: &Decision) {
        self.until = decision.until;
        self.decision = Cached::new(decision).0;
    }
}

/// Whom nothing is known of yet.
pub(crate) const NOBODY: Who = Who { stamp: 0, workload: 0, set: 0 };
/// Nothing remembered; no decision looks like it (block without violation).
const MISS: u64 = 1 << 63;
/// The decision is made.
const DONE: u32 = 1;
/// What a function answers that got a null pointer, which callers rule out.
const REFUSED: u64 = 1 << 63 | 1 << 62;

/// Judges a flow of a socket and records it.
#[inline(always)]
pub(crate) fn judge(image: &Image, state: &mut SockState, ask: &mut Ask) -> Cached {
    let known = ringfence_recall(state, ask, image.policy, image.index);
    if known != MISS {
        ask.decision = known;
        return Cached(known);
    }
    let decided = decide_only(image, ask);
    tell(image, state, ask);
    decided
}

/// Records what [`decide_only`] said.
#[inline(always)]
pub(crate) fn tell(image: &Image, state: &mut SockState, ask: &Ask) {
    ringfence_record(state, ask, image.policy, image.index);
}

/// Records what [`decide_only`] said, as [`judge`] does: a repeat of what is remembered is counted.
#[inline(always)]
pub(crate) fn witness(image: &Image, state: &mut SockState, ask: &Ask) {
    if ringfence_recall(state, ask, image.policy, image.index) == MISS {
        ringfence_record(state, ask, image.policy, image.index);
    }
}

/// Judges a flow without a socket's memory.
#[inline(always)]
pub(crate) fn decide_only(image: &Image, ask: &mut Ask) -> Cached {
    if ringfence_start(ask, image.policy, image.index) != DONE {
        ringfence_fences(ask, image.policy, image.index);
    }
    Cached(ask.decision)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_recall(
    state: *mut SockState,
    ask: *const Ask,
    policy: *const Policy,
    index: *const PlaceIndex,
) -> u64 {
    let Some(state) = argument_mut(state) else { return REFUSED };
    let Some(ask) = argument(ask) else { return REFUSED };
    let Some(image) = Image::of(policy, index) else { return REFUSED };
    let rings = Rings::new(&image, ask.hook as u32);
    match recall(&image, &rings, state, &ask.who, &ask.flow, ask.now) {
        Some(known) => known.0,
        None => MISS,
    }
}

/// The first step of a decision. What it keeps on its stack is gone before the fences are asked.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_start(ask: *mut Ask, policy: *const Policy, index: *const PlaceIndex) -> u32 {
    let Some(ask) = argument_mut(ask) else { return DONE };
    ask.decision = REFUSED;
    let Some(image) = Image::of(policy, index) else { return DONE };
    match start(&image, ask.who.set, &ask.flow) {
        Start::Answer(decision) => {
            ask.answer(&decision);
            DONE
        }
        Start::Places(places) => {
            ask.until = places;
            0
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_fences(ask: *mut Ask, policy: *const Policy, index: *const PlaceIndex) -> u32 {
    let Some(ask) = argument_mut(ask) else { return 0 };
    let Some(image) = Image::of(policy, index) else { return 0 };
    let decision = ask_fences(&image, ask.who.set, &ask.flow, ask.until);
    ask.answer(&decision);
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_record(
    state: *mut SockState,
    ask: *const Ask,
    policy: *const Policy,
    index: *const PlaceIndex,
) -> u32 {
    let Some(state) = argument_mut(state) else { return 0 };
    let Some(ask) = argument(ask) else { return 0 };
    let Some(image) = Image::of(policy, index) else { return 0 };
    let rings = Rings::new(&image, ask.hook as u32);
    record(&image, &rings, state, &ask.who, &ask.flow, ask.now, Cached(ask.decision), ask.until);
    1
}
