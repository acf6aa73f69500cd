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

/// What a path has an id for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The subject that lies there.
    Subject,
    /// Strangers below it ([`identify`](super::identify)).
    Strangers,
}

/// Ids by path. An id is given out once, whatever for.
#[derive(Debug, Default)]
pub(crate) struct WorkloadIds {
    subjects: BTreeMap<CgroupPath, u32>,
    strangers: BTreeMap<CgroupPath, u32>,
    /// Ids that somebody has: those above, and those in the kernel whose path nobody knows.
    taken: BTreeSet<u32>,
    /// Below this every id is taken.
    free: u32,
    /// Something is not in the file yet.
    new: bool,
    /// Where they are kept; `None`: nowhere.
    file: Option<PathBuf>,
}

impl WorkloadIds {
    /// Ids that are kept in the state directory. With an inherited image, those that its maps hold go on; without one,
    /// nothing in the kernel remembers any.
    pub(crate) fn kept(state_dir: &Path, inherited: Option<&Inherited>, cgroups: &CgroupFs) -> Self {
        let file = state_dir.join(NAME);
        let mut ids = Self { file: Some(file.clone()), free: 1, ..Self::default() };
        let Some(inherited) = inherited else { return ids };
        // 0 is in the identity table too: known, and nobody's.
        let identities = || inherited.identities.iter().filter(|(_, id)| *id != 0);
        ids.taken.extend(&inherited.workloads);
        ids.taken.extend(identities().map(|(_, id)| *id));
        // The kernel's word first: it is what verdicts are given by.
        let mut known = BTreeSet::new();
        for (cgroup, id) in identities() {
            if let Some(path) = cgroups.path_of(*cgroup).and_then(|path| CgroupPath::parse(&path).ok()) {
                ids.subjects.insert(path, *id);
                known.insert(*id);
            }
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (role, id, path) in text.lines().filter_map(entry) {
            if ids.taken.contains(&id) && known.insert(id) {
                ids.of(role).entry(path).or_insert(id);
            }
        }
        ids
    }

    fn of(&mut self, role: Role) -> &mut BTreeMap<CgroupPath, u32> {
        match role {
            Role::Subject => &mut self.subjects,
            Role::Strangers => &mut self.strangers,
        }
    }

    /// The id of a path; if it had none, the lowest that is free. Before the kernel learns a new one, [`keep`](Self::keep).
    pub(crate) fn number(&mut self, role: Role, path: &CgroupPath) -> u32 {
        if let Some(id) = self.of(role).get(path) {
            return *id;
        }
        self.free = self.free.max(1);
        while !self.taken.insert(self.free) {
            self.free += 1;
        }
        let id = self.free;
        self.of(role).insert(path.clone(), id);
        self.new = true;
        id
    }

    /// The id of a subject that has one.
    pub(crate) fn subject(&self, path: &CgroupPath) -> Option<u32> {
        self.subjects.get(path).copied()
    }

    /// Subjects whose id is one of these.
    pub(crate) fn subjects_of(&self, ids: &BTreeSet<u32>) -> BTreeMap<CgroupPath, u32> {
        let found = self.subjects.iter().filter(|(_, id)| ids.contains(id));
        found.map(|(path, id)| (path.clone(), *id)).collect()
    }

    /// Keeps what is new for the agent after this one.
    pub(crate) fn keep(&mut self) {
        let Some(file) = &self.file else { return };
        if !std::mem::take(&mut self.new) {
            return;
        }
        let mut text = String::new();
        for (mark, of) in [("", &self.subjects), (STRANGERS, &self.strangers)] {
            for (path, id) in of {
                text.push_str(&format!("{id}{mark} {}\n", path.as_str()));
            }
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

/// Marks the id of strangers in the file.
const STRANGERS: &str = "*";

fn entry(line: &str) -> Option<(Role, u32, CgroupPath)> {
    let (id, path) = line.split_once(' ')?;
    let (role, id) = match id.strip_suffix(STRANGERS) {
        Some(id) => (Role::Strangers, id),
        None => (Role::Subject, id),
    };
    Some((role, id.parse().ok()?, CgroupPath::parse(path).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Role::{Strangers, Subject};
    use super::{NAME, Role, WorkloadIds};
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

    fn given(ids: &mut WorkloadIds, asked: &[(Role, &str)]) -> Vec<u32> {
        let given = asked.iter().map(|(role, text)| ids.number(*role, &path(text))).collect();
        ids.keep();
        given
    }

    #[test]
    fn a_subject_whose_cgroup_is_gone_has_its_id_back_and_nobody_else_gets_it() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut first = WorkloadIds::kept(dir.path(), None, &cgroups);
        assert_eq!(given(&mut first, &[(Subject, "/a"), (Subject, "/b"), (Strangers, "/a")]), [1, 2, 3]);

        // 900001 is no cgroup's id: gone. Id 9 is in the policy, of a path that nobody knows.
        let left = inherited(&[(900_001, 2), (900_002, 0)], &[2, 3, 9]);
        let mut second = WorkloadIds::kept(dir.path(), Some(&left), &cgroups);
        let asked = [(Subject, "/c"), (Subject, "/b"), (Strangers, "/a"), (Subject, "/a")];
        assert_eq!(given(&mut second, &asked), [1, 2, 3, 4], "1 is in no map: it is free");
        let all: Vec<u32> = (0..6).map(|i| second.number(Subject, &path(&format!("/d{i}")))).collect();
        assert_eq!(all, [5, 6, 7, 8, 10, 11]);
    }

    #[test]
    fn a_file_of_nonsense_gives_nobody_an_id() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(NAME),
            "x /a\n1\n2 relative\n\u{0}\n4294967296 /b\n1 /a\n1 /b\n1* /c\n",
        )
        .unwrap();
        let mut ids = WorkloadIds::kept(dir.path(), Some(&inherited(&[(900_001, 1)], &[])), &cgroups);
        assert_eq!(given(&mut ids, &[(Subject, "/b"), (Subject, "/a"), (Strangers, "/c")]), [2, 1, 3]);
    }
}
