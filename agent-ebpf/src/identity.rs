//! Whose socket is this? The socket's own cgroup counts; the task that happens to run does not.

use core::ffi::c_void;

use agent_common::image::Policy;
use agent_common::lineage::{Lineage, Walk};
use agent_common::sock::{SockState, Who, sock_flags};
use agent_common::verdict::Rules;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};

use crate::ctx::{Skb, cookie, task_ancestor, task_cgroup};
use crate::maps::{Image, identity, repeat, strangers};

/// The cgroup of the packet's socket. A type each, not a branch: 6.1 lets a `cgroup_skb` program not even contain a call
/// of `bpf_get_current_ancestor_cgroup_id`.
impl Lineage for Skb {
    #[inline(always)]
    fn ancestor(self, level: i32) -> u64 {
        Self::ancestor(&self, level)
    }
    #[inline(always)]
    fn identity(self, cgroup: u64) -> Option<u32> {
        identity(cgroup)
    }
    #[inline(always)]
    fn strangers(self, cgroup: u64) -> Option<u32> {
        strangers(cgroup)
    }
}

/// The cgroup of the running task.
#[derive(Clone, Copy)]
struct Task;

impl Lineage for Task {
    #[inline(always)]
    fn ancestor(self, level: i32) -> u64 {
        task_ancestor(level)
    }
    #[inline(always)]
    fn identity(self, cgroup: u64) -> Option<u32> {
        identity(cgroup)
    }
    #[inline(always)]
    fn strangers(self, cgroup: u64) -> Option<u32> {
        strangers(cgroup)
    }
}

/// A function of its own, so that its stack is free again before anything is judged. `zero` is a hidden zero.
#[inline(never)]
fn walk<L: Lineage>(policy: &'static Policy, zero: u64, lineage: L) -> u32 {
    let mut walk = Walk::new(policy, lineage, zero);
    repeat(walk.turns(), &mut walk);
    walk.found()
}

/// A workload of which nothing need be found out.
#[inline(always)]
pub(crate) fn who(image: &Image, workload: u32) -> Who {
    Who { stamp: image.stamp(), workload, set: image.policy().set_of(workload).unwrap_or(0) }
}

/// The authority: by the packet's socket.
#[inline(always)]
pub(crate) fn of_packet(image: &Image, skb: &Skb, state: &mut SockState) -> Who {
    let stamp = image.stamp();
    if state.stamp == stamp && state.flags & sock_flags::VERIFIED != 0 {
        return who(image, state.workload);
    }
    let workload = walk(image.policy, image.zero(), *skb);
    state.workload = workload;
    state.stamp = stamp;
    state.flags |= sock_flags::VERIFIED;
    state.cgroup = skb.cgroup();
    // Not read back: a scratch may be somebody else's by now.
    who(image, workload)
}

/// The hint, for hooks that have no packet: what egress found before, else the task's cgroup. It may refuse a call;
/// what it lets pass is judged again at egress.
#[inline(always)]
pub(crate) fn of_task(image: &Image, state: &mut SockState) -> Who {
    let stamp = image.stamp();
    if state.stamp == stamp {
        return who(image, state.workload);
    }
    let workload = walk(image.policy, image.zero(), Task);
    state.workload = workload;
    state.stamp = stamp;
    state.flags &= !sock_flags::VERIFIED;
    who(image, workload)
}

/// What the socket is known to belong to, where nobody can be asked (release).
#[inline(always)]
pub(crate) fn known(image: &Image, state: &SockState) -> Who {
    who(image, state.workload)
}

/// Who made or connected the socket. Read in the caller's context only.
#[inline(always)]
pub(crate) fn sign(state: &mut SockState) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if state.pid == pid {
        return;
    }
    state.pid = pid;
    state.uid = bpf_get_current_uid_gid() as u32;
    if let Ok(comm) = bpf_get_current_comm() {
        state.comm = comm;
    }
}

/// Fresh storage: the socket is made by the running task, in its cgroup.
#[inline(always)]
pub(crate) fn birth(ctx: *mut c_void, state: &mut SockState) {
    state.cookie = cookie(ctx);
    state.cgroup = task_cgroup();
    sign(state);
}

/// Storage that had to be made late: the socket is older than the agent.
#[inline(always)]
pub(crate) fn late(ctx: *mut c_void, state: &mut SockState) {
    if state.cookie == 0 {
        state.cookie = cookie(ctx);
        state.flags |= sock_flags::EARLY;
    }
}
