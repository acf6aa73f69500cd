//! `cgroup/connect4`, `cgroup/connect6`: the fast, polite no. What passes here is judged again at egress.
//!
//! Kernel: `tcp_v4_pre_connect`, `udp_pre_connect` and their IPv6 twins, since 4.17; also for io_uring and MPTCP.
//! `bpf_set_retval` since 5.18.
//!
//! What goes to a DHCP server's port is left to egress, which sees whether it is a DHCP client's message.
//!
//! *On error:* without an image the call passes (`no_image`); egress decides. Without storage it is judged all the
//! same, and told from the CPU's scratch (`no_storage`).

use agent_common::flow::Flow;
use agent_common::parse::stack::is_dhcp_server;
use agent_common::sock::sock_flags;
use agent_common::verdict::Rules;
use agent_common::wire::{Counter, Hook};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::ctx::{SockAddr, coarse};
use crate::identity::{late, of_task, sign};
use crate::judge::{Ask, NOBODY, judge};
use crate::maps::{Image, count, scratch, storage};

#[cgroup_sock_addr(connect4)]
fn ringfence_connect4(ctx: SockAddrContext) -> i32 {
    let ctx = SockAddr::new(ctx.sock_addr);
    ask(ctx, ctx.flow4(), Hook::Connect4)
}

#[cgroup_sock_addr(connect6)]
fn ringfence_connect6(ctx: SockAddrContext) -> i32 {
    let ctx = SockAddr::new(ctx.sock_addr);
    ask(ctx, ctx.flow6(), Hook::Connect6)
}

/// 1 lets the call go on, 0 refuses it with the policy's errno.
#[inline(always)]
pub(super) fn ask(ctx: SockAddr, flow: Flow, hook: Hook) -> i32 {
    let mut ask = Ask::new(flow, NOBODY, hook, 0);
    let Some(image) = Image::fetch() else {
        count(Counter::NoImage);
        return 1;
    };
    if is_dhcp_server(ask.flow.protocol, ask.flow.port) {
        return 1;
    }
    let Some(state) = storage(ctx.sock(), true).or_else(scratch) else { return 1 };
    late(ctx.raw(), state);
    sign(state);
    if matches!(hook, Hook::Connect4 | Hook::Connect6) {
        state.flags |= sock_flags::CONNECTED;
    }
    ask.who = of_task(&image, state);
    ask.now = coarse();
    if !judge(&image, state, &mut ask).blocked() {
        return 1;
    }
    SockAddr::set_errno(image.policy().head.errno);
    0
}
