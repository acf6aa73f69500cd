//! `cgroup/sock_release`: the caller closed the last descriptor; the flows' ends are told.
//!
//! Kernel: `inet_release`, since 5.9. Runs before the protocol's own close: what TCP still has queued leaves later.
//!
//! *On error:* the close record is missing; nothing else depends on it.

use agent_common::sock::release;
use agent_common::wire::Hook;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::ctx::coarse;
use crate::emit::Rings;
use crate::identity::known;
use crate::maps::{Image, storage};

#[cgroup_sock(sock_release)]
fn ringfence_sock_release(ctx: SockContext) -> i32 {
    if let (Some(image), Some(state)) = (Image::fetch(), storage(ctx.sock.cast(), false)) {
        let who = known(&image, state);
        release(&image, &Rings::new(&image, Hook::Release as u32), state, &who, coarse());
    }
    1
}
