//! A whole image in memory: what a command without an agent, a test or the simulator asks.

use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use jiff::Timestamp;

use super::compile::{Clock, CompileError, Settings, Workload, compile};
use super::host_view::HostView;
use super::manifest::Manifest;
use super::set::PolicySet;
use crate::places::{PlacesError, World, WorldBuilder};

/// Policy, places and names of one generation.
pub struct HostImage {
    policy: Box<Policy>,
    index: Box<PlaceIndex>,
    /// What the numbers mean.
    pub manifest: Manifest,
    clock: Clock,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum HostImageError {
    /// The places.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// The place index has no room for the ranges.
    #[error("the places do not fit into the index: {0}")]
    Index(#[from] agent_common::place_index::BuildError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] CompileError),
}

/// The world as a policy needs it cut: the builder's sources, the policy's overrides and CIDR lists.
///
/// # Errors
/// As [`WorldBuilder::build`].
pub fn world(builder: WorldBuilder, set: &PolicySet) -> Result<World, PlacesError> {
    let builder = builder.overrides(&set.overrides);
    set.cidr_sets().iter().fold(builder, |builder, (id, nets)| builder.cidr_set(*id, nets)).build()
}

impl HostImage {
    /// Compiles a policy for some workloads, as seen at `now`.
    ///
    /// # Errors
    /// What does not fit, by its own name.
    pub fn build(
        set: &PolicySet,
        world: &World,
        workloads: &[Workload],
        now: Timestamp,
    ) -> Result<Self, HostImageError> {
        // Without a kernel there is no boot: time counts from 1970.
        let clock = Clock { wall_minus_boot: 0 };
        let level =
            |pick: fn(u32, u32) -> u32| workloads.iter().map(|w| w.path.level()).reduce(pick).unwrap_or(0);
        let settings = Settings {
            generation: 1,
            index_slot: 0,
            min_level: level(u32::min),
            max_level: level(u32::max),
            watched: Vec::new(),
            errno: 1,
            flows: true,
            events_per_second: 0,
            clock,
            now,
        };
        let mut index = PlaceIndex::boxed();
        world.fill(&mut index)?;
        let mut policy = Policy::boxed();
        let manifest = compile(set, &world.table(), &set.groups, workloads, &settings, &mut policy)?;
        Ok(Self { policy, index, manifest, clock })
    }

    /// The image at a moment.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> HostView<'_> {
        HostView { policy: &self.policy, index: &self.index, now: self.clock.boot_ns(now) }
    }
}
