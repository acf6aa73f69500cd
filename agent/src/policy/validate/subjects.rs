//! Subjects held against the node: what matches nothing, and what would have too many fences.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::limits::{FENCES_PER_SET, MAX_WORKLOADS};

use super::{Context, Documents};
use crate::policy::cgroup_path::CgroupPath;
use crate::policy::finding::{At, Findings, Spanned};
use crate::policy::schema::Subject;
use crate::policy::subject_index::SubjectIndex;

pub(super) fn check(documents: &Documents, context: Context<'_>, findings: &mut Findings) {
    let fences = documents.fences.iter().flat_map(|fence| &fence.subjects);
    let exceptions = documents.exceptions.iter().flat_map(|exception| &exception.subjects);
    for subject in fences.chain(exceptions) {
        matches_something(subject, context.cgroups, findings);
    }
    crowded(documents, findings);
}

fn matches_something(
    subject: &Spanned<Subject>,
    existing: Option<&BTreeSet<CgroupPath>>,
    findings: &mut Findings,
) {
    match &subject.value {
        Subject::All => {}
        Subject::Pods(_) => {
            let message = "this build finds no pods: the subject matches no workload of a plain host";
            findings.warn(
                subject.at,
                message,
                "name the workload's cgroup: {cgroups: [\"/system.slice/...\"]}",
            );
        }
        Subject::Cgroups(paths) => {
            let Some(existing) = existing else { return };
            let gone = |path: &&Spanned<CgroupPath>| {
                path.value != CgroupPath::root() && !existing.contains(&path.value)
            };
            for path in paths.iter().filter(gone) {
                let message =
                    format!("there is no cgroup {} now: the subject matches nothing yet", path.value);
                findings.warn(
                    path.at,
                    message,
                    "check the path below the cgroup2 mount (systemd-cgls, or find)",
                );
            }
        }
    }
}

/// The cgroups that a list of subjects names; `/` for `{all: true}`.
fn named<'a>(subjects: impl Iterator<Item = &'a Spanned<Subject>>) -> BTreeMap<CgroupPath, At> {
    let mut paths = BTreeMap::new();
    for subject in subjects {
        match &subject.value {
            Subject::All => {
                paths.entry(CgroupPath::root()).or_insert(subject.at);
            }
            Subject::Cgroups(list) => {
                for path in list {
                    paths.entry(path.value.clone()).or_insert(path.at);
                }
            }
            Subject::Pods(_) => {}
        }
    }
    paths
}

/// Each cgroup that a fence names, with the fences that stand around it; and how many there are together.
fn crowded(documents: &Documents, findings: &mut Findings) {
    let mut index = SubjectIndex::default();
    for (at, fence) in documents.fences.iter().enumerate() {
        index.add(at, fence.subjects.iter().map(|s| &s.value));
    }
    let fences = documents.fences.iter().flat_map(|fence| &fence.subjects);
    let exceptions = documents.exceptions.iter().flat_map(|exception| &exception.subjects);
    for (path, at) in named(fences.clone()) {
        let count = index.holding(&path).len();
        if count > FENCES_PER_SET {
            let message = format!("{count} fences stand around {path}, and at most {FENCES_PER_SET} can");
            findings.warn(at, message, "join fences or narrow their subjects: an agent would refuse this");
        }
    }
    let all = named(fences.chain(exceptions));
    if all.len() > MAX_WORKLOADS
        && let Some(at) = all.values().max()
    {
        let message = format!("subjects name {} cgroups, and a node holds {MAX_WORKLOADS}", all.len());
        findings.error(*at, message, "name the cgroups above them: a subject holds everything below it");
    }
}

/// Whether some workload could be in both lists of subjects.
pub(super) fn overlap(a: &[Spanned<Subject>], b: &[Spanned<Subject>]) -> bool {
    // Which pods a selector finds is not known here.
    let pods = |list: &[Spanned<Subject>]| list.iter().any(|s| matches!(s.value, Subject::Pods(_)));
    if pods(a) || pods(b) {
        return true;
    }
    let (a, b) = (named(a.iter()), named(b.iter()));
    let below = |inner: &BTreeMap<CgroupPath, At>, outer: &BTreeMap<CgroupPath, At>| {
        inner.keys().any(|path| path.and_above().any(|above| outer.contains_key(&above)))
    };
    below(&a, &b) || below(&b, &a)
}
