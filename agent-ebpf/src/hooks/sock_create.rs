//! `cgroup/sock_create`: a socket is born in the running task's cgroup.
//!
//! Kernel: `__cgroup_bpf_run_filter_sk` from `inet_create` and `inet6_create`, since 4.10. Not run for AF_PACKET, for
//! accepted sockets and for MPTCP subflows.
//!
//! *On error:* the socket is made; egress identifies it later (counter `no_storage`).

use agent_common::wire::Counter;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::identity::birth;
use crate::maps::{count, storage};

#[cgroup_sock(sock_create)]
fn ringfence_sock_create(ctx: SockContext) -> i32 {
    match storage(ctx.sock.cast(), true) {
        Some(state) => birth(ctx.sock.cast(), state),
        None => count(Counter::NoStorage),
    }
    1
}
