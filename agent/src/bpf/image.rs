//! The image in the kernel: filled beside the one in force, then swapped in with one pointer.
//!
//! What changes a map, completely:
//! - a new policy: [`ImageMaps::stage`] and [`ImageMaps::swap`] (policy map, and an index map if places changed);
//! - a new cgroup of a subject that sockets may be in already: [`ImageMaps::bump_epoch`], after [`super::identity`].

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
use super::sys::{Mapped, clear_inner, map_info, set_inner};

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
pub struct PublishedPolicy {
    map: Arc<Mapped<Policy>>,
    /// As published, whatever somebody writes into the map.
    generation: u32,
    digest: u64,
}

impl Deref for PublishedPolicy {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.map
    }
}

impl PublishedPolicy {
    fn new(map: Mapped<Policy>) -> Self {
        Self { generation: map.head.generation, digest: digest(&map), map: Arc::new(map) }
    }

    /// The kernel's id of its map.
    pub(crate) fn id(&self) -> io::Result<u32> {
        map_info(self.map.as_fd()).map(|info| info.id)
    }

    /// Nobody has written to what decides most: head, kinds of places, workloads, sets and fences.
    pub(crate) fn is_whole(&self) -> bool {
        digest(&self.map) == self.digest
    }

    /// Its generation when it was published.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn mapped(&self) -> &Mapped<Policy> {
        &self.map
    }
}

/// Of all that comes before the port classes and rules: some hundred KiB instead of three MiB. No defence against whoever
/// takes care to keep it: such a one can stop the agent.
fn digest(policy: &Mapped<Policy>) -> u64 {
    let bytes = &policy.bytes()[..std::mem::offset_of!(Policy, port_classes)];
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    words.fold(0, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
}

/// What was last written to the control value, for whoever looks at it from outside.
#[derive(Debug)]
pub(crate) struct ControlMark {
    /// The secrets.
    pub(super) key: [u64; 2],
    /// At least.
    pub(super) epoch: AtomicU64,
    /// Something else was found there and written over.
    pub(super) healed: AtomicBool,
}

/// A place index that was published. It is mapped only while somebody asks: 12 MiB that would count as the agent's.
#[derive(Clone)]
pub struct PublishedIndex(Arc<OwnedFd>);

impl PublishedIndex {
    /// The kernel's id of its map.
    pub(crate) fn id(&self) -> io::Result<u32> {
        map_info(self.0.as_fd()).map(|info| info.id)
    }

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
    mark: Arc<ControlMark>,
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
        let now = control.get(&0, 0).map_err(|source| LoadError::Map { name: "CONTROL", source })?;
        let (epoch, healed) = (AtomicU64::new(now.epoch), AtomicBool::new(false));
        let mark = Arc::new(ControlMark { key: now.key, epoch, healed });
        Ok(Self { policies, indexes, control, mark, slot: 0, index: None, pin: None, inherited: false })
    }

    /// What is last written to the control value.
    pub(crate) fn mark(&self) -> Arc<ControlMark> {
        Arc::clone(&self.mark)
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
        Ok(Staged { policy: PublishedPolicy::new(policy.0), index, slot })
    }

    /// Swaps a staged image in with one pointer, and only then lets the old index go. When this returns, no packet is
    /// judged by the old image any more.
    pub fn swap(&mut self, staged: &Staged) -> Result<(), PublishError> {
        let generation = staged.policy.head.generation;
        // Without a pin it is in force all the same, as long as this agent runs; the watchdog pins it once it can.
        if let Some(pin) = &self.pin
            && let Err(error) = pin.coming(generation, &staged.policy.map)
        {
            tracing::error!(%error, generation, "the policy can't be pinned: a next agent could not take it over");
        }
        if let Err(source) = set_inner(self.policies.fd().as_fd(), 0, staged.policy.map.as_fd()) {
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
        // The image is in force: what fails from here on is no failure to publish.
        if staged.slot != old
            && !first
            && let Err(error) = clear_inner(self.indexes.fd().as_fd(), old)
        {
            tracing::warn!(%error, "the old place index can't be freed: it holds 12 MiB, or somebody else freed it");
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

    /// Makes every socket find its identity anew. What somebody else wrote to the control value is written over, and the
    /// watchdog told.
    pub fn bump_epoch(&mut self) -> Result<(), PublishError> {
        let found = self.control.get(&0, 0).map_err(map("read the control value"))?;
        let mark = &self.mark;
        let epoch = mark.epoch.load(Ordering::Acquire);
        if (found.key, found.zero, found.epoch) != (mark.key, 0, epoch) {
            mark.healed.store(true, Ordering::Release);
        }
        let control = Control { epoch: epoch + 1, key: mark.key, zero: 0 };
        self.control.set(0, control, 0).map_err(map("write the control value"))?;
        mark.epoch.store(epoch + 1, Ordering::Release);
        Ok(())
    }

    /// Writes the control value again after somebody else did.
    pub(crate) fn restore_control(&mut self) -> Result<(), PublishError> {
        self.bump_epoch()?;
        self.mark.healed.store(false, Ordering::Release);
        Ok(())
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
