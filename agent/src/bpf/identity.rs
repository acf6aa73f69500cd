//! The identity tables in the kernel: which cgroup is which workload.
//!
//! `IDENTITY` outlives generations; the kernel programs at `cgroup_mkdir` and `cgroup_release` write it too.

use agent_common::birth::PathKey;
use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};

use super::image::{PublishError, map, take};
use super::load::LoadError;

/// The tables.
pub struct IdentityMaps {
    identity: HashMap<MapData, u64, u32>,
    strangers: HashMap<MapData, u64, u32>,
    paths: HashMap<MapData, PathKey, u32>,
}

impl IdentityMaps {
    /// Takes the maps out of a loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            identity: take(ebpf, "IDENTITY")?,
            strangers: take(ebpf, "STRANGERS")?,
            paths: take(ebpf, "PATHS")?,
        })
    }

    /// What is entered for a cgroup.
    pub(crate) fn identity(&self, cgroup: u64) -> Result<Option<u32>, PublishError> {
        found(self.identity.get(&cgroup, 0)).map_err(map("read the identity table"))
    }

    /// A cgroup belongs to a workload from now on (0: to none); sockets that are already open notice at the next epoch.
    pub(crate) fn identify(&mut self, cgroup: u64, workload: u32) -> Result<(), PublishError> {
        self.identity.insert(cgroup, workload, 0).map_err(map("add a cgroup to the identity table"))
    }

    /// A cgroup has been gone for so long that its place in the tables is needed.
    pub(crate) fn forget(&mut self, cgroup: u64) -> Result<(), PublishError> {
        found(self.strangers.remove(&cgroup)).map_err(map("stop watching a cgroup"))?;
        found(self.identity.remove(&cgroup))
            .map(|_| ())
            .map_err(map("remove a cgroup from the identity table"))
    }

    /// All cgroups of the identity table, and all that are watched.
    pub(crate) fn cgroups(&self) -> Result<Vec<u64>, PublishError> {
        let keys = self.identity.keys().chain(self.strangers.keys());
        keys.collect::<Result<_, _>>().map_err(map("list the identity table"))
    }

    /// Children of this cgroup that are not in the identity table belong to this workload.
    pub(crate) fn watch(&mut self, cgroup: u64, workload: u32) -> Result<(), PublishError> {
        self.strangers.insert(cgroup, workload, 0).map_err(map("watch a cgroup"))
    }

    /// A cgroup that is born at this path belongs to a workload.
    pub(crate) fn expect(&mut self, path: &PathKey, workload: u32) -> Result<(), PublishError> {
        self.paths.insert(path, workload, 0).map_err(map("tell the kernel a subject's path"))
    }

    /// The same no longer.
    pub(crate) fn unexpect(&mut self, path: &PathKey) -> Result<(), PublishError> {
        found(self.paths.remove(path)).map(|_| ()).map_err(map("take back a subject's path"))
    }
}

fn found<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
