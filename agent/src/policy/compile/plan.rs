//! Which fences stand around which workload: the numbers of an image, before any byte is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_common::limits::{FENCES_PER_SET, MAX_RULES, MAX_SETS, MAX_WORKLOADS};

use super::{CompileError, FENCES_PER_IMAGE, Workload};
use crate::policy::cgroup_path::CgroupPath;
use crate::policy::manifest::{FenceEntry, RuleEntry, RuleKind, WorkloadEntry};
use crate::policy::set::{Exception, Fence, PolicySet, Rule};
use crate::policy::subject_index::SubjectIndex;

/// The numbers of an image.
pub(super) struct Plan {
    /// By position in the image: sorted by name.
    pub(super) fences: Vec<Planned>,
    /// By set number; the first is empty.
    pub(super) sets: Vec<Vec<u16>>,
    /// Sorted by id.
    pub(super) workloads: Vec<WorkloadEntry>,
}

/// A fence with the exceptions that some workloads have of it. Workloads with other exceptions have another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Planned {
    /// Position in [`PolicySet::fences`].
    fence: usize,
    /// Positions in [`PolicySet::exceptions`], ascending.
    exceptions: Vec<usize>,
}

/// A rule as the image holds it.
pub(super) struct PlannedRule<'a> {
    pub(super) kind: RuleKind,
    pub(super) rule: &'a Rule,
    /// Of [`RuleKind::Exception`].
    pub(super) exception: Option<&'a Exception>,
}

impl Planned {
    /// The fence's own document.
    pub(super) fn fence<'a>(&self, set: &'a PolicySet) -> &'a Fence {
        &set.fences[self.fence]
    }

    /// The rules by bit: exceptions, block rules, allow rules.
    pub(super) fn rules<'a>(&self, set: &'a PolicySet) -> Vec<PlannedRule<'a>> {
        let fence = self.fence(set);
        let exceptions = self.exceptions.iter().map(|&at| &set.exceptions[at]).flat_map(|exception| {
            exception.allow.iter().map(move |rule| PlannedRule {
                kind: RuleKind::Exception,
                rule,
                exception: Some(exception),
            })
        });
        let plain = |kind| move |rule| PlannedRule { kind, rule, exception: None };
        exceptions
            .chain(fence.block.iter().map(plain(RuleKind::Block)))
            .chain(fence.allow.iter().map(plain(RuleKind::Allow)))
            .collect()
    }

    /// The fence as the manifest lists it.
    pub(super) fn entry(&self, set: &PolicySet) -> FenceEntry {
        let fence = self.fence(set);
        let rules = self.rules(set).into_iter().map(|r| RuleEntry {
            name: r.exception.map_or_else(|| Arc::clone(&r.rule.name), |e| Arc::clone(&e.name)),
            kind: r.kind,
            severity: r.rule.severity,
            basis: r.rule.basis.clone(),
            not_before: r.exception.and_then(|e| e.not_before),
            expires_at: r.exception.map(|e| e.expires_at),
            reason: r.exception.map(|e| Arc::clone(&e.reason)),
            approved_by: r.exception.map(|e| Arc::clone(&e.approved_by)),
            ticket: r.exception.and_then(|e| e.ticket.clone()),
        });
        FenceEntry {
            name: Arc::clone(&fence.name),
            mode: fence.mode,
            origin: fence.origin.clone(),
            rules: rules.collect(),
            record: Arc::new(fence.record.clone()),
            require: fence.require.clone(),
        }
    }
}

/// Which fences and exceptions hold for a cgroup.
struct Holding<'a> {
    set: &'a PolicySet,
    fences: SubjectIndex,
    exceptions: SubjectIndex,
    /// Exceptions without subjects hold for all of their fence's workloads.
    everywhere: Vec<usize>,
}

impl<'a> Holding<'a> {
    fn new(set: &'a PolicySet) -> Self {
        let mut holding = Self {
            set,
            fences: SubjectIndex::default(),
            exceptions: SubjectIndex::default(),
            everywhere: Vec::new(),
        };
        for (at, fence) in set.fences.iter().enumerate() {
            holding.fences.add(at, &fence.subjects);
        }
        for (at, exception) in set.exceptions.iter().enumerate() {
            holding.exceptions.add(at, &exception.subjects);
            if exception.subjects.is_empty() {
                holding.everywhere.push(at);
            }
        }
        holding
    }

    /// The fences of a workload, each with the exceptions that hold for it.
    fn fences_of(&self, workload: &CgroupPath) -> Vec<Planned> {
        let mut exceptions = self.exceptions.holding(workload);
        exceptions.extend(&self.everywhere);
        let planned = |fence: usize| {
            let name = &self.set.fences[fence].name;
            let own = exceptions.iter().copied().filter(|&at| self.set.exceptions[at].fence == *name);
            Planned { fence, exceptions: own.collect() }
        };
        self.fences.holding(workload).into_iter().map(planned).collect()
    }

    /// The fences that a new child of a cgroup could have, whichever it is: those around the cgroup, and those of every
    /// subject below it. No exceptions: they are for those who are known.
    fn fences_below(&self, watched: &CgroupPath) -> Vec<Planned> {
        let mut fences = self.fences.holding(watched);
        fences.extend(self.fences.below(watched));
        fences.into_iter().map(|fence| Planned { fence, exceptions: Vec::new() }).collect()
    }
}

impl Plan {
    pub(super) fn new(
        set: &PolicySet,
        workloads: &[Workload],
        watched: &[Workload],
    ) -> Result<Self, CompileError> {
        let holding = Holding::new(set);
        let mut by_id: BTreeMap<u32, (CgroupPath, Vec<Planned>)> = BTreeMap::new();
        let names = |fences: &[Planned]| fences.iter().map(|f| f.fence(set).name.to_string()).collect();
        for workload in workloads {
            let fences = holding.fences_of(&workload.path);
            if fences.len() > FENCES_PER_SET {
                return Err(CompileError::FencesOnWorkload {
                    workload: workload.path.clone(),
                    count: fences.len(),
                    fences: names(&fences),
                });
            }
            enter(&mut by_id, workload.id, workload.path.clone(), fences)?;
        }
        for Workload { id, path } in watched {
            let fences = holding.fences_below(path);
            if fences.len() > FENCES_PER_SET {
                return Err(CompileError::FencesOnStranger {
                    watched: path.clone(),
                    count: fences.len(),
                    fences: names(&fences),
                });
            }
            enter(&mut by_id, *id, path.stranger(), fences)?;
        }
        // Fences are sorted by name, so their positions are too.
        let fences: BTreeSet<Planned> =
            by_id.values().flat_map(|(_, fences)| fences.iter().cloned()).collect();
        let fences: Vec<Planned> = fences.into_iter().collect();
        if fences.len() > FENCES_PER_IMAGE {
            return Err(CompileError::Fences { count: fences.len() });
        }
        for fence in &fences {
            let count = fence.rules(set).len();
            if count > MAX_RULES {
                return Err(CompileError::Rules { fence: fence.fence(set).name.to_string(), count });
            }
        }
        let position = |fence: &Planned| {
            let at = fences.binary_search(fence).expect("invariant: every planned fence was collected");
            u16::try_from(at).expect("invariant: at most FENCES_PER_IMAGE fences")
        };
        let mut numbers: BTreeMap<Vec<u16>, u32> = BTreeMap::from([(Vec::new(), 0)]);
        let mut sets: Vec<Vec<u16>> = vec![Vec::new()];
        let mut entries = Vec::new();
        for (&id, (path, planned)) in &by_id {
            let members: Vec<u16> = planned.iter().map(position).collect();
            let next = u32::try_from(sets.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(members.clone()).or_insert(next);
            if number == next {
                sets.push(members);
            }
            entries.push(WorkloadEntry { id, path: path.clone(), set: number });
        }
        if sets.len() > MAX_SETS {
            return Err(CompileError::Sets { count: sets.len() });
        }
        Ok(Self { fences, sets, workloads: entries })
    }
}

fn enter(
    by_id: &mut BTreeMap<u32, (CgroupPath, Vec<Planned>)>,
    id: u32,
    path: CgroupPath,
    fences: Vec<Planned>,
) -> Result<(), CompileError> {
    if id as usize >= MAX_WORKLOADS {
        return Err(CompileError::WorkloadId { workload: path, id });
    }
    match by_id.insert(id, (path.clone(), fences)) {
        None => Ok(()),
        Some((first, _)) => Err(CompileError::SameId { first, second: path, id }),
    }
}
