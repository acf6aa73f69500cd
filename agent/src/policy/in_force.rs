//! The generations that events may still speak of, and what is in force now.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use agent_common::flow::Flow;
use agent_common::verdict::{Outcome, judge};

use super::host_view::PolicyAt;
use super::manifest::Manifest;
use super::set::PolicySet;
use crate::bpf::image::{PublishedIndex, PublishedPolicy};

/// One published generation: the kernel's own bytes, and the names of their numbers.
pub struct InForce {
    /// The names.
    pub manifest: Manifest,
    /// The documents.
    pub set: Arc<PolicySet>,
    /// The kernel's policy.
    pub policy: PublishedPolicy,
    /// The kernel's place index.
    pub index: PublishedIndex,
    /// How many ranges each source of the table answers for.
    pub ranges: Arc<[u64]>,
}

impl InForce {
    /// What each fence of a set says of a flow whose place is already known.
    #[must_use]
    pub fn outcomes_at(&self, set: u32, flow: &Flow, place: u16, now: u64) -> Vec<Outcome> {
        let view = PolicyAt { policy: &self.policy, now };
        let fences = self.manifest.sets.get(set as usize).map_or(&[][..], |s| s);
        fences.iter().map(|at| judge(&view, *at, flow, place, &mut u64::MAX.clone())).collect()
    }
}

/// The last generations, and the one that is about to come: its first events may be read before the swap has
/// returned.
#[derive(Default)]
pub struct History(RwLock<Generations>);

#[derive(Default)]
struct Generations {
    /// Newest last, each with when it came; the last is in force.
    kept: VecDeque<(Instant, Arc<InForce>)>,
    coming: Option<Arc<InForce>>,
    /// Generation of the image that an earlier agent left in force; 0: none.
    inherited: u32,
    /// What that generation's numbers mean, if that is known, and since when.
    same: Option<(Instant, Arc<InForce>)>,
}

impl History {
    /// Generations kept at most.
    pub const KEPT: usize = 32;
    /// How long a generation is kept after the next one came: events are read within milliseconds, and each
    /// generation holds 3 MiB of the kernel's memory.
    const LINGER: Duration = Duration::from_secs(2);

    /// What is in force now.
    #[must_use]
    pub fn now(&self) -> Option<Arc<InForce>> {
        self.read().kept.back().map(|(_, f)| Arc::clone(f))
    }

    /// The generation in force (0: none of ours), if no other is about to come.
    #[must_use]
    pub(crate) fn quiet(&self) -> Option<u32> {
        let generations = self.read();
        let now = generations.kept.back().map_or(0, |(_, f)| f.manifest.generation);
        generations.coming.is_none().then_some(now)
    }

    /// An earlier agent's image is in force: nobody knows the names of its numbers.
    pub(crate) fn inherit(&self, generation: u32) {
        self.write().inherited = generation;
    }

    /// Generation of an earlier agent's image, if that is the one in force; 0 if not.
    #[must_use]
    pub(crate) fn inherited(&self) -> u32 {
        let generations = self.read();
        if generations.kept.is_empty() { generations.inherited } else { 0 }
    }

    /// The numbers of the inherited image mean what those of the one in force mean.
    pub(crate) fn same_as_inherited(&self) {
        let mut generations = self.write();
        generations.same = generations.kept.back().map(|(_, now)| (Instant::now(), Arc::clone(now)));
    }

    /// A generation, if it is still kept or about to come.
    #[must_use]
    pub fn get(&self, generation: u32) -> Option<Arc<InForce>> {
        let generations = self.read();
        let kept = generations.kept.iter().rev().map(|(_, f)| f);
        let own = generations.coming.iter().chain(kept).find(|f| f.manifest.generation == generation);
        let same = || generations.same.as_ref().filter(|_| generation == generations.inherited);
        own.or_else(|| same().map(|(_, f)| f)).map(Arc::clone)
    }

    /// A generation is about to be swapped in.
    pub fn announce(&self, new: InForce) {
        self.write().coming = Some(Arc::new(new));
    }

    /// What was announced is in force. `None` if nothing was.
    pub fn arrived(&self) -> Option<Arc<InForce>> {
        let mut generations = self.write();
        let new = generations.coming.take()?;
        if generations.kept.len() == Self::KEPT {
            generations.kept.pop_front();
        }
        generations.kept.push_back((Instant::now(), Arc::clone(&new)));
        Some(new)
    }

    /// What was announced does not come.
    pub fn withdrawn(&self) {
        self.write().coming = None;
    }

    /// Lets go of generations that no event speaks of any more.
    pub fn prune(&self) {
        let mut generations = self.write();
        while generations.kept.get(1).is_some_and(|(came, _)| came.elapsed() > Self::LINGER) {
            generations.kept.pop_front();
        }
        generations.same.take_if(|(since, _)| since.elapsed() > Self::LINGER);
    }

    /// A panic of another thread can't leave this half changed: take it.
    fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Generations> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
