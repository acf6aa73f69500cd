//! The kernel programs. A hook reads, asks, returns:
//!
//! 1. [`hooks`]: kernel context to a flow ([`ctx`]);
//! 2. [`maps`]: the image, and [`identity`]: whose socket is this;
//! 3. `agent_common::sock::judge`, which calls `agent_common::verdict::decide`;
//! 4. [`emit`]: an event on a ring, or a counted loss.
#![no_std]
#![no_main]
// Inline assembly for BPF is not stable yet: one atomic add needs it (`maps::add`).
#![feature(asm_experimental_arch)]

mod ctx;
mod emit;
mod hooks {
    mod cgroup_mkdir;
    mod cgroup_release;
    mod connect;
    mod egress;
    mod host;
    mod ingress;
    mod sendmsg;
    mod sock_create;
    mod sock_release;
}
mod identity;
mod judge;
mod maps;
#[cfg(feature = "probe")]
mod peer;
#[cfg(feature = "probe")]
mod probe;
mod vouch;

/// The helpers in use (`bpf_sk_storage_get`, `bpf_skb_ancestor_cgroup_id`, …) are open to any licence; `bpf_loop`'s
/// callers and the ring buffer too. The kernel grants some helpers to GPL programs only; dual licensing is what it
/// asks for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A reachable panic is an endless loop, which the verifier refuses: there is none in a program that loads.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
