//! Every map, who writes and who reads it, and the image as a [`View`].
//!
//! | map | written by | read by |
//! |---|---|---|
//! | `POLICIES` | the agent swaps slot 0 | every hook, once a packet |
//! | `INDEXES` | the agent fills a slot before a policy names it | every hook, through the policy |
//! | `IDENTITY` | the agent, and `cgroup_mkdir` and `cgroup_release`: cgroup id to workload id | hooks that meet a socket for the first time |
//! | `STRANGERS` | the agent: watched cgroup id to workload id | likewise, where something is watched |
//! | `PATHS` | the agent: a subject's path to its workload id | `cgroup_mkdir` |
//! | `LAYOUT` | the agent, before it attaches them | `cgroup_mkdir`, `cgroup_release` |
//! | `PATH` | `cgroup_mkdir` | `cgroup_mkdir` |
//! | `CONTROL` | the agent, epoch last | every hook |
//! | `SOCKETS` | hooks | hooks; freed by the kernel with the socket |
//! | `SCRATCH` | hooks | hooks, in place of socket storage that could not be had |
//! | `LIMITS` | hooks | hooks |
//! | `COUNTERS` | hooks | the agent |
//! | `VIOLATIONS`, `FLOWS` | hooks | the agent |
//! | `GUARDED`, `VETHS` | the agent | egress; the host hook |
//! | `VETH_COUNTS` | the agent makes entries, the host hook counts | the agent |
//! | `TUPLES` | egress | the host hook |
//! | `TRACES` | the host hook | the host hook |

use core::arch::asm;
use core::ffi::c_void;
use core::ptr;

use agent_common::address::Address;
use agent_common::birth::{Layout, PathKey};
use agent_common::bytes::{Loop, Step};
use agent_common::control::{Control, Limit};
use agent_common::flow::Flow;
use agent_common::host::{Trace, Tuple, Veth, VethCounts, Vouch};
use agent_common::image::Policy;
use agent_common::limits::{MAX_IDENTITIES, MAX_TRACES, MAX_TUPLES, MAX_VETHS, MAX_WORKLOADS};
use agent_common::place_index::PlaceIndex;
use agent_common::sock::{SockState, clear};
use agent_common::verdict::{Outcome, Reason, Rules, Verdict, View, judge};
use agent_common::wire::{Counter, Event};
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::{bpf_loop, bpf_map_lookup_elem, bpf_map_update_elem, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;

use crate::ctx::{argument, argument_mut, boot_time};

/// Template values of maps in maps are arrays, not structs: 6.1 compares the BTF of a struct and refuses the inner map.
const POLICY_WORDS: usize = size_of::<Policy>() / 8;
const INDEX_WORDS: usize = size_of::<PlaceIndex>() / 8;
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static POLICIES: ArrayOfMaps<Array<[u64; POLICY_WORDS], 1, MMAPABLE>, 1> = ArrayOfMaps::new();
#[btf_map]
static INDEXES: ArrayOfMaps<Array<[u64; INDEX_WORDS], 1, MMAPABLE>, 4> = ArrayOfMaps::new();
/// Made in full at load: a cgroup's birth must not fail for want of memory.
#[btf_map]
static IDENTITY: HashMap<u64, u32, MAX_IDENTITIES> = HashMap::new();
#[btf_map]
static STRANGERS: HashMap<u64, u32, MAX_IDENTITIES, NO_PREALLOC> = HashMap::new();
#[btf_map]
static PATHS: HashMap<PathKey, u32, MAX_WORKLOADS, NO_PREALLOC> = HashMap::new();
#[btf_map]
static LAYOUT: Array<Layout, 1> = Array::new();
/// Too large for the stack.
#[btf_map]
static PATH: PerCpuArray<PathKey, 1> = PerCpuArray::new();
#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static LIMITS: Array<Limit, MAX_WORKLOADS> = Array::new();
#[btf_map]
static SCRATCH: PerCpuArray<SockState, 1> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();
/// 4 MiB: 23,000 violations, two seconds of the promised 10,000 a second, while the agent is not looking.
#[btf_map]
pub(crate) static VIOLATIONS: RingBuf<Event, { 4 << 20 }> = RingBuf::new();
#[btf_map]
pub(crate) static FLOWS: RingBuf<Event, { 2 << 20 }> = RingBuf::new();
/// How many interfaces are guarded: without any, egress need not vouch for anything.
#[btf_map]
static GUARDED: Array<u64, 1> = Array::new();
#[btf_map]
static VETHS: HashMap<u32, Veth, MAX_VETHS, NO_PREALLOC> = HashMap::new();
#[btf_map]
static VETH_COUNTS: HashMap<u32, VethCounts, MAX_VETHS, NO_PREALLOC> = HashMap::new();
#[btf_map]
static TUPLES: LruHashMap<Tuple, Vouch, MAX_TUPLES> = LruHashMap::new();
/// Stand-ins for sockets, where there is none.
#[btf_map]
static TRACES: LruHashMap<Trace, SockState, MAX_TRACES> = LruHashMap::new();
/// Never written: what a new trace begins as. It is too long for the stack.
#[btf_map]
static BLANK: Array<SockState, 1> = Array::new();

/// Socket storage. aya's own type fixes the flags: ours needs CLONE, so that an accepted socket starts with a copy of
/// its listener's identity.
#[repr(C)]
struct SkStorage {
    r#type: *const [i32; 24],
    key: *const i32,
    value: *const SockState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; CLONE | NO_PREALLOC],
}
const CLONE: usize = 512;
/// Not the null of a real pointer: the loader reads the types of the fields, never their values.
const NIL: SkStorage = SkStorage {
    r#type: ptr::null(),
    key: ptr::null(),
    value: ptr::null(),
    max_entries: ptr::null(),
    map_flags: ptr::null(),
};
// SAFETY: the pointers are never read; they only carry types into BTF.
unsafe impl Sync for SkStorage {}
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
static SOCKETS: SkStorage = NIL;

#[inline(always)]
pub(crate) fn lookup<M, K, V>(map: *const M, key: &K) -> Option<&'static mut V> {
    // SAFETY: `map` is a map of this object with this key type; the verifier checks both.
    let value = unsafe { bpf_map_lookup_elem(map.cast_mut().cast(), ptr::from_ref(key).cast()) };
    // SAFETY: a map value lives at least until the program ends, is aligned to 8 and is of type `V` by the map's
    // definition. Other CPUs write to it too: only integers, each whole.
    unsafe { value.cast::<V>().as_mut() }
}

/// Secrets, epoch and zero.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    lookup(&raw const CONTROL, &0u32).map(|c: &mut Control| &*c)
}

/// A workload's event budget.
#[inline(always)]
pub(crate) fn limit(workload: u32) -> Option<&'static mut Limit> {
    lookup(&raw const LIMITS, &(workload & (MAX_WORKLOADS as u32 - 1)))
}

/// The workload id of a cgroup; 0 if it is known to be no subject.
#[inline(always)]
pub(crate) fn identity(cgroup: u64) -> Option<u32> {
    lookup(&raw const IDENTITY, &cgroup).map(|w: &mut u32| *w)
}

/// Gives a cgroup its workload; false if the table is full.
#[inline(always)]
pub(crate) fn identify(cgroup: u64, workload: u32) -> bool {
    IDENTITY.insert(cgroup, workload, 0).is_ok()
}

/// A cgroup is gone for good. It may never have been in the table.
#[inline(always)]
pub(crate) fn forget(cgroup: u64) {
    let _: Result<(), i32> = IDENTITY.remove(cgroup);
}

/// The workload that stands for strangers below a watched cgroup.
#[inline(always)]
pub(crate) fn strangers(cgroup: u64) -> Option<u32> {
    lookup(&raw const STRANGERS, &cgroup).map(|w: &mut u32| *w)
}

/// The workload of a subject's path.
#[inline(always)]
pub(crate) fn workload_at(path: &PathKey) -> Option<u32> {
    lookup(&raw const PATHS, path).map(|w: &mut u32| *w)
}

/// Where the kernel keeps what the cgroup programs read.
#[inline(always)]
pub(crate) fn layout() -> Option<&'static Layout> {
    lookup(&raw const LAYOUT, &0u32).map(|l: &mut Layout| &*l)
}

/// This CPU's buffer for a path.
#[inline(always)]
pub(crate) fn path_buffer() -> Option<&'static mut PathKey> {
    lookup(&raw const PATH, &0u32)
}

/// Counts one up.
#[inline(always)]
pub(crate) fn count(what: Counter) {
    if let Some(c) = lookup::<_, _, u64>(&raw const COUNTERS, &(what as u32)) {
        // One slot a CPU; a softirq between read and write may lose one count, so the add is one instruction.
        add(c, 1);
    }
}

/// Adds in one instruction, so that counts of several CPUs and of interrupts are all kept. By hand, because the target
/// is declared without atomics (it has no compare-and-swap before BPF ISA v3; the add is as old as BPF).
#[inline(always)]
pub(crate) fn add(to: &mut u64, x: u64) {
    // SAFETY: a valid, aligned u64 in a map value; the instruction writes nothing else.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) ptr::from_mut(to), in(reg) x, options(nostack)) };
}

/// The storage of a socket; with `create`, made if missing.
///
/// `sock` is a `bpf_sock` of the context: `ctx.sock`, `skb->sk` or `ctx->sk`.
#[inline(always)]
pub(crate) fn storage(sock: *mut c_void, create: bool) -> Option<&'static mut SockState> {
    let flags = u64::from(create); // BPF_SK_STORAGE_GET_F_CREATE
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: the map is socket storage and `sock` a socket of the context; the verifier checks both.
    let value = unsafe { bpf_sk_storage_get(map, sock, ptr::null_mut(), flags) };
    // SAFETY: as for `lookup`.
    unsafe { value.cast::<SockState>().as_mut() }
}

/// Writes an element of a map; an error means that the map is full or the element's lock is taken.
#[inline(always)]
fn put<M, K, V>(map: *const M, key: &K, value: &V) -> bool {
    let (key, value) = (ptr::from_ref(key).cast::<c_void>(), ptr::from_ref(value).cast::<c_void>());
    // SAFETY: `map` is a map of this object with these types of key and value; the verifier checks the sizes.
    unsafe { bpf_map_update_elem(map.cast_mut().cast(), key.cast_mut(), value.cast_mut(), 0) == 0 }
}

/// Whose interface this is, if the host layer guards it.
#[inline(always)]
pub(crate) fn veth(ifindex: u32) -> Option<&'static Veth> {
    lookup(&raw const VETHS, &ifindex).map(|v: &mut Veth| &*v)
}

/// What was stopped on a guarded interface.
#[inline(always)]
pub(crate) fn veth_counts(ifindex: u32) -> Option<&'static mut VethCounts> {
    lookup(&raw const VETH_COUNTS, &ifindex)
}

/// Whether the host layer guards any interface at all.
#[inline(always)]
pub(crate) fn guarding() -> bool {
    lookup(&raw const GUARDED, &0u32).is_some_and(|n: &mut u64| *n != 0)
}

/// Egress's note on an exchange.
#[inline(always)]
pub(crate) fn vouched(tuple: &Tuple) -> Option<&'static Vouch> {
    lookup(&raw const TUPLES, tuple).map(|v: &mut Vouch| &*v)
}

/// Makes or renews it. What can't be noted is stopped by the host layer, and told there.
#[inline(always)]
pub(crate) fn vouch_for(tuple: &Tuple, vouch: &Vouch) {
    put(&raw const TUPLES, tuple, vouch);
}

/// The stand-in for the socket of a refused flow, made if missing: all zeros, its cgroup too.
#[inline(always)]
pub(crate) fn trace(key: &Trace) -> Option<&'static mut SockState> {
    let map = &raw const TRACES;
    if let Some(known) = lookup(map, key) {
        return Some(known);
    }
    let blank: &mut SockState = lookup(&raw const BLANK, &0u32)?;
    put(map, key, blank);
    lookup(map, key)
}

/// Stands in for the storage of a socket that can't have one (`sk_storage` is charged to the socket's option memory,
/// which its owner can fill up), for one packet or call. Counts it.
///
/// A hook can be interrupted by another that takes the same scratch: what is judged is on the stack, or bears its
/// proof; only the record may then tell of the other flow.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut SockState> {
    count(Counter::NoStorage);
    let state = lookup(&raw const SCRATCH, &0u32)?;
    clear(state);
    Some(state)
}

/// One image: fetched once a packet and handed on, so that no packet sees half of two.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    pub(crate) policy: &'static Policy,
    pub(crate) index: &'static PlaceIndex,
    zero: u64,
}

impl Image {
    /// `None` only before the first publication or if a map is broken; the caller counts it.
    #[inline(always)]
    pub(crate) fn fetch() -> Option<Self> {
        let inner: &mut c_void = lookup(&raw const POLICIES, &0u32)?;
        let policy: *const Policy = lookup(ptr::from_mut(inner), &0u32)?;
        // SAFETY: just looked up; see `lookup`.
        let slot = unsafe { &*policy }.head.index_slot & 3;
        let inner: &mut c_void = lookup(&raw const INDEXES, &slot)?;
        let index: *const PlaceIndex = lookup(ptr::from_mut(inner), &0u32)?;
        Self::of(policy, index)
    }

    /// From pointers that a global function was given. `None` if one is null.
    #[inline(always)]
    pub(crate) fn of(policy: *const Policy, index: *const PlaceIndex) -> Option<Self> {
        let control = control()?;
        // SAFETY: a shared integer that nobody writes; volatile so that LLVM does not learn that it is zero.
        let zero = unsafe { ptr::read_volatile(&raw const control.zero) };
        let policy = argument(policy)?;
        let index = argument(index)?;
        Some(Self { policy, index, zero })
    }

    /// What cached identities and verdicts are bound to.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        let epoch = control().map_or(0, |c| c.epoch);
        u64::from(self.policy.head.generation) << 32 | epoch & 0xffff_ffff
    }

    /// Number-hiding zero.
    #[inline(always)]
    pub(crate) fn zero(&self) -> u64 {
        self.zero
    }
}

/// `bpf_loop`'s callback for a [`Step`].
unsafe extern "C" fn turn<S: Step>(i: u64, state: *mut S) -> u64 {
    // SAFETY: `bpf_loop` hands back the pointer that `repeat` gave it, to a state that outlives the loop.
    u64::from(unsafe { &mut *state }.step(i as u32))
}

/// Runs a loop whose body the verifier checks once.
#[inline(always)]
pub(crate) fn repeat<S: Step>(n: u32, s: &mut S) {
    // SAFETY: the callback's type fits the state's.
    unsafe { bpf_loop(n, turn::<S> as *mut c_void, ptr::from_mut(s).cast(), 0) };
}

impl Loop for Image {
    #[inline(always)]
    fn repeat<S: Step>(&self, n: u32, s: &mut S) {
        repeat(n, s);
    }
    #[inline(always)]
    fn hide(&self, x: u64) -> u64 {
        x.wrapping_add(self.zero)
    }
}

impl Rules for Image {
    #[inline(always)]
    fn policy(&self) -> &Policy {
        self.policy
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        boot_time()
    }
}

impl View for Image {
    #[inline(always)]
    fn index(&self) -> &PlaceIndex {
        self.index
    }
    #[inline(always)]
    fn place_v4(&self, address: u32) -> u16 {
        ringfence_place_v4(self.index, address) as u16
    }
    #[inline(always)]
    fn place_v6(&self, address: Address) -> u16 {
        ringfence_place_v6(self.index, address.hi, address.lo) as u16
    }
    #[inline(always)]
    fn fence(&self, at: u16, flow: &Flow, place: u16, until: &mut u64) -> Outcome {
        Outcome(ringfence_fence(self.policy, self.index, flow, until, u32::from(at) | u32::from(place) << 16))
    }
}

/// The index behind a global function: verified once for any address.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_place_v4(index: *const PlaceIndex, address: u32) -> u32 {
    match argument(index) {
        Some(index) => u32::from(index.place_v4(address)),
        None => 0,
    }
}

/// Likewise for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_place_v6(index: *const PlaceIndex, hi: u64, lo: u64) -> u32 {
    match argument(index) {
        Some(index) => u32::from(index.place_v6(Address { hi, lo })),
        None => 0,
    }
}

/// One fence's say, likewise. `what` is its position and the place id, two bytes each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringfence_fence(
    policy: *const Policy,
    index: *const PlaceIndex,
    flow: *const Flow,
    until: *mut u64,
    what: u32,
) -> u32 {
    const REFUSED: u32 = Outcome::unfenced(Verdict::Block, Reason::Fault).0;
    let Some(image) = Image::of(policy, index) else { return REFUSED };
    let Some(flow) = argument(flow) else { return REFUSED };
    let Some(until) = argument_mut(until) else { return REFUSED };
    judge(&image, what as u16, flow, (what >> 16) as u16, until).0
}
