//! Which workload id each subject has, also after a restart.
//!
//! The kernel knows workloads by small numbers: in the identity tables (cgroup id to workload id), in the policy (workload
//! id to fences) and in what sockets remember. As long as one of these holds a number, it must not come to mean another
//! path. The tables themselves say which number a path has that the kernel was told, and which a cgroup has that is still
//! there; for a subject whose cgroup is gone, while a socket made in it lives on in some process, the numbers are kept in
//! the state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupPath;
use crate::bpf::adopt::Inherited;
use crate::identity::cgroups::CgroupFs;

const NAME: &str = "workload-ids";

/// What a number stands for: a path may have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The subject at the path.
    Subject,
    /// Cgroups right below the path that nobody has classified yet.
    Stranger,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Stranger => "stranger",
        }
    }
}

/// Ids by path. An id is given out once.
#[derive(Debug)]
pub(crate) struct WorkloadIds {
    ids: BTreeMap<(CgroupPath, Role), u32>,
    /// Ids that somebody has: those of `ids`, and those in the kernel whose path nobody knows.
    taken: BTreeSet<u32>,
    /// No id below this one is free.
    free: u32,
    /// Some are not kept yet.
    new: bool,
    /// Where they are kept; `None`: nowhere.
    file: Option<PathBuf>,
}

impl Default for WorkloadIds {
    fn default() -> Self {
        // 0 is nobody's.
        Self { ids: BTreeMap::new(), taken: BTreeSet::new(), free: 1, new: false, file: None }
    }
}

impl WorkloadIds {
    /// Ids that are kept in the state directory. With an inherited image, those that its maps hold go on; without one,
    /// nothing in the kernel remembers any.
    pub(crate) fn kept(state_dir: &Path, inherited: Option<&Inherited>, cgroups: &CgroupFs) -> Self {
        let file = state_dir.join(NAME);
        let mut ids = Self { file: Some(file.clone()), ..Self::default() };
        let Some(inherited) = inherited else { return ids };
        let in_tables = inherited.identities.iter().chain(&inherited.strangers).map(|(_, id)| *id);
        let in_paths = inherited.paths.iter().map(|(_, id)| *id);
        ids.taken = in_tables.chain(in_paths).chain(inherited.workloads.iter().copied()).collect();
        ids.taken.remove(&0);

        // The kernel's word first: it is what verdicts are given by.
        let live = |cgroup: u64| CgroupPath::parse(&cgroups.path_of(cgroup)?).ok();
        for (path, id) in &inherited.paths {
            ids.learn(path.clone(), Role::Subject, *id);
        }
        for (cgroup, id) in inherited.identities.iter().filter(|(_, id)| *id != 0) {
            if let Some(path) = live(*cgroup) {
                ids.learn(path, Role::Subject, *id);
            }
        }
        for (cgroup, id) in &inherited.strangers {
            if let Some(path) = live(*cgroup) {
                ids.learn(path, Role::Stranger, *id);
            }
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (id, role, path) in text.lines().filter_map(entry) {
            if ids.taken.contains(&id) {
                ids.learn(path, role, id);
            }
        }
        ids
    }

    /// What somebody says of a path; who spoke before is right.
    fn learn(&mut self, path: CgroupPath, role: Role, id: u32) {
        if !self.ids.values().any(|known| *known == id) {
            self.ids.entry((path, role)).or_insert(id);
        }
    }

    /// The id of a path; one that has none gets the lowest that is free. [`keep`](Self::keep) before the kernel learns it.
    pub(crate) fn number(&mut self, path: &CgroupPath, role: Role) -> u32 {
        if let Some(id) = self.get(path, role) {
            return id;
        }
        while self.taken.contains(&self.free) {
            self.free = self.free.saturating_add(1);
        }
        self.taken.insert(self.free);
        self.ids.insert((path.clone(), role), self.free);
        self.new = true;
        self.free
    }

    /// The id of a path, if it has one.
    pub(crate) fn get(&self, path: &CgroupPath, role: Role) -> Option<u32> {
        self.ids.get(&(path.clone(), role)).copied()
    }

    /// Paths whose id in this role is one of these.
    pub(crate) fn among<'a>(
        &'a self,
        role: Role,
        these: &'a BTreeSet<u32>,
    ) -> impl Iterator<Item = (CgroupPath, u32)> + 'a {
        let found = self.ids.iter().filter(move |((_, r), id)| *r == role && these.contains(id));
        found.map(|((path, _), id)| (path.clone(), *id))
    }

    /// Keeps what is new, for the agent after this one.
    pub(crate) fn keep(&mut self) {
        if !std::mem::take(&mut self.new) {
            return;
        }
        let Some(file) = &self.file else { return };
        let mut text = String::new();
        for ((path, role), id) in &self.ids {
            // Writing to a String can't fail.
            _ = writeln!(text, "{id} {} {}", role.word(), path.as_str());
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

fn entry(line: &str) -> Option<(u32, Role, CgroupPath)> {
    let (id, rest) = line.split_once(' ')?;
    let (word, path) = rest.split_once(' ')?;
    let role = [Role::Subject, Role::Stranger].into_iter().find(|role| role.word() == word)?;
    Some((id.parse().ok()?, role, CgroupPath::parse(path).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{NAME, Role, WorkloadIds};
    use crate::bpf::adopt::Inherited;
    use crate::identity::cgroups::CgroupFs;
    use crate::policy::CgroupPath;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    fn inherited(identities: &[(u64, u32)], workloads: &[u32]) -> Inherited {
        let workloads: BTreeSet<u32> = workloads.iter().copied().collect();
        let identities = identities.to_vec();
        Inherited { generation: 7, slot: 1, identities, strangers: Vec::new(), paths: Vec::new(), workloads }
    }

    fn subjects(ids: &mut WorkloadIds, paths: &[&str]) -> Vec<u32> {
        let given = paths.iter().map(|text| ids.number(&path(text), Role::Subject)).collect();
        ids.keep();
        given
    }

    #[test]
    fn a_subject_whose_cgroup_is_gone_has_its_id_back_and_nobody_else_gets_it() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP policy::ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut first = WorkloadIds::kept(dir.path(), None, &cgroups);
        assert_eq!(subjects(&mut first, &["/a", "/b"]), [1, 2]);

        // 900001 is no cgroup's id: gone. Id 9 is in the policy, of a path that nobody knows; 0 is nobody's.
        let left = inherited(&[(900_001, 2), (900_002, 0)], &[2, 9]);
        let mut second = WorkloadIds::kept(dir.path(), Some(&left), &cgroups);
        // 1 is in no map: it is free.
        assert_eq!(subjects(&mut second, &["/c", "/b", "/a"]), [1, 2, 3]);
        assert_eq!(second.number(&path("/b"), Role::Stranger), 4);
        let more: Vec<String> = (0..6).map(|i| format!("/d{i}")).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        assert_eq!(subjects(&mut second, &more), [5, 6, 7, 8, 10, 11]);
    }

    #[test]
    fn what_the_kernel_says_of_a_path_is_above_what_the_file_says() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP policy::ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "1 subject /a\n2 subject /b\n").unwrap();
        let left = Inherited { paths: vec![(path("/b"), 1)], ..inherited(&[(900_001, 2)], &[1, 2]) };
        let mut ids = WorkloadIds::kept(dir.path(), Some(&left), &cgroups);
        assert_eq!(subjects(&mut ids, &["/a", "/b"]), [3, 1]);
    }

    #[test]
    fn a_file_of_nonsense_gives_nobody_an_id() {
        let Ok((cgroups, _)) = CgroupFs::find(None) else {
            println!("SKIP policy::ids: no cgroup2 here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let text = "x subject /a\n1\n1 /a\n2 subject relative\n\u{0}\n4294967296 subject /b\n1 subject /a\n1 subject /b\n";
        std::fs::write(dir.path().join(NAME), text).unwrap();
        let mut ids = WorkloadIds::kept(dir.path(), Some(&inherited(&[(900_001, 1)], &[])), &cgroups);
        assert_eq!(subjects(&mut ids, &["/b", "/a"]), [2, 1]);
    }
}
