//! Peers that the benchmark measures ringfence against; test-only, never in the agent's object.
//!
//! - the same lookups in the same loop over the same keys, once through the image's place index, once through the
//!   kernel's LPM trie, once through nothing (`peer_lookup_*`, run by `BPF_PROG_TEST_RUN`);
//! - a fence as it is commonly built, from an LPM trie and a set of denied places (`peer_trie_egress`);
//! - a hook that does nothing (`peer_empty_egress`): what any cgroup program costs.
//!
//! User space fills `PEER_KEYS`, the tries and `PEER_DENIED`.

use agent_common::address::Address;
use agent_common::bytes::{Bytes, Loop, Step};
use agent_common::limits::MAX_PLACES;
use agent_common::verdict::View;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::btf_maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::macros::{btf_map, cgroup_skb, classifier};
use aya_ebpf::programs::{SkBuffContext, TcContext};

use crate::ctx::{Skb, argument};
use crate::maps::{Image, repeat};

/// Lookups of one run. `tests/src/bench` has the same number, and the size of `PEER_KEYS` tells them apart if not.
const KEYS: usize = 1 << 16;
/// The world has 600,000 IPv4 and 800,000 IPv6 prefixes after merging.
const TRIE_ENTRIES: usize = 1 << 21;
const WORDS: usize = MAX_PLACES / 64;

/// Addresses as two words each, high and low; an IPv4 address lies in the low word, in host order.
#[btf_map]
static PEER_KEYS: Array<[u64; 2 * KEYS], 1> = Array::new();
#[btf_map]
static PEER_TRIE_V4: LpmTrie<[u8; 4], u32, TRIE_ENTRIES> = LpmTrie::new();
#[btf_map]
static PEER_TRIE_V6: LpmTrie<[u32; 4], u32, TRIE_ENTRIES> = LpmTrie::new();
/// One bit a place id: what the fence of `peer_trie_egress` refuses.
#[btf_map]
static PEER_DENIED: Array<[u64; WORDS], 1> = Array::new();

/// How the turns of a run look an address up.
trait Lookup {
    fn place(&self, image: &Image, address: Address) -> u32;
}

struct Nothing;
struct IndexV4;
struct IndexV6;
struct TrieV4;
struct TrieV6;

impl Lookup for Nothing {
    #[inline(always)]
    fn place(&self, _: &Image, address: Address) -> u32 {
        address.lo as u32
    }
}

impl Lookup for IndexV4 {
    #[inline(always)]
    fn place(&self, image: &Image, address: Address) -> u32 {
        u32::from(image.place_v4(address.lo as u32))
    }
}

impl Lookup for IndexV6 {
    #[inline(always)]
    fn place(&self, image: &Image, address: Address) -> u32 {
        u32::from(image.place_v6(address))
    }
}

impl Lookup for TrieV4 {
    #[inline(always)]
    fn place(&self, _: &Image, address: Address) -> u32 {
        trie_v4((address.lo as u32).to_be_bytes())
    }
}

impl Lookup for TrieV6 {
    #[inline(always)]
    fn place(&self, _: &Image, address: Address) -> u32 {
        let words = [address.hi >> 32, address.hi, address.lo >> 32, address.lo];
        trie_v6(words.map(|word| (word as u32).to_be()))
    }
}

#[inline(always)]
fn trie_v4(address: [u8; 4]) -> u32 {
    PEER_TRIE_V4.get(&Key::new(32, address)).copied().unwrap_or(0)
}

#[inline(always)]
fn trie_v6(address: [u32; 4]) -> u32 {
    PEER_TRIE_V6.get(&Key::new(128, address)).copied().unwrap_or(0)
}

struct Run<L> {
    lookup: L,
    image: Image,
    keys: &'static [u64; 2 * KEYS],
    zero: u64,
    next: u64,
    sum: u64,
}

impl<L: Lookup> Step for Run<L> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> bool {
        let at = (self.next as usize & (KEYS - 1)) * 2;
        let address = Address { hi: self.keys[at], lo: self.keys[at + 1] };
        let place = u64::from(self.lookup.place(&self.image, address));
        self.sum = self.sum.wrapping_mul(31).wrapping_add(place);
        // Which key comes next depends on the answer, or lookups would overlap: latency, not throughput. `zero` is
        // zero, which nobody but user space knows, so that all structures see the same keys in the same order.
        self.next = self.next.wrapping_add(1) ^ (place & self.zero);
        false
    }
}

/// The sum of a run, to hold against the other structures'; 0 if there is no image or there are no keys.
#[inline(always)]
fn run<L: Lookup>(lookup: L) -> i32 {
    let Some(image) = Image::fetch() else { return 0 };
    let Some(keys) = PEER_KEYS.get_ptr(0) else { return 0 };
    // User space does not write to the keys during a run.
    let Some(keys) = argument(keys) else { return 0 };
    let mut run = Run { lookup, image, keys, zero: image.hide(0), next: image.hide(0), sum: image.hide(0) };
    repeat(KEYS as u32, &mut run);
    run.sum as i32
}

#[classifier]
fn peer_lookup_none(_: TcContext) -> i32 {
    run(Nothing)
}

#[classifier]
fn peer_lookup_index_v4(_: TcContext) -> i32 {
    run(IndexV4)
}

#[classifier]
fn peer_lookup_index_v6(_: TcContext) -> i32 {
    run(IndexV6)
}

#[classifier]
fn peer_lookup_trie_v4(_: TcContext) -> i32 {
    run(TrieV4)
}

#[classifier]
fn peer_lookup_trie_v6(_: TcContext) -> i32 {
    run(TrieV6)
}

/// A hook that does nothing.
#[cgroup_skb]
fn peer_empty_egress(_: SkBuffContext) -> i32 {
    1
}

/// A fence in thirty lines: the destination's place from the trie, the verdict from a bit. No extension headers, no
/// identity, no memory, no record: less than a fence must do, so the comparison favours it.
#[cgroup_skb]
fn peer_trie_egress(ctx: SkBuffContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb, 0);
    let Some([first]) = skb.load::<1>(0) else { return 0 };
    let place = if first >> 4 == 4 {
        let Some(address) = skb.load::<4>(16) else { return 0 };
        trie_v4(address)
    } else {
        let Some(b) = skb.load::<16>(24) else { return 0 };
        let word = |i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        trie_v6([word(0), word(4), word(8), word(12)])
    };
    let Some(denied) = PEER_DENIED.get(0) else { return 0 };
    let bit = denied[(place as usize / 64) & (WORDS - 1)] >> (place & 63) & 1;
    1 - bit as i32
}
