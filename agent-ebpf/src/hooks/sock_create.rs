//! `cgroup/sock_create`: a socket is born in the running task's cgroup, or refused there: of protocols other than TCP
//! and UDP only those that the task's fences open by name.
//!
//! Kernel: `__cgroup_bpf_run_filter_sk` from `inet_create` and `inet6_create`, since 4.10; a refusal is EPERM. Not run
//! for AF_PACKET, for accepted sockets and for MPTCP subflows. What it lets pass is judged by its bytes at egress, and
//! so are sockets that were made before, or elsewhere and handed over.
//!
//! *On error:* without an image the socket is made (`no_image`); egress decides. Without storage it is judged all the
//! same, and told from the CPU's scratch (`no_storage`).

use agent_common::flow::Flow;
use agent_common::sock::SockState;
use agent_common::wire::{Counter, Hook};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::ctx::{coarse, new_socket};
use crate::identity::{birth, of_task};
use crate::judge::{Ask, NOBODY, decide_only, tell};
use crate::maps::{Image, count, scratch, storage};

#[cgroup_sock(sock_create)]
fn ringfence_sock_create(ctx: SockContext) -> i32 {
    let Some(state) = storage(ctx.sock.cast(), true).or_else(scratch) else { return 1 };
    birth(ctx.sock.cast(), state);
    match new_socket(ctx.sock) {
        Some(flow) => ask(flow, state),
        None => 1,
    }
}

/// 1 lets the socket be made, 0 refuses it. What passes leaves no record: its flows will.
#[inline(always)]
fn ask(flow: Flow, state: &mut SockState) -> i32 {
    let Some(image) = Image::fetch() else {
        count(Counter::NoImage);
        return 1;
    };
    let mut ask = Ask::new(flow, NOBODY, Hook::SockCreate, coarse());
    ask.who = of_task(&image, state);
    let verdict = decide_only(&image, &mut ask);
    if verdict.violation() {
        tell(&image, state, &ask);
    }
    i32::from(!verdict.blocked())
}
