//! Who lives where: the processes of fenced workloads, and the network namespaces that they are in.
//!
//! A namespace is told from another by the inode of `/proc/<pid>/net/dev`: each namespace has its own file there, and
//! looking at it takes no privilege (`/proc/<pid>/ns/net` takes CAP_SYS_PTRACE).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::identity::cgroups::CgroupFs;
use crate::policy::CgroupPath;

/// A network namespace, as this kernel's `/proc` tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Netns(pub(super) u64);

impl Netns {
    /// The agent's own: the host's, where it runs on the host's network.
    pub(super) fn own() -> io::Result<Self> {
        fs::metadata("/proc/thread-self/net/dev").map(|m| Self(m.ino()))
    }

    /// A process's; `None` if it is gone.
    fn of(pid: u32) -> Option<Self> {
        fs::metadata(format!("/proc/{pid}/net/dev")).ok().map(|m| Self(m.ino()))
    }
}

/// A workload that some fence matches, or another subject inside one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// Its id.
    pub(super) id: u32,
    /// Its cgroup.
    pub(super) path: CgroupPath,
    /// Whether any fence matches it.
    pub(super) is_fenced: bool,
}

/// Who lives where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// For each namespace of a fenced workload, the workloads that live there, each with one of its processes.
    pub(super) tenants: BTreeMap<Netns, BTreeMap<u32, u32>>,
    /// For each of them, a process of no subject that is there too.
    pub(super) strangers: BTreeMap<Netns, u32>,
    /// Workloads with processes that can't be seen from here.
    pub(super) hidden: BTreeSet<u32>,
}

/// Counts the fenced workloads' processes; strangers are looked for in all namespaces but `ours`.
pub(super) fn take(cgroups: &CgroupFs, subjects: &[Subject], ours: Netns) -> Census {
    let mut census = Census::default();
    let mut members = HashSet::new();
    let borders: HashSet<PathBuf> = subjects.iter().map(|s| cgroups.directory(&s.path)).collect();
    for subject in subjects {
        each_process(&cgroups.directory(&subject.path), &borders, &mut |pid| {
            if pid == 0 {
                census.hidden.insert(subject.id);
                return;
            }
            let Some(netns) = Netns::of(pid) else { return };
            members.insert(pid);
            census.tenants.entry(netns).or_default().entry(subject.id).or_insert(pid);
        });
    }
    let fenced: HashSet<u32> = subjects.iter().filter(|s| s.is_fenced).map(|s| s.id).collect();
    census.tenants.retain(|_, tenants| tenants.keys().any(|id| fenced.contains(id)));
    census.hidden.retain(|id| fenced.contains(id));
    if census.tenants.keys().any(|netns| *netns != ours) {
        for pid in processes().filter(|pid| !members.contains(pid)) {
            if let Some(netns) = Netns::of(pid).filter(|n| *n != ours && census.tenants.contains_key(n)) {
                census.strangers.entry(netns).or_insert(pid);
            }
        }
    }
    census
}

/// The processes of a cgroup and all below it, but for cgroups that are subjects themselves. 0 stands for one in another
/// PID namespace.
fn each_process(cgroup: &Path, borders: &HashSet<PathBuf>, see: &mut impl FnMut(u32)) {
    let mut todo = vec![cgroup.to_owned()];
    while let Some(directory) = todo.pop() {
        // What vanishes meanwhile has no processes.
        let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).for_each(&mut *see);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let below = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
        todo.extend(below.filter(|path| !borders.contains(path)));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}
