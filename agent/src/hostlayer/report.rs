//! What the host layer says of itself, for `ringfence status`. What it lacks that a fence requires goes to
//! [`Lacks`](crate::policy::lacks::Lacks).

use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_common::host::{OWN_ADDRESSES, VethCounts};
use serde::Serialize;

use super::plan::{Gap, Target};
use crate::events::model::words::Guard;

/// One interface of a fenced workload, or the workload itself where it has none that could be guarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The workload's cgroup.
    pub workload: String,
    /// The host side's name.
    pub name: Option<String>,
    /// The host side's index.
    pub index: Option<u32>,
    /// How it is guarded.
    pub guard: Guard,
    /// Why not, or what about it is not as it should be.
    pub detail: Option<String>,
    /// Packets stopped since it is guarded.
    pub blocked: u64,
    /// Packets that audit fences would have stopped.
    pub would_block: u64,
}

impl Interface {
    pub(super) fn guarded(workload: &str, target: &Target, guard: Guard, counts: VethCounts) -> Self {
        let any = target.addresses.len() > OWN_ADDRESSES;
        Self {
            workload: workload.to_owned(),
            name: Some(target.name.clone()),
            index: Some(target.index),
            guard,
            detail: any.then(|| format!("sources are not checked: more than {OWN_ADDRESSES} addresses")),
            blocked: counts.blocked,
            would_block: counts.would_block,
        }
    }

    pub(super) fn missing(workload: &str, gap: &Gap) -> Self {
        Self {
            workload: workload.to_owned(),
            name: None,
            index: None,
            guard: if matches!(gap, Gap::Shared { .. }) { Guard::Shared } else { Guard::None },
            detail: Some(gap.to_string()),
            blocked: 0,
            would_block: 0,
        }
    }
}

/// Every interface of a fenced workload, as the last look found it; empty where the layer is off.
#[derive(Debug, Default)]
pub struct Report(Mutex<Vec<Interface>>);

impl Report {
    /// What the last look found.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        self.lock().clone()
    }

    pub(super) fn set(&self, interfaces: Vec<Interface>) {
        *self.lock() = interfaces;
    }

    /// A panic of another thread can't leave this half changed: take it.
    fn lock(&self) -> MutexGuard<'_, Vec<Interface>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
