//! Kernel contexts to flows and bytes.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use agent_common::address::Address;
use agent_common::birth::{Layout, PathKey};
use agent_common::bytes::{Bytes, Loop, Step};
use agent_common::flow::{Direction, Flow, flags, protocol};
use agent_common::protocols::of_socket;
use aya_ebpf::bindings::{__sk_buff, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_socket_cookie,
    bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns, bpf_probe_read_kernel, bpf_set_retval, bpf_sk_fullsock,
    bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::repeat;

/// A packet at a `cgroup_skb` hook; offsets count from the network header.
#[derive(Clone, Copy)]
pub(crate) struct Skb {
    skb: *mut __sk_buff,
    zero: u64,
}

impl Skb {
    pub(crate) const fn new(skb: *mut __sk_buff, zero: u64) -> Self {
        Self { skb, zero }
    }

    /// The socket, or null.
    #[inline(always)]
    pub(crate) fn sock(&self) -> *mut c_void {
        // SAFETY: the context is valid for the call.
        let union = unsafe { (*self.skb).__bindgen_anon_2 };
        // SAFETY: the union's pointer is `sk` for every program of this type.
        unsafe { union.sk }.cast()
    }

    /// Bytes from the network header on.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).len }
    }

    /// Segments that the card will make of it; 0 or 1 if none.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).gso_segs }
    }

    /// The socket's cookie.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        cookie(self.skb.cast())
    }

    /// Id of the socket's cgroup.
    #[inline(always)]
    pub(crate) fn cgroup(&self) -> u64 {
        // SAFETY: the context of the running program.
        unsafe { bpf_skb_cgroup_id(self.skb) }
    }

    /// Id of the cgroup at `level` above or at the socket's; 0 if there is none.
    #[inline(always)]
    pub(crate) fn ancestor(&self, level: i32) -> u64 {
        // SAFETY: the context of the running program.
        unsafe { bpf_skb_ancestor_cgroup_id(self.skb, level) }
    }

    /// Whether the packet is a TCP socket's own: made by the kernel's TCP, not by a raw socket.
    #[inline(always)]
    pub(crate) fn is_tcp_socket(&self) -> bool {
        const STREAM: u32 = 1;
        let sock = self.sock();
        if sock.is_null() {
            return false;
        }
        // SAFETY: a socket of the context, not null.
        let full = unsafe { bpf_sk_fullsock(sock.cast()) };
        if full.is_null() {
            return false;
        }
        // SAFETY: not null; the helper's answer is valid as long as the packet.
        let kind = unsafe { (*full).type_ };
        // SAFETY: as above.
        let number = unsafe { (*full).protocol };
        kind == STREAM && number == u32::from(protocol::TCP)
    }

    /// For helpers that take the context.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut __sk_buff {
        self.skb
    }
}

impl Loop for Skb {
    #[inline(always)]
    fn repeat<S: Step>(&self, n: u32, s: &mut S) {
        repeat(n, s);
    }
    #[inline(always)]
    fn hide(&self, x: u64) -> u64 {
        x.wrapping_add(self.zero)
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut b = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the destination has room for N bytes; the helper fails rather than read beyond the packet.
        let r = unsafe { bpf_skb_load_bytes(self.skb.cast(), at, b.as_mut_ptr().cast(), N as u32) };
        if r != 0 {
            return None;
        }
        // SAFETY: the helper wrote all N bytes.
        Some(unsafe { b.assume_init() })
    }
}

/// Length of an Ethernet header: at a `tc` hook the packet begins with it. A VLAN tag is never in it, the kernel takes
/// it out before (`skb_vlan_untag`).
const ETHERNET: u32 = 14;

/// A packet at a `tc` hook; offsets count from the network header all the same.
#[derive(Clone, Copy)]
pub(crate) struct Frame(Skb);

impl Frame {
    pub(crate) const fn new(skb: *mut __sk_buff, zero: u64) -> Self {
        Self(Skb::new(skb, zero))
    }

    /// Index of the interface that it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the call.
        unsafe { (*self.0.skb).ifindex }
    }

    /// EtherType, host order; 0 if it has a VLAN tag.
    #[inline(always)]
    pub(crate) fn ethertype(&self) -> u16 {
        // SAFETY: the context is valid for the call.
        let tagged = unsafe { (*self.0.skb).vlan_present } != 0;
        // SAFETY: the context is valid for the call.
        let kind = unsafe { (*self.0.skb).protocol } as u16;
        if tagged { 0 } else { u16::from_be(kind) }
    }
}

impl Loop for Frame {
    #[inline(always)]
    fn repeat<S: Step>(&self, n: u32, s: &mut S) {
        repeat(n, s);
    }
    #[inline(always)]
    fn hide(&self, x: u64) -> u64 {
        self.0.hide(x)
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.0.load(at.wrapping_add(ETHERNET))
    }
}

/// The cookie of the context's socket.
#[inline(always)]
pub(crate) fn cookie(ctx: *mut c_void) -> u64 {
    // SAFETY: a context that has a socket.
    unsafe { bpf_get_socket_cookie(ctx) }
}

/// The exact clock that events and exceptions are told in (`CLOCK_BOOTTIME`, ns).
#[inline(always)]
pub(crate) fn boot_time() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A clock that moves at each tick (1 to 10 ms) and costs a tenth of the exact one.
#[inline(always)]
pub(crate) fn coarse() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The context of connect and sendmsg hooks.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr(*mut bpf_sock_addr);

impl SockAddr {
    pub(crate) const fn new(ctx: *mut bpf_sock_addr) -> Self {
        Self(ctx)
    }

    /// The socket.
    #[inline(always)]
    pub(crate) fn sock(self) -> *mut c_void {
        // SAFETY: the context is valid for the call.
        let union = unsafe { (*self.0).__bindgen_anon_1 };
        // SAFETY: the union's pointer is `sk` for every program of this type.
        unsafe { union.sk }.cast()
    }

    /// For helpers that take the context.
    #[inline(always)]
    pub(crate) const fn raw(self) -> *mut c_void {
        self.0.cast()
    }

    /// What an IPv4 hook is asked about. The hook decides the family: `user_family` is the caller's to write.
    #[inline(always)]
    pub(crate) fn flow4(self) -> Flow {
        // SAFETY: the context is valid for the call.
        let address = u32::from_be(unsafe { (*self.0).user_ip4 });
        self.flow(Address::v4(address))
    }

    /// What an IPv6 hook is asked about, v4-mapped addresses among it.
    #[inline(always)]
    pub(crate) fn flow6(self) -> Flow {
        // Four loads of a word each: the verifier allows no pointer into the context.
        let word = |i: usize| {
            // SAFETY: the context is valid for the call, and `i` is below four.
            u64::from(u32::from_be(unsafe { (*self.0).user_ip6[i] }))
        };
        self.flow(Address { hi: word(0) << 32 | word(1), lo: word(2) << 32 | word(3) })
    }

    #[inline(always)]
    fn flow(self, remote: Address) -> Flow {
        // SAFETY: the context is valid for the call.
        let port = u16::from_be(unsafe { (*self.0).user_port } as u16);
        // SAFETY: as above.
        let protocol = unsafe { (*self.0).protocol } as u8;
        let flags = match protocol {
            protocol::TCP | protocol::UDP | protocol::UDPLITE => 0,
            _ => flags::NO_PORT,
        };
        Flow { remote, port, protocol, direction: Direction::Outbound, flags }
    }
}

impl SockAddr {
    /// The errno (positive) that the call returns if it is refused. Since 5.18.
    #[inline(always)]
    pub(crate) fn set_errno(errno: u32) {
        // SAFETY: a helper of this program type that takes a negative errno.
        unsafe { bpf_set_retval(-(errno as i32)) };
    }
}

/// What a new socket asks for, if a fence must open it.
#[inline(always)]
pub(crate) fn new_socket(sock: *const bpf_sock) -> Option<Flow> {
    // SAFETY: the context's socket is valid for the call.
    let kind = unsafe { (*sock).type_ };
    // SAFETY: as above.
    let number = unsafe { (*sock).protocol };
    let (protocol, flags) = of_socket(kind, number)?;
    let remote = Address { hi: 0, lo: 0 };
    Some(Flow { remote, port: 0, protocol, direction: Direction::Outbound, flags })
}

/// The arguments of the `cgroup` tracepoints: `(struct cgroup *cgrp, const char *path)`.
#[derive(Clone, Copy)]
pub(crate) struct CgroupEvent {
    cgroup: u64,
    path: u64,
}

impl CgroupEvent {
    #[inline(always)]
    pub(crate) fn new(ctx: &RawTracePointContext) -> Self {
        Self { cgroup: ctx.arg(0), path: ctx.arg(1) }
    }

    /// The cgroup's id, or `Ok(None)` in another hierarchy than v2's. An error: the kernel's memory can't be read.
    #[inline(always)]
    pub(crate) fn id(self, layout: &Layout) -> Result<Option<u64>, i32> {
        let root = kernel_word::<u64>(self.cgroup, layout.cgroup_root)?;
        if kernel_word::<u32>(root, layout.root_hierarchy)? != 0 {
            return Ok(None);
        }
        let node = kernel_word::<u64>(self.cgroup, layout.cgroup_kn)?;
        kernel_word(node, layout.kn_id).map(Some)
    }

    /// Copies the path; false if it can't be read or does not fit.
    #[inline(always)]
    pub(crate) fn path(self, into: &mut PathKey) -> bool {
        into.clear();
        let room = into.bytes.len();
        let at = into.bytes.as_mut_ptr().cast();
        // SAFETY: the destination has `room` bytes; the helper fails rather than fault on the source.
        let length = unsafe { bpf_probe_read_kernel_str(at, room as u32, self.path as *const c_void) };
        // With its zero; a path that was cut fills the buffer.
        0 < length && length < room as i64
    }
}

#[inline(always)]
fn kernel_word<T>(object: u64, offset: u32) -> Result<T, i32> {
    let at = object.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper fails rather than fault; `T` is an integer.
    unsafe { bpf_probe_read_kernel(at) }
}

/// Id of the running task's cgroup.
#[inline(always)]
pub(crate) fn task_cgroup() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Id of the cgroup at `level` above or at the running task's; 0 if there is none.
#[inline(always)]
pub(crate) fn task_ancestor(level: i32) -> u64 {
    // SAFETY: a helper that takes a number.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}

/// A pointer that a global function was given: null, or memory of a whole `T`, which the verifier checks at each caller
/// and which lives until the program ends.
#[inline(always)]
pub(crate) fn argument<T>(pointer: *const T) -> Option<&'static T> {
    // SAFETY: see above; only the functions that the verifier checks call this.
    unsafe { pointer.as_ref() }
}

/// The same, to write to.
#[inline(always)]
pub(crate) fn argument_mut<T>(pointer: *mut T) -> Option<&'static mut T> {
    // SAFETY: see above.
    unsafe { pointer.as_mut() }
}
