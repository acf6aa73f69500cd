//! What the host layer says of itself: for `ringfence status`, and for whoever asks which workloads lack it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How an interface is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a tcx link (6.6).
    Tcx,
    /// By a filter of the `clsact` qdisc.
    Clsact,
    /// Not: others live in the workload's namespace.
    Shared,
    /// Not, for another reason.
    None,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcx, Self::Clsact, Self::Shared, Self::None];

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Shared => "shared",
            Self::None => "none",
        }
    }
}

/// One interface of a fenced workload, or the workload itself where it has none that could be guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The workload's cgroup.
    pub workload: String,
    /// The host side's name.
    pub name: Option<String>,
    /// The host side's index.
    pub index: Option<u32>,
    /// How it is guarded.
    pub how: How,
    /// Why not, or what about it is not as it should be.
    pub detail: Option<String>,
    /// Packets stopped since it is guarded.
    pub blocked: u64,
    /// Packets that audit fences would have stopped.
    pub would_block: u64,
}

/// A fenced workload, some packets of which the host layer does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Its id.
    pub id: u32,
    /// Its cgroup.
    pub workload: String,
    /// Why, one sentence.
    pub why: String,
    /// The fences that demand it (`require: [hostLayer]`).
    pub required_by: Vec<String>,
}

/// The state of the host layer after the last look.
#[derive(Debug, Default)]
pub struct Report(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_off: bool,
    interfaces: Vec<Interface>,
    lacks: Vec<Lack>,
}

impl Report {
    /// Every interface of a fenced workload.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        self.lock().interfaces.clone()
    }

    /// Fenced workloads that lack the layer, in whole or in part, whether a fence demands it or not. A workload
    /// without processes lacks nothing.
    #[must_use]
    pub fn lacks(&self) -> Vec<Lack> {
        self.lock().lacks.clone()
    }

    /// Those of [`lacks`](Self::lacks) that a fence demands it for: the agent is Degraded while there are any.
    #[must_use]
    pub fn missing(&self) -> Vec<Lack> {
        self.lock().lacks.iter().filter(|lack| !lack.required_by.is_empty()).cloned().collect()
    }

    /// Whether some fence demands the layer for this workload and it is not whole: its events are then `partial`.
    #[must_use]
    pub fn is_missing_for(&self, workload: u32) -> bool {
        self.lock().lacks.iter().any(|lack| lack.id == workload && !lack.required_by.is_empty())
    }

    /// Where the layer is switched off: nobody looks, and every fence that demands it lacks it.
    #[must_use]
    pub fn off() -> Self {
        Self(Mutex::new(State { is_off: true, ..State::default() }))
    }

    pub(super) fn set(&self, interfaces: Vec<Interface>, lacks: Vec<Lack>) {
        *self.lock() = State { is_off: false, interfaces, lacks };
    }

    /// A panic of another thread can't leave this half changed: take it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
