//! Subjects held against the node: what matches nothing, and what would have too many fences.

use std::collections::BTreeSet;

use agent_common::limits::FENCES_PER_SET;

use super::{Context, Documents};
use crate::policy::cgroup_path::CgroupPath;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::{GeoFence, Subject};

pub(super) fn check(documents: &Documents, context: Context<'_>, findings: &mut Findings) {
    let fences = documents.fences.iter().flat_map(|fence| &fence.subjects);
    let exceptions = documents.exceptions.iter().flat_map(|exception| &exception.subjects);
    for subject in fences.chain(exceptions) {
        matches_something(subject, context.cgroups, findings);
    }
    crowded(&documents.fences, findings);
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

/// Each cgroup that a fence names, with the fences that stand around it.
fn crowded(fences: &[GeoFence], findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for subject in fences.iter().flat_map(|fence| &fence.subjects) {
        let paths = match &subject.value {
            Subject::All => vec![CgroupPath::root()],
            Subject::Cgroups(paths) => paths.iter().map(|path| path.value.clone()).collect(),
            Subject::Pods(_) => Vec::new(),
        };
        for path in paths {
            let around = |fence: &&GeoFence| fence.subjects.iter().any(|s| holds(&s.value, &path));
            let count = fences.iter().filter(around).count();
            if count > FENCES_PER_SET && told.insert(path.clone()) {
                let message = format!("{count} fences stand around {path}, and at most {FENCES_PER_SET} can");
                findings.warn(
                    subject.at,
                    message,
                    "join fences or narrow their subjects: an agent would refuse this",
                );
            }
        }
    }
}

fn holds(subject: &Subject, path: &CgroupPath) -> bool {
    match subject {
        Subject::All => true,
        Subject::Cgroups(paths) => paths.iter().any(|p| p.value.holds(path)),
        Subject::Pods(_) => false,
    }
}

/// Whether some workload could be in both lists of subjects.
pub(super) fn overlap(a: &[Spanned<Subject>], b: &[Spanned<Subject>]) -> bool {
    a.iter().any(|a| b.iter().any(|b| meet(&a.value, &b.value)))
}

fn meet(a: &Subject, b: &Subject) -> bool {
    match (a, b) {
        (Subject::All, _) | (_, Subject::All) => true,
        (Subject::Cgroups(a), Subject::Cgroups(b)) => {
            a.iter().any(|a| b.iter().any(|b| a.value.holds(&b.value) || b.value.holds(&a.value)))
        }
        // Which pods a selector finds is not known here.
        (Subject::Pods(_), Subject::Cgroups(_) | Subject::Pods(_))
        | (Subject::Cgroups(_), Subject::Pods(_)) => true,
    }
}
