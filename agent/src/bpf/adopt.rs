//! What an earlier agent left in force, and how this one takes it over.
//!
//! Maps of this build's layout ([`SCHEMA`]) that hold a whole image are used as they are: the secrets and the epoch stay,
//! sockets keep their state, rings what nobody has read, and the first image of this agent goes in with one pointer.
//! Maps of another layout, or incomplete ones, are left alone until every link runs our programs, which use maps of
//! their own; then their pins go. Either way some image is in force at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use agent_common::birth::PathKey;
use agent_common::control::Control;
use agent_common::image::{Policy, WORKLOAD_PRESENT};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use thiserror::Error;

use super::image::PublishedPolicy;
use super::pin::{PinDirectory, PinError, SCHEMA, entries, forget, make, name, remove_all, step};
use super::sys::{self, MapValue, Mapped};
use crate::policy::CgroupPath;

/// Pins of policy maps begin so; the generation follows.
const POLICY: &str = "policy-";
/// aya-log's own map: debug lines, of no use to another agent.
const LOG: &str = "AYA_LOGS";

/// An image that was in force before this agent, in maps that this agent goes on using.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Generation of its policy.
    pub generation: u32,
    /// The slot of its place index.
    pub slot: u32,
    /// The identity table: cgroup id, workload id (0: of no subject).
    pub identities: Vec<(u64, u32)>,
    /// Watched cgroups: cgroup id, workload id of strangers right below.
    pub strangers: Vec<(u64, u32)>,
    /// Subjects' paths that the kernel was told, with their workload ids.
    pub paths: Vec<(CgroupPath, u32)>,
    /// Workload ids that its policy knows.
    pub workloads: BTreeSet<u32>,
}

/// Why maps of our own layout can't be taken over.
#[derive(Debug, Error)]
enum Unusable {
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    #[error("{0}: {1}")]
    Map(&'static str, MapError),
    #[error("no image is in force in them")]
    NoImage,
    #[error("the policy in force is not pinned")]
    NoPolicy,
    #[error("the secrets were never written")]
    NoKey,
    #[error("{0}")]
    Pin(#[from] PinError),
}

/// The maps of our layout, if they hold an image.
///
/// # Errors
/// The pin directory can't be read.
pub(crate) fn look(pins: &PinDirectory) -> Result<Option<Inherited>, PinError> {
    let maps = pins.maps();
    if entries(&maps)?.is_empty() {
        return Ok(None);
    }
    match inherit(&maps) {
        Ok(inherited) => Ok(Some(inherited)),
        Err(why) => {
            tracing::warn!(maps = %maps.display(), %why, "pinned maps can't be taken over: making new ones");
            Ok(None)
        }
    }
}

fn inherit(maps: &Path) -> Result<Inherited, Unusable> {
    let control: Array<MapData, Control> =
        open(maps, "CONTROL")?.try_into().map_err(|e| Unusable::Map("CONTROL", e))?;
    if control.get(&0, 0).map_err(|e| Unusable::Map("CONTROL", e))?.key == [0, 0] {
        return Err(Unusable::NoKey);
    }
    let paths = table::<PathKey>(maps, "PATHS")?.into_iter().filter_map(|(key, id)| {
        let path = CgroupPath::parse(key.path()?).ok()?;
        Some((path, id))
    });
    let policy = policy_in_force(maps)?;
    let present = |(_, slot): &(u32, &u32)| **slot & WORKLOAD_PRESENT != 0;
    let workloads = (0..).zip(&policy.workloads).filter(present).map(|(id, _)| id).collect();
    Ok(Inherited {
        generation: policy.head.generation,
        slot: policy.head.index_slot,
        identities: table(maps, "IDENTITY")?,
        strangers: table(maps, "STRANGERS")?,
        paths: paths.collect(),
        workloads,
    })
}

/// A table of workload ids.
fn table<K: Pod>(maps: &Path, name: &'static str) -> Result<Vec<(K, u32)>, Unusable> {
    let map: HashMap<MapData, K, u32> = open(maps, name)?.try_into().map_err(|e| Unusable::Map(name, e))?;
    map.iter().collect::<Result<_, _>>().map_err(|e| Unusable::Map(name, e))
}

fn open(maps: &Path, name: &'static str) -> Result<Map, Unusable> {
    let data = MapData::from_pin(maps.join(name)).map_err(|e| Unusable::Map(name, e))?;
    Map::from_map_data(data).map_err(|e| Unusable::Map(name, e))
}

/// The policy map that slot 0 of `POLICIES` holds, by its own pin: to open it by its id takes CAP_SYS_ADMIN.
fn policy_in_force(maps: &Path) -> Result<Mapped<Policy>, Unusable> {
    let outer = sys::open_pin(&maps.join("POLICIES")).map_err(|e| Unusable::Io("POLICIES", e))?;
    let id = sys::inner_id(outer.as_fd(), 0).map_err(|e| Unusable::Io("POLICIES", e))?;
    let id = id.ok_or(Unusable::NoImage)?;
    for path in policy_pins(maps)? {
        let fd = sys::open_pin(&path).map_err(|e| Unusable::Io("policy", e))?;
        let info = sys::map_info(fd.as_fd()).map_err(|e| Unusable::Io("policy", e))?;
        if info.id == id && info.value_size as usize == size_of::<Policy>() {
            return Mapped::map(fd).map_err(|e| Unusable::Io("policy", e));
        }
    }
    Err(Unusable::NoPolicy)
}

/// Whether a pin of the maps' directory is that of a policy in force.
pub(super) fn is_policy(path: &Path) -> bool {
    name(path).starts_with(POLICY)
}

fn policy_pins(maps: &Path) -> Result<Vec<PathBuf>, PinError> {
    let mut pins = entries(maps)?;
    pins.retain(|path| is_policy(path));
    Ok(pins)
}

/// The pinned maps of our layout, by name: what the loader is told to use.
pub(crate) fn pinned_maps(pins: &PinDirectory) -> Result<BTreeMap<String, PathBuf>, PinError> {
    let files = entries(&pins.maps())?.into_iter().map(|path| (name(&path), path));
    Ok(files.filter(|(name, _)| !name.starts_with(POLICY)).collect())
}

/// Pins the maps of a loaded object. What lies there of an unusable set goes first; programs that use it hold it.
pub(crate) fn keep_new_maps(pins: &PinDirectory, ebpf: &Ebpf) -> Result<(), PinError> {
    let directory = pins.maps();
    remove_all(&directory)?;
    make(&directory)?;
    for (map, data) in ebpf.maps() {
        // `.rodata` and the like are part of a program, not state.
        if map == LOG || map.starts_with('.') {
            continue;
        }
        let path = directory.join(map);
        data.pin(&path).map_err(|error| step("pinning", &path)(io::Error::other(error)))?;
    }
    Ok(())
}

/// Removes the pins of maps that our layout can't use, once no link runs a program that does.
pub(crate) fn forget_other_maps(pins: &PinDirectory) -> Result<(), PinError> {
    for directory in pins.other_maps()? {
        let maps = remove_all(&directory)?;
        tracing::info!(maps, schema = SCHEMA, directory = %directory.display(), "maps of another layout are no longer needed");
    }
    Ok(())
}

/// The pin of the policy map in force, so that the next agent can read what it inherits.
#[derive(Debug)]
pub(crate) struct PolicyPin {
    maps: PathBuf,
}

impl PolicyPin {
    pub(crate) fn new(pins: &PinDirectory) -> Self {
        Self { maps: pins.maps() }
    }

    /// Pins a policy map that is about to be swapped in.
    pub(super) fn coming(&self, generation: u32, policy: &Mapped<Policy>) -> Result<(), PinError> {
        let path = self.at(generation);
        forget(&path)?;
        sys::pin(policy.as_fd(), &path).map_err(step("pinning", &path))
    }

    /// Whether this policy is pinned under its generation.
    pub(super) fn holds(&self, policy: &PublishedPolicy) -> bool {
        let pinned = sys::open_pin(&self.at(policy.generation())).and_then(|fd| sys::map_info(fd.as_fd()));
        matches!((pinned, policy.id()), (Ok(pinned), Ok(ours)) if pinned.id == ours)
    }

    /// Pins it again.
    pub(super) fn again(&self, policy: &PublishedPolicy) -> Result<(), PinError> {
        self.coming(policy.generation(), policy.mapped())
    }

    /// Removes the pins of all others.
    pub(super) fn arrived(&self, generation: u32) -> Result<(), PinError> {
        let now = self.at(generation);
        for path in policy_pins(&self.maps)? {
            if path != now {
                forget(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the pin of a policy that was not swapped in.
    pub(super) fn withdrawn(&self, generation: u32) -> Result<(), PinError> {
        forget(&self.at(generation)).map(|_| ())
    }

    fn at(&self, generation: u32) -> PathBuf {
        self.maps.join(format!("{POLICY}{generation}"))
    }
}

/// A mapped value opened from a pin, or made and pinned; true if it was there.
pub(super) fn open_or_make<T: MapValue>(path: &Path) -> Result<(Mapped<T>, bool), PinError> {
    if let Ok(fd) = sys::open_pin(path) {
        let info = sys::map_info(fd.as_fd()).map_err(step("looking at", path))?;
        if info.value_size as usize == size_of::<T>() {
            return Ok((Mapped::map(fd).map_err(step("mapping", path))?, true));
        }
        forget(path)?;
    }
    let made = Mapped::<T>::create().map_err(step("making the map for", path))?;
    sys::pin(made.as_fd(), path).map_err(step("pinning", path))?;
    Ok((made, false))
}
