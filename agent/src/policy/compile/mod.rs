//! A checked policy set to the bytes of an image, and to the [`Manifest`] that names its numbers.
//!
//! In three steps, so that an error leaves the output untouched: [`plan`] finds which fences stand around which
//! workload and counts; [`rows`] turns rules into one word a place; `PortClasses` cuts the ports into classes that
//! no rule tells apart; then everything is written. Where a rule is a bit, exceptions come first, then block rules,
//! then allow rules, each sorted by name: the lowest matching bit is the rule that an event names.

mod plan;
mod port_classes;
mod rows;
mod write;

use agent_common::image::Policy;
use agent_common::limits::{
    FENCES_PER_SET, MAX_FENCES, MAX_PLACES, MAX_RULES, MAX_SETS, MAX_WORKLOADS, PORT_CLASSES, RULE_CELLS,
};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::plan::Plan;
use self::port_classes::PortClasses;
use super::cgroup_path::CgroupPath;
use super::manifest::Manifest;
use super::set::PolicySet;
use crate::places::{Groups, PlaceTable};
use std::sync::Arc;

/// Fences that an image can hold: one number of [`MAX_FENCES`] means "no fence" in an outcome.
pub const FENCES_PER_IMAGE: usize = MAX_FENCES - 1;

/// A workload that the image must know: a subject's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its id in the identity table, below [`MAX_WORKLOADS`]; it outlives generations.
    pub id: u32,
    /// Its cgroup.
    pub path: CgroupPath,
}

/// Wall clock against boot clock: exceptions end by wall clock, the kernel counts from boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Wall clock (UTC, since 1970) minus `CLOCK_BOOTTIME`, in nanoseconds. When somebody sets the wall clock, this
    /// changes, and the policy must be compiled again.
    pub wall_minus_boot: i128,
}

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self { wall_minus_boot: Timestamp::now().as_nanosecond() - i128::from(Self::boot_now()) }
    }

    /// `CLOCK_BOOTTIME` now, nanoseconds.
    #[must_use]
    pub fn boot_now() -> u64 {
        use rustix::time::{ClockId, clock_gettime};
        let boot = clock_gettime(ClockId::Boottime);
        // Both are not negative (clock_gettime(2)).
        boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64
    }

    /// A moment of `CLOCK_BOOTTIME`, nanoseconds, by the wall clock.
    #[must_use]
    pub fn wall(self, boot_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(boot_ns) + self.wall_minus_boot)
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A moment in boot-time nanoseconds; 0 for all that was before boot.
    #[must_use]
    pub fn boot_ns(self, moment: Timestamp) -> u64 {
        let ns = moment.as_nanosecond() - self.wall_minus_boot;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// What goes into the image beside policy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of this image; counts up, never 0.
    pub generation: u32,
    /// Slot of the place index that the places' ids belong to.
    pub index_slot: u32,
    /// Lowest cgroup level at which a subject lies.
    pub min_level: u32,
    /// Highest cgroup level at which a subject lies.
    pub max_level: u32,
    /// Watched cgroups, each with the workload id that stands for strangers directly below it.
    pub watched: Vec<Workload>,
    /// errno (positive) of a refused connect or sendmsg.
    pub errno: u32,
    /// Whether the kernel emits flow events beside violations.
    pub flows: bool,
    /// Violation events that one workload may emit in a second.
    pub events_per_second: u32,
    /// For the exceptions' windows.
    pub clock: Clock,
    /// The moment that decides which jurisdiction groups are valid (by UTC day).
    pub now: Timestamp,
}

/// Why a policy set does not fit into an image. The image in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Each fence costs a turn of the verdict's loop.
    #[error(
        "{count} fences stand around {workload}, and at most {FENCES_PER_SET} can ({}): \
         join fences, or narrow their subjects", .fences.join(", ")
    )]
    FencesOnWorkload {
        /// The workload.
        workload: CgroupPath,
        /// How many.
        count: usize,
        /// Their names.
        fences: Vec<String>,
    },
    /// Likewise, for a new cgroup of which nothing is known yet.
    #[error(
        "{count} fences could be meant for a new cgroup below {watched}, and at most {FENCES_PER_SET} can stand \
         around one ({}): join fences, or give the agent what it needs to know cgroups at birth (`ringfence status` \
         says what that is)", .fences.join(", ")
    )]
    FencesOnStranger {
        /// Where the new cgroup would be.
        watched: CgroupPath,
        /// How many.
        count: usize,
        /// Their names.
        fences: Vec<String>,
    },
    /// The node has too many fences.
    #[error(
        "{count} fences are needed, and an image holds {FENCES_PER_IMAGE} (a fence counts once for each set of \
         exceptions that workloads have of it): join fences, or give exceptions fewer different subjects"
    )]
    Fences {
        /// How many.
        count: usize,
    },
    /// A rule is one bit of a word.
    #[error(
        "the fence {fence} has {count} rules and exceptions for one workload, and at most {MAX_RULES} fit: \
         put jurisdictions or CIDRs of several rules into one"
    )]
    Rules {
        /// The fence.
        fence: String,
        /// How many.
        count: usize,
    },
    /// Workloads differ in too many ways.
    #[error("workloads have {count} different sets of fences, and an image holds {MAX_SETS}: join fences")]
    Sets {
        /// How many.
        count: usize,
    },
    /// Rules tell too many ranges of ports apart.
    #[error(
        "rules cut the ports into {count} classes, and an image holds {PORT_CLASSES}: use fewer different ranges"
    )]
    PortClasses {
        /// How many, the class of unknown ports included.
        count: usize,
    },
    /// Fences times places.
    #[error(
        "{fences} fences over {places} places need {} cells, and an image holds {RULE_CELLS}: \
         join fences, or use fewer different CIDR lists", .fences * .places
    )]
    Cells {
        /// Fences of the image.
        fences: usize,
        /// Places of the world.
        places: usize,
    },
    /// The world has too many places.
    #[error("the world has {count} places, and an image holds {MAX_PLACES}: use fewer different CIDR lists")]
    Places {
        /// How many.
        count: usize,
    },
    /// A workload id that the identity table can't hold.
    #[error("{workload} has the id {id}, and ids end at {}: restart the agent to number them anew", MAX_WORKLOADS - 1)]
    WorkloadId {
        /// The workload.
        workload: CgroupPath,
        /// Its id.
        id: u32,
    },
    /// Two workloads with one id.
    #[error("{first} and {second} have the same id {id}: this is a fault of the agent, please report it")]
    SameId {
        /// The one.
        first: CgroupPath,
        /// The other.
        second: CgroupPath,
        /// Their id.
        id: u32,
    },
    /// Generation 0 is what an empty map reads as.
    #[error("generation 0 is never published: this is a fault of the agent, please report it")]
    Generation,
}

/// Compiles a policy set for the workloads of a node.
///
/// Every workload given becomes a subject of the generation, those that no fence matches with the empty set.
/// `groups` are [`PolicySet::groups`], `table` comes from a world that was cut by [`PolicySet::cidr_sets`].
/// On an error `out` has not been touched; on success every byte of it has been written.
pub fn compile(
    set: &PolicySet,
    table: &Arc<PlaceTable>,
    groups: &Groups,
    workloads: &[Workload],
    settings: &Settings,
    out: &mut Policy,
) -> Result<Manifest, CompileError> {
    if settings.generation == 0 {
        return Err(CompileError::Generation);
    }
    let places = table.places.len();
    if places > MAX_PLACES {
        return Err(CompileError::Places { count: places });
    }
    let plan = Plan::new(set, workloads, &settings.watched)?;
    let fences = plan.fences.len();
    if fences * places > RULE_CELLS {
        return Err(CompileError::Cells { fences, places });
    }
    let classes = PortClasses::new(plan.fences.iter().flat_map(|f| f.rules(set)).map(|r| r.rule))?;
    let today = settings.now.to_zoned(TimeZone::UTC).date();

    let rows = rows::Rows::new(table, groups, today);
    write::head(out, settings);
    write::places(out, table);
    write::workloads(out, &plan);
    write::sets(out, set, &plan);
    write::fences(out, set, &plan, places, &classes, settings.clock);
    classes.write(&mut out.port_classes);
    rows.write(set, &plan, &mut out.rules);

    Ok(Manifest {
        generation: settings.generation,
        fences: plan.fences.iter().map(|f| f.entry(set)).collect(),
        sets: plan.sets.iter().map(|s| s.clone().into_boxed_slice()).collect(),
        workloads: plan.workloads,
        table: Arc::clone(table),
        jurisdictions: table
            .places
            .iter()
            .map(|place| groups.jurisdictions_of(place, today).into_boxed_slice())
            .collect(),
        digest: set.digest,
        next_boundary: groups.next_change(today).and_then(midnight),
    })
}

/// The beginning of a day, UTC.
fn midnight(day: Date) -> Option<Timestamp> {
    day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
