//! The names behind the numbers of an image: kept in memory as long as events of its generation may come.

use std::sync::Arc;

use agent_common::protocols::Class;
use agent_common::verdict::{NONE, Outcome, Reason};
use jiff::Timestamp;

use super::cgroup_path::CgroupPath;
use super::schema::{Mode, Record, Requirement, Severity};
use super::set::{Digest, Origin};
use crate::places::PlaceTable;

/// What the numbers of one generation mean.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// As in the image's head.
    pub generation: u32,
    /// By position in the image. A fence stands here once for each set of exceptions that workloads have of it.
    pub fences: Vec<FenceEntry>,
    /// By set number: positions of fences. Set 0 is empty.
    pub sets: Vec<Box<[u16]>>,
    /// The workloads that the image knows, by id.
    pub workloads: Vec<WorkloadEntry>,
    /// Places by id.
    pub table: Arc<PlaceTable>,
    /// Jurisdictions by place id: country code, groups, special; sorted.
    pub jurisdictions: Vec<Box<[Arc<str>]>>,
    /// Of the documents.
    pub digest: Digest,
    /// When the image must be compiled again although nothing changed: the first moment of the day (UTC) on which an
    /// entry of a jurisdiction group begins or has ended. Exceptions begin and end by themselves, in the kernel.
    pub next_boundary: Option<Timestamp>,
}

/// One fence of the image.
#[derive(Clone, Debug)]
pub struct FenceEntry {
    /// Its name.
    pub name: Arc<str>,
    /// Audit or Enforce.
    pub mode: Mode,
    /// Where it was written.
    pub origin: Origin,
    /// By bit: exceptions, then block rules, then allow rules.
    pub rules: Vec<RuleEntry>,
    /// Copied to events.
    pub record: Arc<Record>,
    /// What it needs of the node.
    pub require: Vec<Requirement>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// Opens, while it is live.
    Exception,
    /// Blocks.
    Block,
    /// Allows.
    Allow,
}

/// One rule of a fence.
#[derive(Clone, Debug)]
pub struct RuleEntry {
    /// Its name; an exception's is that of its document.
    pub name: Arc<str>,
    /// What it does.
    pub kind: RuleKind,
    /// Severity of a violation.
    pub severity: Severity,
    /// Legal basis.
    pub basis: Option<Arc<str>>,
    /// Of exceptions: from when.
    pub not_before: Option<Timestamp>,
    /// Of exceptions: until when, exclusive.
    pub expires_at: Option<Timestamp>,
    /// Of exceptions: why.
    pub reason: Option<Arc<str>>,
    /// Of exceptions: who approved.
    pub approved_by: Option<Arc<str>>,
    /// Of exceptions: where it was discussed.
    pub ticket: Option<Arc<str>>,
}

/// One workload of the image.
#[derive(Clone, Debug)]
pub struct WorkloadEntry {
    /// Its id.
    pub id: u32,
    /// Its cgroup.
    pub path: CgroupPath,
    /// Its set of fences.
    pub set: u32,
}

/// The word for a reason's number in events, as in the glossary; `None` for a number that no reason has.
#[must_use]
pub const fn reason_name(reason: u8) -> Option<&'static str> {
    if reason as usize >= Reason::ALL.len() {
        return None;
    }
    Some(match Reason::ALL[reason as usize] {
        Reason::NoFence => "NoFence",
        Reason::Loopback => "Loopback",
        Reason::Inbound => "Inbound",
        Reason::Exception => "Exception",
        Reason::BlockRule => "BlockRule",
        Reason::AllowRule => "AllowRule",
        Reason::Dns => "Dns",
        Reason::Metadata => "Metadata",
        Reason::Internal => "Internal",
        Reason::Unknown => "Unknown",
        Reason::Default => "Default",
        Reason::Routed => "Routed",
        Reason::Fault => "Fault",
        Reason::Protocol => "Protocol",
        Reason::Stack => "Stack",
        Reason::Spoofed => "Spoofed",
    })
}

/// What stands for a rule's name where none decided. No rule may be named so.
pub const RESERVED_RULE_NAMES: [&str; 12] = [
    "default", "unknown", "internal", "dns", "metadata", "routed", "fault", "loopback", "inbound",
    "protocol", "stack", "spoofed",
];

const fn unnamed(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Loopback => Some("loopback"),
        Reason::Inbound => Some("inbound"),
        Reason::Dns => Some("dns"),
        Reason::Metadata => Some("metadata"),
        Reason::Internal => Some("internal"),
        Reason::Unknown => Some("unknown"),
        Reason::Default => Some("default"),
        Reason::Routed => Some("routed"),
        Reason::Fault => Some("fault"),
        Reason::Protocol => Some("protocol"),
        Reason::Stack => Some("stack"),
        Reason::Spoofed => Some("spoofed"),
        Reason::NoFence | Reason::Exception | Reason::BlockRule | Reason::AllowRule => None,
    }
}

/// The protocol that decided, where one did.
fn protocol(outcome: Outcome) -> Option<Class> {
    if outcome.reason() != Reason::Protocol as u8 {
        return None;
    }
    Class::ALL.get(usize::from(outcome.rule())).copied()
}

impl Manifest {
    /// The fence that gave an outcome.
    #[must_use]
    pub fn fence(&self, outcome: Outcome) -> Option<&FenceEntry> {
        if outcome.fence() == NONE { None } else { self.fences.get(usize::from(outcome.fence())) }
    }

    /// The rule that decided, if it was a rule.
    #[must_use]
    pub fn rule(&self, outcome: Outcome) -> Option<&RuleEntry> {
        if outcome.rule() == NONE || protocol(outcome).is_some() {
            return None;
        }
        self.fence(outcome)?.rules.get(usize::from(outcome.rule()))
    }

    /// The name of what decided: a rule's, an exception's, or `default`, `unknown`, `internal`, `dns`, `metadata`, …
    /// With [`Reason::Protocol`] it is the word that would open the protocol (`icmp`, `raw`, …). `None` where no fence was asked, or the numbers are not of this image.
    #[must_use]
    pub fn rule_name(&self, outcome: Outcome) -> Option<&str> {
        match self.rule(outcome) {
            Some(rule) => Some(&rule.name),
            None if protocol(outcome).is_some() => protocol(outcome).map(Class::name),
            None => unnamed(*Reason::ALL.get(usize::from(outcome.reason()))?),
        }
    }

    /// A workload by id.
    #[must_use]
    pub fn workload(&self, id: u32) -> Option<&WorkloadEntry> {
        let at = self.workloads.binary_search_by_key(&id, |w| w.id).ok()?;
        self.workloads.get(at)
    }

    /// The workload that a cgroup belongs to: the deepest that holds it, as the kernel finds it.
    #[must_use]
    pub fn workload_of(&self, cgroup: &CgroupPath) -> Option<&WorkloadEntry> {
        self.workloads.iter().filter(|w| w.path.holds(cgroup)).max_by_key(|w| w.path.level())
    }

    /// The jurisdictions of a place.
    #[must_use]
    pub fn jurisdictions(&self, place: u16) -> &[Arc<str>] {
        self.jurisdictions.get(usize::from(place)).map_or(&[], |list| list)
    }
}
