//! Whose socket is this? The socket's own cgroup counts; the task that happens to run does not.

use core::ffi::c_void;

use agent_common::bytes::{Loop, Step};
use agent_common::sock::{SockState, Who, sock_flags};
use agent_common::verdict::View;
use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_comm,
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
};

use crate::ctx::{Skb, cookie};
use crate::maps::{Image, workload_of};

/// Who is asked for the cgroup at a level of the tree. Two types and not one pointer that may be null: a program
/// must not even contain a helper that its kind may not call, and `cgroup_skb` may ask for the running task's
/// ancestors only since Linux 6.4.
trait Ancestors: Copy {
    /// Id of the cgroup at `level`; 0 if there is none.
    fn at(self, level: i32) -> u64;
}

/// The packet's socket.
#[derive(Clone, Copy)]
struct OfPacket(*mut c_void);

impl Ancestors for OfPacket {
    #[inline(always)]
    fn at(self, level: i32) -> u64 {
        // SAFETY: the context of the running program.
        unsafe { bpf_skb_ancestor_cgroup_id(self.0.cast(), level) }
    }
}

/// The running task.
#[derive(Clone, Copy)]
struct OfTask;

impl Ancestors for OfTask {
    #[inline(always)]
    fn at(self, level: i32) -> u64 {
        // SAFETY: a helper that takes a number.
        unsafe { bpf_get_current_ancestor_cgroup_id(level) }
    }
}

/// Looks for the deepest subject above a cgroup. The levels at which subjects lie are known: no others are asked.
struct Walk<A> {
    image: Image,
    ancestors: A,
    highest: u64,
    lowest: u64,
    found: u64,
}

impl<A: Ancestors> Step for Walk<A> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let level = self.highest.wrapping_sub(u64::from(i));
        if level < self.lowest || level > self.highest {
            return true;
        }
        let id = self.ancestors.at(level as i32);
        if id == 0 {
            return false;
        }
        match workload_of(id) {
            // A workload that this generation does not know is no subject of it: look further up.
            Some(w) if self.image.policy().set_of(w).is_some() => {
                self.found = u64::from(w);
                true
            }
            _ => false,
        }
    }
}

#[inline(always)]
fn walk(image: &Image, ancestors: impl Ancestors) -> u32 {
    let head = &image.policy().head;
    let (highest, lowest) = (u64::from(head.max_level), u64::from(head.min_level));
    let mut w = Walk { image: *image, ancestors, highest, lowest, found: image.hide(0) };
    image.repeat((highest.wrapping_sub(lowest) as u32).wrapping_add(1), &mut w);
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
    state.workload = walk(image, OfPacket(skb.raw().cast()));
    state.stamp = stamp;
    state.flags |= sock_flags::VERIFIED;
    // SAFETY: the context of the running program.
    state.cgroup = unsafe { bpf_skb_cgroup_id(skb.raw()) };
    who(image, state.workload)
}

/// The same without memory, where storage could not be had.
#[inline(always)]
pub(crate) fn of_packet_unknown(image: &Image, skb: &Skb) -> Who {
    who(image, walk(image, OfPacket(skb.raw().cast())))
}

/// The hint, for hooks that have no packet: what egress found before, else the task's cgroup. It may refuse a call;
/// what it lets pass is judged again at egress.
#[inline(always)]
pub(crate) fn of_task(image: &Image, state: &mut SockState) -> Who {
    let stamp = image.stamp();
    if state.stamp == stamp {
        return who(image, state.workload);
    }
    state.workload = walk(image, OfTask);
    state.stamp = stamp;
    state.flags &= !sock_flags::VERIFIED;
    who(image, state.workload)
}

/// What the socket is known to belong to, where nobody can be asked (release).
#[inline(always)]
pub(crate) fn known(image: &Image, state: &SockState) -> Who {
    who(image, state.workload)
}

/// Who made or connected the socket. Read in the caller's context only.
#[inline(always)]
pub(crate) fn sign(state: &mut SockState) {
    state.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    state.uid = bpf_get_current_uid_gid() as u32;
    if let Ok(comm) = bpf_get_current_comm() {
        state.comm = comm;
    }
}

/// Fresh storage: the socket is made by the running task, in its cgroup.
#[inline(always)]
pub(crate) fn birth(ctx: *mut c_void, state: &mut SockState) {
    state.cookie = cookie(ctx);
    // SAFETY: a helper without arguments.
    state.cgroup = unsafe { bpf_get_current_cgroup_id() };
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
