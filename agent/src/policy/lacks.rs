//! What the fences in force need and this node lacks. What can be enforced is enforced; the rest is said: in the
//! status, in an event at each change, and in every event of the fence's workloads (`partial`).
//!
//! The layers themselves say what they lack and when they have it again ([`Lacks::set`]); nobody else writes here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::manifest::Manifest;
use super::schema::Requirement;
use super::set::PolicySet;

/// For which fences something is lacking.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All: the node does not have it.
    Node,
    /// One: the node has it, but not for a workload of this fence.
    Fence(Arc<str>),
}

/// Why something is lacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Why, and what is lost by it; for people.
    pub lost: String,
    /// What to do.
    pub mend: String,
}

/// A layer that a fence needs and this node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The layer.
    pub feature: Requirement,
    /// The fence that needs it.
    pub needed_by: Arc<str>,
    /// What is lost.
    pub lost: String,
    /// What to do.
    pub mend: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fence, feature) = (&self.needed_by, self.feature.word());
        write!(f, "fence {fence} requires {feature}, which is missing: {}; {}", self.lost, self.mend)
    }
}

type ByRequirement = BTreeMap<(Requirement, Scope), Lack>;

/// What this node lacks now. Shared by `Arc`: layers write, events and the status read.
#[derive(Debug, Default)]
pub struct Lacks {
    now: ArcSwap<ByRequirement>,
    writing: Mutex<()>,
}

impl Lacks {
    /// Says that something is lacking (`Some`), or there (again). The engine looks at least once a second, and tells
    /// when fences are concerned.
    pub fn set(&self, requirement: Requirement, scope: Scope, lack: Option<Lack>) {
        // A panic of another thread can't leave this half changed: it guards no value.
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = ByRequirement::clone(&self.now.load());
        match lack {
            Some(lack) => new.insert((requirement, scope), lack),
            None => new.remove(&(requirement, scope)),
        };
        self.now.store(Arc::new(new));
    }

    /// What the fences of a policy need and do not have, by fence.
    #[must_use]
    pub fn missing(&self, set: &PolicySet) -> Vec<Missing> {
        let now = self.now.load();
        let wanted = set.fences.iter().flat_map(|f| f.require.iter().map(|r| (&f.name, *r)));
        let missing = wanted.filter_map(|(fence, feature)| {
            let lack = lack(&now, feature, fence)?;
            let (lost, mend) = (lack.lost.clone(), lack.mend.clone());
            Some(Missing { feature, needed_by: Arc::clone(fence), lost, mend })
        });
        missing.collect()
    }

    /// Whether a fence of a set of an image needs something that is lacking now.
    #[must_use]
    pub fn is_partial(&self, manifest: &Manifest, set: u32) -> bool {
        let now = self.now.load();
        if now.is_empty() {
            return false;
        }
        let fences = manifest.sets.get(set as usize).map_or(&[][..], |s| s);
        let mut fences = fences.iter().filter_map(|at| manifest.fences.get(usize::from(*at)));
        fences.any(|f| f.require.iter().any(|r| lack(&now, *r, &f.name).is_some()))
    }
}

fn lack<'a>(now: &'a ByRequirement, requirement: Requirement, fence: &Arc<str>) -> Option<&'a Lack> {
    now.get(&(requirement, Scope::Node)).or_else(|| now.get(&(requirement, Scope::Fence(Arc::clone(fence)))))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Lack, Lacks, Requirement, Scope};
    use crate::places::Groups;
    use crate::policy::source::SourceFile;
    use crate::policy::{Context, PolicySet, check};

    fn policy() -> PolicySet {
        let fence = |name: &str, require: &str| {
            format!(
                "apiVersion: ringfence.dev/v1alpha1\nkind: GeoFence\nmetadata: {{name: {name}}}\n\
                 spec: {{subjects: [{{all: true}}], require: {require}}}\n---\n"
            )
        };
        let text = fence("a", "[hostLayer, hostLayer]") + &fence("b", "[hostLayer]") + &fence("c", "[]");
        let groups = Groups::builtin().unwrap();
        let context = Context { now: Timestamp::now(), groups: &groups, cgroups: None };
        let checked = check(&[SourceFile::new("p.yaml", &text)], context);
        checked.set.unwrap_or_else(|| panic!("{:?}", checked.findings))
    }

    fn lack() -> Option<Lack> {
        Some(Lack { lost: "lost".into(), mend: "mend".into() })
    }

    fn names(lacks: &Lacks) -> Vec<String> {
        lacks.missing(&policy()).iter().map(|m| m.needed_by.to_string()).collect()
    }

    #[test]
    fn only_fences_that_need_it_miss_what_the_node_lacks() {
        let lacks = Lacks::default();
        assert!(names(&lacks).is_empty());
        lacks.set(Requirement::HostLayer, Scope::Node, lack());
        assert_eq!(names(&lacks), ["a", "b"]);
        lacks.set(Requirement::HostLayer, Scope::Node, None);
        assert!(names(&lacks).is_empty());
    }

    #[test]
    fn a_layer_may_be_lacking_for_one_fence_alone() {
        let lacks = Lacks::default();
        lacks.set(Requirement::HostLayer, Scope::Fence("b".into()), lack());
        lacks.set(Requirement::HostLayer, Scope::Fence("c".into()), lack());
        assert_eq!(names(&lacks), ["b"]);
        let text = lacks.missing(&policy())[0].to_string();
        assert_eq!(text, "fence b requires hostLayer, which is missing: lost; mend");
    }
}
