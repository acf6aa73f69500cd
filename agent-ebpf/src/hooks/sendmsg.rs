//! `cgroup/sendmsg4`, `cgroup/sendmsg6`: the polite no for datagrams to an address given with the call.
//!
//! Kernel: `udp_sendmsg`, `udpv6_sendmsg`, since 4.18. Not run for connected sockets without an address, nor for
//! UDP-Lite's connected sends: egress sees all of them.
//!
//! Attached only where the policy's errno is another than EPERM, which a drop at egress gives by itself.
//!
//! *On error:* as for connect.

use agent_common::wire::Hook;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use super::connect::ask;
use crate::ctx::SockAddr;

#[cgroup_sock_addr(sendmsg4)]
fn ringfence_sendmsg4(ctx: SockAddrContext) -> i32 {
    let ctx = SockAddr::new(ctx.sock_addr);
    ask(ctx, ctx.flow4(), Hook::Sendmsg4)
}

#[cgroup_sock_addr(sendmsg6)]
fn ringfence_sendmsg6(ctx: SockAddrContext) -> i32 {
    let ctx = SockAddr::new(ctx.sock_addr);
    ask(ctx, ctx.flow6(), Hook::Sendmsg6)
}
