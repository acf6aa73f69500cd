//! Which of many subjects match a cgroup: by walking up from the cgroup, not by asking each subject. A node may have
//! thousands of workloads and thousands of paths in its fences.

use std::collections::{BTreeSet, HashMap};

use super::cgroup_path::CgroupPath;
use super::schema::Subject;

/// Subjects by the cgroup that they name. Pods are not in it: they are matched by identity, not by path.
#[derive(Debug, Default)]
pub(crate) struct SubjectIndex {
    /// `{all: true}`.
    all: BTreeSet<usize>,
    by_path: HashMap<CgroupPath, BTreeSet<usize>>,
}

impl SubjectIndex {
    /// Enters the subjects of one owner: a fence or an exception, by its number.
    pub(crate) fn add<'a>(&mut self, owner: usize, subjects: impl IntoIterator<Item = &'a Subject>) {
        for subject in subjects {
            match subject {
                Subject::All => {
                    self.all.insert(owner);
                }
                Subject::Cgroups(paths) => {
                    for path in paths {
                        self.by_path.entry(path.value.clone()).or_default().insert(owner);
                    }
                }
                Subject::Pods(_) => {}
            }
        }
    }

    /// The owners whose subjects hold a cgroup, by number.
    pub(crate) fn holding(&self, cgroup: &CgroupPath) -> BTreeSet<usize> {
        let above = cgroup.and_above().filter_map(|path| self.by_path.get(&path));
        above.flatten().chain(&self.all).copied().collect()
    }

    /// The owners with a subject below a cgroup, by number.
    pub(crate) fn below(&self, cgroup: &CgroupPath) -> BTreeSet<usize> {
        let below = self.by_path.iter().filter(|(path, _)| *path != cgroup && cgroup.holds(path));
        below.flat_map(|(_, owners)| owners).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::SubjectIndex;
    use crate::policy::cgroup_path::CgroupPath;
    use crate::policy::finding::{At, Spanned};
    use crate::policy::schema::{PodSubject, Subject};

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    #[test]
    fn a_cgroup_has_the_subjects_that_name_it_or_something_above_it() {
        let cgroups = |text| Subject::Cgroups(vec![Spanned { value: path(text), at: At::default() }]);
        let mut index = SubjectIndex::default();
        index.add(0, &[cgroups("/a")]);
        index.add(1, &[cgroups("/a/b"), cgroups("/d")]);
        index.add(2, &[Subject::All]);
        index.add(3, &[Subject::Pods(PodSubject::default())]);
        for (cgroup, owners) in [
            ("/a", vec![0, 2]),
            ("/a/b/c", vec![0, 1, 2]),
            ("/ab", vec![2]),
            ("/d", vec![1, 2]),
            ("/", vec![2]),
        ] {
            assert_eq!(index.holding(&path(cgroup)).into_iter().collect::<Vec<_>>(), owners, "{cgroup}");
        }
    }
}
