//! Whose is a cgroup? By the deepest subject at or above it, found by asking upward.
//!
//! A cgroup that the identity table does not know, below one that is *watched*, is a **stranger**: it came since the
//! agent last looked, and could be any subject below the watched cgroup. Until the agent has classified it, it is
//! judged by all the fences that could be meant (a workload of the image of its own; see the agent's `policy::identify`).
//! Where the kernel gives cgroups their identity at birth, nothing is watched, and the question costs nothing.

use crate::bytes::Step;
use crate::image::{Policy, head_flags};

/// The cgroup tree as a hook sees it, and the agent's tables of it.
pub trait Lineage: Copy {
    /// Id of the cgroup at `level` above or at the origin; 0 if there is none.
    fn ancestor(self, level: i32) -> u64;
    /// What the agent, or the kernel at birth, entered for a cgroup: a workload id, or 0 for "known, no subject".
    fn identity(self, cgroup: u64) -> Option<u32>;
    /// The workload that stands for strangers directly below this cgroup.
    fn strangers(self, cgroup: u64) -> Option<u32>;
}

/// The levels at which subjects lie are known: no others are asked. A loop body; [`Walk::turns`] says how often.
pub struct Walk<'a, L> {
    lineage: L,
    policy: &'a Policy,
    highest: u64,
    lowest: u64,
    /// Whether anything is watched.
    watching: u64,
    /// The cgroup one level down is a stranger.
    stranger: u64,
    found: u64,
}

impl<'a, L: Lineage> Walk<'a, L> {
    /// A walk that has not begun. `zero` is a hidden zero ([`Loop::hide`](crate::bytes::Loop::hide)).
    #[inline(always)]
    pub fn new(policy: &'a Policy, lineage: L, zero: u64) -> Self {
        let head = &policy.head;
        Self {
            lineage,
            policy,
            highest: u64::from(head.max_level),
            lowest: u64::from(head.min_level),
            watching: u64::from(head.flags & head_flags::WATCHING),
            stranger: zero,
            found: zero,
        }
    }

    /// How many levels there are to ask.
    #[inline(always)]
    pub const fn turns(&self) -> u32 {
        (self.highest.wrapping_sub(self.lowest) as u32).wrapping_add(1)
    }

    /// The workload; 0 if none.
    #[inline(always)]
    pub const fn found(&self) -> u32 {
        self.found as u32
    }

    /// A workload that this generation does not know is no subject of it: look further up.
    #[inline(always)]
    fn take(&mut self, workload: Option<u32>) -> bool {
        match workload {
            Some(w) if self.policy.set_of(w).is_some() => {
                self.found = u64::from(w);
                true
            }
            Some(_) | None => false,
        }
    }
}

impl<L: Lineage> Step for Walk<'_, L> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let level = self.highest.wrapping_sub(u64::from(i));
        if level < self.lowest || level > self.highest {
            return true;
        }
        let id = self.lineage.ancestor(level as i32);
        if id == 0 {
            return false;
        }
        // Before its own workload: what stands for strangers has the fences of the watched cgroup too.
        if self.stranger != 0 && self.take(self.lineage.strangers(id)) {
            return true;
        }
        let known = self.lineage.identity(id);
        self.stranger = if known.is_none() { self.watching } else { 0 };
        self.take(known)
    }
}
