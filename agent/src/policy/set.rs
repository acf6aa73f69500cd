//! Documents that passed the validator: what the compiler reads. Nothing here depends on the order of files.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use agent_common::protocols::Class;
use agent_common::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;

use super::cgroup_path::CgroupPath;
use super::ports::Ports;
use super::schema::{Inbound, Internal, Mode, Record, Requirement, Severity, Subject};
use crate::places::{Groups, Jurisdiction, Override};

/// SHA-256 of the documents: file names and contents, sorted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All documents of a node, checked.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// Sorted by name.
    pub fences: Vec<Fence>,
    /// Sorted by name.
    pub exceptions: Vec<Exception>,
    /// Sorted by name.
    pub overrides: Vec<Override>,
    /// Built-in groups and those of the documents.
    pub groups: Groups,
    /// The CIDR lists of all rules, each once; a rule's `cidr_set` is the position.
    pub(crate) cidr_sets: Vec<Vec<IpNet>>,
    /// Of the documents.
    pub digest: Digest,
}

/// One `GeoFence`.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Its name.
    pub name: Arc<str>,
    /// File and line of the document.
    pub origin: Origin,
    /// Audit or Enforce.
    pub mode: Mode,
    /// Which workloads.
    pub subjects: Vec<Subject>,
    /// CLUSTER, PRIVATE, LINK-LOCAL.
    pub internal: Internal,
    /// What accepted sockets send.
    pub inbound: Inbound,
    /// Block rules, sorted by name.
    pub block: Vec<Rule>,
    /// Allow rules, sorted by name.
    pub allow: Vec<Rule>,
    /// Any other place.
    pub default: Verdict,
    /// UNKNOWN, ANYCAST, MULTICAST, RESERVED.
    pub unknown: Verdict,
    /// What is judged beside TCP and UDP.
    pub protocols: Vec<Class>,
    /// DNS to a trusted resolver.
    pub dns: Verdict,
    /// Copied to events.
    pub record: Record,
    /// What it needs of the node, sorted.
    pub require: Vec<Requirement>,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// Line of `metadata.name`.
    pub line: u32,
}

/// One rule: it matches where jurisdictions, CIDRs and ports all match; an empty field matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// Any of these.
    pub jurisdictions: Vec<(Arc<str>, Jurisdiction)>,
    /// Any network of this set ([`PolicySet::cidr_sets`]).
    pub cidr_set: Option<u32>,
    /// Any of these, sorted.
    pub ports: Vec<Ports>,
    /// Severity of a violation.
    pub severity: Severity,
    /// Legal basis.
    pub basis: Option<Arc<str>>,
}

/// One `GeoFenceException`.
#[derive(Clone, Debug)]
pub struct Exception {
    /// Its name: what events call the rule.
    pub name: Arc<str>,
    /// File and line of the document.
    pub origin: Origin,
    /// The fence it opens.
    pub fence: Arc<str>,
    /// For which of the fence's workloads; empty means all of them.
    pub subjects: Vec<Subject>,
    /// What it lets through, sorted.
    pub allow: Vec<Rule>,
    /// Why.
    pub reason: Arc<str>,
    /// Who approved.
    pub approved_by: Arc<str>,
    /// Where it was discussed.
    pub ticket: Option<Arc<str>>,
    /// From when.
    pub not_before: Option<Timestamp>,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
}

impl PolicySet {
    /// A node without documents: it observes, and judges nothing.
    #[must_use]
    pub fn empty(groups: Groups) -> Self {
        Self {
            fences: Vec::new(),
            exceptions: Vec::new(),
            overrides: Vec::new(),
            groups,
            cidr_sets: Vec::new(),
            digest: Digest::default(),
        }
    }

    /// The CIDR sets that the world must be cut by, with the ids that [`compile`](super::compile::compile) expects in
    /// `PlaceInfo::cidr_sets`.
    #[must_use]
    pub fn cidr_sets(&self) -> Vec<(u32, Vec<IpNet>)> {
        (0..).zip(self.cidr_sets.iter().cloned()).collect()
    }

    /// The cgroups that must be told apart: every subject of a fence or an exception, `/` for `{all: true}`.
    ///
    /// Each becomes a workload: below the deepest of them that holds a socket's cgroup, all sockets are judged alike.
    #[must_use]
    pub fn subject_paths(&self) -> BTreeSet<CgroupPath> {
        let fences = self.fences.iter().flat_map(|f| &f.subjects);
        let exceptions = self.exceptions.iter().flat_map(|e| &e.subjects);
        fences
            .chain(exceptions)
            .flat_map(|subject| match subject {
                Subject::All => vec![CgroupPath::root()],
                Subject::Cgroups(paths) => paths.iter().map(|p| p.value.clone()).collect(),
                Subject::Pods(_) => Vec::new(),
            })
            .collect()
    }
}
