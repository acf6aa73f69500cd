//! Which workload id each subject has, also after a restart.
//!
//! The kernel knows workloads by small numbers: in the identity table (cgroup id to workload id), in the policy (workload
//! id to fences) and in what sockets remember. As long as one of these holds a number, it must not come to mean another
//! path. The identity table itself says which number a cgroup has that is still there; for a subject whose cgroup is
//! gone, while a socket made in it lives on in some process, the numbers are kept in the state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupPath;
use crate::bpf::adopt::Inherited;
use crate::identity::cgroups::CgroupFs;

const NAME: &str = "workload-ids";

/// Ids by path. An id is given out once.
#[derive(Debug, Default)]
pub(crate) struct WorkloadIds {
    ids: BTreeMap<CgroupPath, u32>,
    /// Ids that somebody has: those of `ids`, and those in the kernel whose path nobody knows.
    taken: BTreeSet<u32>,
    /// Where they are kept; `None`: nowhere.
    file: Option<PathBuf>,
}

impl WorkloadIds {
    /// Ids that are kept in the state directory. With an inherited image, those that its maps hold go on; without one,
    /// nothing in the kernel remembers any.
    pub(crate) fn kept(state_dir: &Path, inherited: Option<&Inherited>, cgroups: &CgroupFs) -> Self {
        let file = state_dir.join(NAME);
        let mut ids = Self { file: Some(file.clone()), ..Self::default() };
        let Some(inherited) = inherited else { return ids };
        ids.taken.extend(&inherited.workloads);
        ids.taken.extend(inherited.identities.iter().map(|(_, id)| *id));
        // The kernel's word first: it is what verdicts are given by.
        for (cgroup, id) in &inherited.identities {
            if let Some(path) = cgroups.path_of(*cgroup).and_then(|path| CgroupPath::parse(&path).ok()) {
                ids.ids.insert(path, *id);
            }
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (id, path) in text.lines().filter_map(entry) {
            if ids.taken.contains(&id) && !ids.ids.values().any(|known| *known == id) {
                ids.ids.entry(path).or_insert(id);
            }
        }
        ids
    }

    /// The id of each path, in order; those that had none get the lowest that is free. What is new is kept before this
    /// returns: before the kernel learns it.
    pub(crate) fn number(&mut self, paths: impl IntoIterator<Item = CgroupPath>) -> Vec<(CgroupPath, u32)> {
        let mut free = 1;
        let mut new = false;
        let mut numbered = Vec::new();
        for path in paths {
            let id = match self.ids.get(&path) {
                Some(id) => *id,
                None => {
                    while self.taken.contains(&free) {
                        free += 1;
                    }
                    self.taken.insert(free);
                    self.ids.insert(path.clone(), free);
                    new = true;
                    free
                }
            };
            numbered.push((path, id));
        }
        if new {
            self.keep();
        }
        numbered
    }

    /// Paths whose id is one of these.
    pub(crate) fn paths_of<'a>(
        &'a self,
        ids: &'a BTreeSet<u32>,
    ) -> impl Iterator<Item = (CgroupPath, u32)> + 'a {
        self.ids.iter().filter(|(_, id)| ids.contains(id)).map(|(path, id)| (path.clone(), *id))
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let mut text = String::new();
        for (path, id) in &self.ids {
            text.push_str(&format!("{id} {}\n", path.as_str()));
        }
        let beside = file.with_extension("new");
        let kept = fs::write(&beside, text).and_then(|()| fs::rename(&beside, file));
        if let Err(error) = kept {
            tracing::error!(
                %error,
                file = %file.display(),
                "workload ids are not kept: after a restart, sockets of a cgroup that is gone may be nobody's"
            );
        }
    }
}

fn entry(line: &str) -> Option<(u32, CgroupPath)> {
    let (id, path) = line.split_once(' ')?;
    Some((id.parse().ok()?, CgroupPath::parse(path).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{NAME, WorkloadIds};
    use crate::bpf::adopt::Inherited;
    use crate::identity::cgroups::CgroupFs;
    use crate::policy::CgroupPath;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    fn inherited(identities: &[(u64, u32)], workloads: &[u32]) -> Inherited {
        let workloads: BTreeSet<u32> = workloads.iter().copied().collect();
        Inherited { generation: 7, slot: 1, identities: identities.to_vec(), workloads }
    }

    #[test]
    fn a_subject_whose_cgroup_is_gone_has_its_id_back_and_nobody_else_gets_it() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut first = WorkloadIds::kept(dir.path(), None, &cgroups);
        let given = first.number([path("/a"), path("/b")]);
        assert_eq!(given, [(path("/a"), 1), (path("/b"), 2)]);

        // 900001 is no cgroup's id: gone. Id 9 is in the policy, of a path that nobody knows.
        let mut second = WorkloadIds::kept(dir.path(), Some(&inherited(&[(900_001, 2)], &[2, 9])), &cgroups);
        let given = second.number([path("/c"), path("/b"), path("/a")]);
        assert_eq!(given, [(path("/c"), 1), (path("/b"), 2), (path("/a"), 3)], "1 is in no map: it is free");
        let all: Vec<_> =
            second.number((0..8).map(|i| path(&format!("/d{i}")))).iter().map(|d| d.1).collect();
        assert_eq!(all, [4, 5, 6, 7, 8, 10, 11, 12]);
    }

    #[test]
    fn a_file_of_nonsense_gives_nobody_an_id() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "x /a\n1\n2 relative\n\u{0}\n4294967296 /b\n1 /a\n1 /b\n")
            .unwrap();
        let mut ids = WorkloadIds::kept(dir.path(), Some(&inherited(&[(900_001, 1)], &[])), &cgroups);
        assert_eq!(ids.number([path("/b"), path("/a")]), [(path("/b"), 2), (path("/a"), 1)]);
    }
}
