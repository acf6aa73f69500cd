//! A checked policy set into the kernel: places cut anew if they must be, the image filled beside the one in force,
//! one swap, and only then what is no longer needed let go.
//!
//! The complete list of what changes the image or the identity table:
//! - documents changed, or a group's date passed: [`Publisher::publish`];
//! - a data file changed: [`Publisher::publish`] with new places;
//! - somebody set the wall clock: [`Publisher::publish`] (exceptions end by wall clock, the kernel counts from boot);
//! - a subject's cgroup appeared: [`Publisher::follow_cgroups`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use agent_common::limits::MAX_CGROUP_LEVEL;
use agent_common::place_index::{BuildError, Usage};
use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;

use super::CgroupPath;
use super::compile::{Clock, CompileError, Settings, compile};
use super::identify::Identities;
use super::ids::WorkloadIds;
use super::image::world;
use super::in_force::{History, InForce};
use super::set::PolicySet;
use crate::bpf::adopt::Inherited;
use crate::bpf::image::{ControlMark, ImageMaps, NewIndex, PublishError};
use crate::identity::cgroups::CgroupError;
use crate::places::{FileError, MIN_KNOWN_SHARE, PlaceTable, PlacesError, WorldBuilder, read_data_file};

/// Why a policy is not in force. The one before it is.
#[derive(Debug, Error)]
pub enum PublicationError {
    /// A data file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data is refused.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// The places do not fit.
    #[error("the places do not fit into the index: {0}")]
    Index(#[from] BuildError),
    /// The policy does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] PublishError),
    /// Cgroups can't be read.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// Two threads published at once.
    #[error(
        "the generation that was just published is not known: this is a fault of the agent, please report it"
    )]
    Lost,
    /// A subject that the kernel does not look for.
    #[error(
        "the subject {path} lies {} levels deep, and subjects may lie {MAX_CGROUP_LEVEL} deep: name a cgroup above it",
        .path.level()
    )]
    TooDeep {
        /// The subject.
        path: CgroupPath,
    },
}

/// Where places come from.
#[derive(Clone, Debug)]
pub struct Data {
    /// A country database instead of the built-in one.
    pub country_db: Option<PathBuf>,
    /// Share of the IPv4 addresses that it must know.
    pub min_known_share: f64,
    /// Published provider ranges.
    pub provider_ranges: Vec<PathBuf>,
    /// Networks of this cluster.
    pub cluster: Vec<IpNet>,
    /// Trusted resolvers.
    pub resolvers: Vec<IpAddr>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            country_db: None,
            min_known_share: MIN_KNOWN_SHARE,
            provider_ranges: Vec::new(),
            cluster: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

impl Data {
    fn builder(&self) -> Result<WorldBuilder, PublicationError> {
        let name =
            |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut builder = match &self.country_db {
            None => WorldBuilder::builtin(),
            Some(path) => WorldBuilder::country_db(read_data_file(path)?, name(path)),
        };
        for path in &self.provider_ranges {
            builder = builder.provider_file(&name(path), &read_data_file(path)?)?;
        }
        Ok(builder.min_known_share(self.min_known_share).cluster(&self.cluster).resolvers(&self.resolvers))
    }
}

/// What the operator set for the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    /// errno (positive) of a refused connect or sendmsg.
    pub errno: u32,
    /// Flow events beside violations.
    pub flows: bool,
    /// Violation events that one workload may emit in a second.
    pub events_per_second: u32,
}

/// What the places in force were cut by: if it is the same, the index stays.
#[derive(PartialEq)]
struct Cut {
    cidr_sets: Vec<(u32, Vec<IpNet>)>,
    overrides: Vec<crate::places::Override>,
}

/// What is known of the places in force when their ranges are gone.
#[derive(Clone, Default)]
struct Places {
    table: Arc<PlaceTable>,
    usage: Usage,
    /// How many ranges each source of the table answers for.
    ranges: Arc<[u64]>,
}

/// Publishes, and remembers what is in force.
pub struct Publisher {
    maps: ImageMaps,
    identities: Identities,
    history: Arc<History>,
    data: Data,
    knobs: Knobs,
    generation: u32,
    cut: Option<Cut>,
    places: Places,
}

impl Publisher {
    /// A publisher over the kernel's maps; nothing is published yet.
    #[must_use]
    pub fn new(
        maps: ImageMaps,
        identities: Identities,
        history: Arc<History>,
        data: Data,
        knobs: Knobs,
    ) -> Self {
        Self { maps, identities, history, data, knobs, generation: 0, cut: None, places: Places::default() }
    }

    /// Goes on from what an earlier agent left: its generations, its ids, its identity tables.
    pub(crate) fn resume(&mut self, ids: WorkloadIds, inherited: Option<&Inherited>) {
        self.generation = inherited.map_or(0, |inherited| inherited.generation);
        self.identities.resume(ids, inherited);
    }

    /// Generation of the earlier agent's image, if that is the one in force; 0 if not.
    #[must_use]
    pub(crate) fn inherited_generation(&self) -> u32 {
        self.history.inherited()
    }

    /// The earlier agent's image had the names of ours.
    pub(crate) fn same_as_inherited(&self) {
        self.history.same_as_inherited();
    }

    /// How much of the place index is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.places.usage
    }

    /// Makes `set` the policy. With `reread`, data files are read anew.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn publish(&mut self, set: PolicySet, reread: bool) -> Result<Arc<InForce>, PublicationError> {
        let cut = Cut { cidr_sets: set.cidr_sets(), overrides: set.overrides.clone() };
        let places = if reread || self.cut.as_ref() != Some(&cut) { Some(self.places(&set)?) } else { None };
        let (index, places) = match places {
            Some((index, places)) => (Some(index), places),
            None => (None, self.places.clone()),
        };

        let roll = self.identities.roll(&set.subject_paths());
        let (min_level, max_level) = self.identities.levels(&roll)?;
        let settings = Settings {
            generation: self.generation + 1,
            index_slot: self.maps.next_slot(index.is_some()),
            min_level,
            max_level,
            watched: roll.watched(),
            errno: self.knobs.errno,
            flows: self.knobs.flows,
            events_per_second: self.knobs.events_per_second,
            clock: Clock::read(),
            now: Timestamp::now(),
        };
        let mut policy = self.maps.new_policy()?;
        let manifest =
            compile(&set, &places.table, &set.groups, &roll.workloads(), &settings, policy.value())?;

        // A cgroup is known to the kernel before the policy that judges it: the policy in force does not know the
        // workload's id yet and looks further up.
        self.identities.prepare(&roll)?;
        let staged = self.maps.stage(policy, index)?;
        // Named before it is swapped in: an event of the new generation may be read at once.
        self.history.announce(InForce {
            manifest,
            set: Arc::new(set),
            policy: staged.policy.clone(),
            index: staged.index.clone(),
            ranges: Arc::clone(&places.ranges),
        });
        self.maps.swap(&staged).inspect_err(|_| self.history.withdrawn())?;
        self.generation = settings.generation;
        self.cut = Some(cut);
        self.places = places;
        let arrived = self.history.arrived().ok_or(PublicationError::Lost)?;
        if self.identities.settle(roll)? {
            self.maps.bump_epoch()?;
        }
        Ok(arrived)
    }

    fn places(&self, set: &PolicySet) -> Result<(NewIndex, Places), PublicationError> {
        let world = world(self.data.builder()?, set)?;
        let mut index = self.maps.new_index()?;
        let usage = world.fill(index.value())?;
        let table = world.table();
        let mut ranges = vec![0; table.sources.len()];
        let ids = world.ranges_v4().iter().map(|r| r.1).chain(world.ranges_v6().iter().map(|r| r.1));
        for place in ids.filter_map(|id| table.places.get(usize::from(id))) {
            if let Some(count) = ranges.get_mut(usize::from(place.source)) {
                *count += 1;
            }
        }
        Ok((index, Places { table, usage, ranges: ranges.into() }))
    }

    /// Cgroups came or went (all are looked at without paths); sockets then find their identity anew. True if one of a
    /// subject came.
    ///
    /// # Errors
    /// What could be done is done.
    pub fn follow_cgroups(&mut self, touched: &[PathBuf]) -> Result<bool, PublicationError> {
        let appeared = self.identities.follow(touched)?;
        if appeared {
            self.maps.bump_epoch()?;
        }
        Ok(appeared)
    }

    /// What is last written to the control value.
    pub(crate) fn mark(&self) -> Arc<ControlMark> {
        self.maps.mark()
    }

    /// Writes the control value again after somebody else did.
    pub(crate) fn restore_control(&mut self) -> Result<(), PublishError> {
        self.maps.restore_control()
    }

    /// What is in force.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.history.now()
    }

    /// Lets go of old generations.
    pub fn prune(&self) {
        self.history.prune();
    }
}
