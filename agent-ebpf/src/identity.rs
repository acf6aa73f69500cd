//! Whose socket is this? The socket's own cgroup counts; the task that happens to run does not.

use core::ffi::c_void;

use agent_common::bytes::Step;
use agent_common::image::Policy;
use agent_common::sock::{SockState, Who, sock_flags};
use agent_common::verdict::Rules;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};

use crate::ctx::{Skb, cookie, task_ancestor, task_cgroup};
use crate::maps::{Image, repeat, workload_of};

/// Whose ancestors are asked for. A type each, not a branch: 6.1 lets a `cgroup_skb` program not even contain a call
/// of `bpf_get_current_ancestor_cgroup_id`.
trait Origin: Copy {
    /// Id of the cgroup at `level` above or at the origin; 0 if there is none.
    fn ancestor(self, level: i32) -> u64;
}

/// The cgroup of the packet's socket.
impl Origin for Skb {
    #[inline(always)]
    fn ancestor(self, level: i32) -> u64 {
        Self::ancestor(&self, level)
    }
}

/// The cgroup of the running task.
#[derive(Clone, Copy)]
struct Task;

impl Origin for Task {
    #[inline(always)]
    fn ancestor(self, level: i32) -> u64 {
        task_ancestor(level)
    }
}

/// Looks for the deepest subject above a cgroup. The levels at which subjects lie are known: no others are asked.
struct Walk<O> {
    origin: O,
    policy: &'static Policy,
    highest: u64,
    lowest: u64,
    found: u64,
}

impl<O: Origin> Step for Walk<O> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let level = self.highest.wrapping_sub(u64::from(i));
        if level < self.lowest || level > self.highest {
            return true;
        }
        let id = self.origin.ancestor(level as i32);
        if id == 0 {
            return false;
        }
        match workload_of(id) {
            // A workload that this generation does not know is no subject of it: look further up.
            Some(w) if self.policy.set_of(w).is_some() => {
                self.found = u64::from(w);
                true
            }
            _ => false,
        }
    }
}

/// A function of its own, so that its stack is free again before anything is judged. `zero` is a hidden zero.
#[inline(never)]
fn walk<O: Origin>(policy: &'static Policy, zero: u64, origin: O) -> u32 {
    let head = &policy.head;
    let (highest, lowest) = (u64::from(head.max_level), u64::from(head.min_level));
    let mut w = Walk { origin, policy, highest, lowest, found: zero };
    repeat((highest.wrapping_sub(lowest) as u32).wrapping_add(1), &mut w);
    w.found as u32
}

#[inline(always)]
fn who(image: &Image, workload: u32) -> Who {
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
