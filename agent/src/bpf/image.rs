//! The image in the kernel: filled beside the one in force, then swapped in with one pointer.
//!
//! What changes a map, completely:
//! - a new policy: [`ImageMaps::stage`] and [`ImageMaps::swap`] (policy map, and an index map if places changed);
//! - a new cgroup of a subject that sockets may be in already: [`ImageMaps::bump_epoch`], after [`super::identity`].

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use agent_common::control::Control;
use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use agent_common::wire::Counter;
use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use thiserror::Error;

use super::adopt::{Inherited, PolicyPin};
use super::load::LoadError;
use super::pin::PinError;
use super::sys::{Mapped, clear_inner, set_inner};

/// Slots of the index map in the kernel object (`INDEXES`). Two are in use during a swap, one at other times.
const INDEX_SLOTS: u32 = 4;

/// Why an image is not in force. The one before it still is.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A map can't be made or written.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A first policy without a place index.
    #[error("no place index was published yet: this is a fault of the agent, please report it")]
    NoIndex,
    /// The policy map can't be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map element can't be written.
    #[error("{what}: {source}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// What aya said.
        source: MapError,
    },
}

/// An index being filled.
pub struct NewIndex(Mapped<PlaceIndex>);

impl NewIndex {
    /// Where to fill it.
    pub fn value(&mut self) -> &mut PlaceIndex {
        &mut self.0
    }
}

/// A policy being filled.
pub struct NewPolicy(Mapped<Policy>);

impl NewPolicy {
    /// Where to fill it.
    pub fn value(&mut self) -> &mut Policy {
        &mut self.0
    }
}

/// A policy that was published: the kernel's own pages, as long as somebody asks.
#[derive(Clone)]
pub struct PublishedPolicy(Arc<Mapped<Policy>>);

impl Deref for PublishedPolicy {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.0
    }
}

/// A place index that was published. It is mapped only while somebody asks: 12 MiB that would count as the agent's.
#[derive(Clone)]
pub struct PublishedIndex(Arc<OwnedFd>);

impl PublishedIndex {
    /// The kernel's own pages.
    pub fn map(&self) -> io::Result<MappedIndex> {
        self.0.try_clone().and_then(Mapped::map).map(MappedIndex)
    }
}

/// A place index that somebody asks.
pub struct MappedIndex(Mapped<PlaceIndex>);

impl Deref for MappedIndex {
    type Target = PlaceIndex;
    fn deref(&self) -> &PlaceIndex {
        &self.0
    }
}

/// An image beside the one in force.
pub struct Staged {
    /// Its policy.
    pub policy: PublishedPolicy,
    /// Its place index.
    pub index: PublishedIndex,
    slot: u32,
}

/// The maps that make the image.
pub struct ImageMaps {
    policies: MapData,
    indexes: MapData,
    control: Array<MapData, Control>,
    slot: u32,
    index: Option<PublishedIndex>,
    /// Where the policy in force is pinned; `None`: nowhere.
    pin: Option<PolicyPin>,
    /// An image of an earlier agent is in force until the first swap.
    inherited: bool,
}

/// What the kernel side counts.
pub struct KernelCounters {
    counters: PerCpuArray<MapData, u64>,
}

fn kernel(what: &'static str) -> impl Fn(io::Error) -> PublishError {
    move |source| PublishError::Kernel { what, source }
}

pub(super) fn map(what: &'static str) -> impl Fn(MapError) -> PublishError {
    move |source| PublishError::Map { what, source }
}

impl ImageMaps {
    /// Takes the maps out of a loaded object.
    pub fn take(ebpf: &mut Ebpf, control: Array<MapData, Control>) -> Result<Self, LoadError> {
        let mut outer = |name: &'static str| match ebpf.take_map(name) {
            Some(Map::ArrayOfMaps(m)) => Ok(m),
            Some(_) | None => Err(LoadError::NoMap(name)),
        };
        let (policies, indexes) = (outer("POLICIES")?, outer("INDEXES")?);
        Ok(Self { policies, indexes, control, slot: 0, index: None, pin: None, inherited: false })
    }

    /// Pins the policy that is in force from now on, and goes on from what an earlier agent left.
    pub(crate) fn keep(&mut self, pin: PolicyPin, inherited: Option<&Inherited>) {
        self.pin = Some(pin);
        self.inherited = inherited.is_some();
        self.slot = inherited.map_or(0, |i| i.slot % INDEX_SLOTS);
    }

    /// An empty index to fill.
    pub fn new_index(&self) -> Result<NewIndex, PublishError> {
        Mapped::create().map(NewIndex).map_err(kernel("make a place index map"))
    }

    /// An empty policy to fill.
    pub fn new_policy(&self) -> Result<NewPolicy, PublishError> {
        Mapped::create().map(NewPolicy).map_err(kernel("make a policy map"))
    }

    /// The slot that the policy must name: another one if there is a new index.
    #[must_use]
    pub fn next_slot(&self, new_index: bool) -> u32 {
        if new_index { (self.slot + 1) % INDEX_SLOTS } else { self.slot }
    }

    /// Puts a new image beside the one in force: its index into a free slot. No program sees any of it yet.
    pub fn stage(&mut self, policy: NewPolicy, index: Option<NewIndex>) -> Result<Staged, PublishError> {
        let slot = self.next_slot(index.is_some());
        let index = match index {
            Some(new) => {
                set_inner(self.indexes.fd().as_fd(), slot, new.0.as_fd())
                    .map_err(kernel("publish the place index"))?;
                PublishedIndex(Arc::new(new.0.unmap().map_err(kernel("unmap the place index"))?))
            }
            None => self.index.clone().ok_or(PublishError::NoIndex)?,
        };
        Ok(Staged { policy: PublishedPolicy(Arc::new(policy.0)), index, slot })
    }

    /// Swaps a staged image in with one pointer, and only then lets the old index go. When this returns, no packet is
    /// judged by the old image any more.
    pub fn swap(&mut self, staged: &Staged) -> Result<(), PublishError> {
        let generation = staged.policy.head.generation;
        if let Some(pin) = &self.pin {
            pin.coming(generation, &staged.policy.0)?;
        }
        if let Err(source) = set_inner(self.policies.fd().as_fd(), 0, staged.policy.0.as_fd()) {
            if let Some(pin) = &self.pin {
                pin.withdrawn(generation)?;
            }
            return Err(kernel("publish the policy")(source));
        }
        if let Some(pin) = &self.pin
            && let Err(error) = pin.arrived(generation)
        {
            tracing::warn!(%error, "the pin of the policy before stays: it holds 3 MiB");
        }
        let old = std::mem::replace(&mut self.slot, staged.slot);
        let first = self.index.replace(staged.index.clone()).is_none() && !self.inherited;
        self.inherited = false;
        if staged.slot != old && !first {
            clear_inner(self.indexes.fd().as_fd(), old).map_err(kernel("free the old place index"))?;
        }
        Ok(())
    }

    /// Both steps at once, for who needs no name for the new image before it is in force.
    pub fn publish(
        &mut self,
        policy: NewPolicy,
        index: Option<NewIndex>,
    ) -> Result<(PublishedPolicy, PublishedIndex), PublishError> {
        let staged = self.stage(policy, index)?;
        self.swap(&staged)?;
        Ok((staged.policy, staged.index))
    }

    /// Makes every socket find its identity anew.
    pub fn bump_epoch(&mut self) -> Result<(), PublishError> {
        let mut control = self.control.get(&0, 0).map_err(map("read the control value"))?;
        control.epoch += 1;
        self.control.set(0, control, 0).map_err(map("write the control value"))
    }
}

impl KernelCounters {
    /// Takes the maps out of a loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { counters: take(ebpf, "COUNTERS")? })
    }

    /// The counters in this map.
    pub(crate) fn new(counters: PerCpuArray<MapData, u64>) -> Self {
        Self { counters }
    }

    /// A counter, over all CPUs.
    pub fn get(&self, what: Counter) -> Result<u64, PublishError> {
        let values = self.counters.get(&(what as u32), 0).map_err(map("read a counter"))?;
        Ok(values.iter().sum())
    }
}

/// A map of the object, as its type.
pub(crate) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::NoMap(name))?;
    map.try_into().map_err(|source| LoadError::Map { name, source })
}
