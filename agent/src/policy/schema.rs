//! The four kinds of document, field by field: `GeoFence`, `GeoFenceException`, `JurisdictionGroup`, `PlaceOverride`
//! of `ringfence.dev/v1alpha1`.
//!
//! Values that a later check may complain about carry the place they were written at. A field that is in the schema
//! but not in this build (`hosts`, `tls`, `budgets`) has no place here: `decode` refuses it by name,
//! because a rule that is silently ignored is worse than none.

use std::sync::Arc;

use agent_common::protocols::Class;
use agent_common::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;

use super::cgroup_path::CgroupPath;
use super::finding::{At, Spanned};
use super::ports::Ports;

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "ringfence.dev/v1alpha1";

/// One document of a policy file.
#[derive(Clone, Debug)]
pub enum Document {
    /// A fence around workloads.
    GeoFence(GeoFence),
    /// A dated hole in one fence.
    GeoFenceException(GeoFenceException),
    /// A named set of jurisdictions.
    JurisdictionGroup(JurisdictionGroup),
    /// What the operator knows better about an address.
    PlaceOverride(PlaceOverride),
}

/// What a fence does with a flow that it blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Recorded as "would block"; the bytes pass. The default: nobody enforces by accident.
    #[default]
    Audit,
    /// The bytes do not pass.
    Enforce,
}

impl Mode {
    /// The word that policies and events use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Audit => "Audit",
            Self::Enforce => "Enforce",
        }
    }
}

/// What accepted sockets may send back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Inbound {
    /// Judged like everything else (the default).
    #[default]
    Judge,
    /// Not judged.
    Allow,
}

/// How grave a violation of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Severity {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High (the default).
    #[default]
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// The word that policies and events use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// What a fence needs of the node beyond the cgroup hooks, which every fence needs (`spec.require`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The guard on the host side of the workload's interfaces: stops what leaves without a cgroup socket.
    HostLayer,
}

impl Requirement {
    /// Every requirement.
    pub const ALL: [Self; 1] = [Self::HostLayer];

    /// The word that policies and events use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::HostLayer => "hostLayer",
        }
    }
}

/// `kind: GeoFence`.
#[derive(Clone, Debug)]
pub struct GeoFence {
    /// `metadata.name`.
    pub name: Spanned<Arc<str>>,
    /// `spec.mode`, default Audit.
    pub mode: Mode,
    /// `spec.subjects`: entries are OR; none is refused.
    pub subjects: Vec<Spanned<Subject>>,
    /// `spec.internal`, default Allow for each part.
    pub internal: Internal,
    /// `spec.inbound`, default Judge.
    pub inbound: Inbound,
    /// `spec.allow`.
    pub allow: Vec<Rule>,
    /// `spec.block`.
    pub block: Vec<Rule>,
    /// `spec.default`, default Block: any other place.
    pub default: Verdict,
    /// `spec.unknown`, default as `default`: UNKNOWN, ANYCAST, MULTICAST and RESERVED.
    pub unknown: Verdict,
    /// `spec.noName`, default Block; without host rules it decides nothing.
    pub no_name: Verdict,
    /// `spec.protocols`: what is judged beside TCP and UDP; everything else is refused.
    pub protocols: Vec<Spanned<Class>>,
    /// `spec.dns`, default Allow: DNS to trusted resolvers.
    pub dns: Spanned<Verdict>,
    /// `spec.record`.
    pub record: Record,
    /// `spec.require`, sorted, each once.
    pub require: Vec<Requirement>,
}

/// One entry of `subjects`: its fields are AND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `{all: true}`: every workload of the node.
    All,
    /// `{cgroups: [...]}`: these cgroups and everything below them.
    Cgroups(Vec<Spanned<CgroupPath>>),
    /// `namespaces` or `podSelector`, perhaps with `cgroups`: pods. Matches nothing on a plain host.
    Pods(PodSubject),
}

/// A subject that names pods.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PodSubject {
    /// Namespaces, OR; empty means all.
    pub namespaces: Vec<Arc<str>>,
    /// `podSelector.matchLabels`, AND.
    pub match_labels: Vec<(Arc<str>, Arc<str>)>,
    /// `podSelector.matchExpressions`, AND.
    pub match_expressions: Vec<LabelExpression>,
    /// Cgroups that the pod must also lie in.
    pub cgroups: Vec<Spanned<CgroupPath>>,
}

/// One entry of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelExpression {
    /// The label's key.
    pub key: Arc<str>,
    /// How it is compared.
    pub operator: LabelOperator,
    /// With what.
    pub values: Vec<Arc<str>>,
}

/// `operator` of a label expression, as in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// `spec.internal`: places that are not outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Internal {
    /// CLUSTER.
    pub cluster: Verdict,
    /// PRIVATE.
    pub private: Verdict,
    /// LINK-LOCAL.
    pub link_local: Verdict,
}

impl Internal {
    /// One word for all three.
    #[must_use]
    pub const fn all(verdict: Verdict) -> Self {
        Self { cluster: verdict, private: verdict, link_local: verdict }
    }
}

/// One entry of `allow` or `block`: fields are AND, the values of a field are OR.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where the entry begins.
    pub at: At,
    /// `name`; events say it.
    pub name: Option<Spanned<Arc<str>>>,
    /// `jurisdictions`: codes, groups, specials.
    pub jurisdictions: Vec<Spanned<Arc<str>>>,
    /// `cidrs`, v4-mapped ones already as IPv4.
    pub cidrs: Vec<Spanned<IpNet>>,
    /// `ports`; empty means all.
    pub ports: Vec<Spanned<Ports>>,
    /// `basis`: the legal basis, copied to events.
    pub basis: Option<Arc<str>>,
    /// `severity` of a violation.
    pub severity: Option<Spanned<Severity>>,
}

/// `spec.record`: copied to events and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Which data the workload sends.
    pub data_categories: Vec<Arc<str>>,
    /// What for.
    pub purpose: Option<Arc<str>>,
    /// To whom.
    pub recipients: Vec<Arc<str>>,
}

/// `kind: GeoFenceException`.
#[derive(Clone, Debug)]
pub struct GeoFenceException {
    /// `metadata.name`; the rule that events name.
    pub name: Spanned<Arc<str>>,
    /// The fence that it opens, and no other.
    pub fence: Spanned<Arc<str>>,
    /// For which of the fence's workloads; empty means all of them.
    pub subjects: Vec<Spanned<Subject>>,
    /// What it lets through.
    pub allow: Vec<Rule>,
    /// Why.
    pub reason: Arc<str>,
    /// Who approved.
    pub approved_by: Arc<str>,
    /// Where it was discussed.
    pub ticket: Option<Arc<str>>,
    /// From when; without it, at once.
    pub not_before: Option<Spanned<Timestamp>>,
    /// Until when, exclusive.
    pub expires_at: Spanned<Timestamp>,
}

/// `kind: JurisdictionGroup`.
#[derive(Clone, Debug)]
pub struct JurisdictionGroup {
    /// `metadata.name`, the name that rules use.
    pub name: Spanned<Arc<str>>,
    /// Countries, groups and specials.
    pub members: Vec<Spanned<Arc<str>>>,
    /// What it rests on.
    pub reference: Option<Arc<str>>,
    /// First day (UTC) on which it matches.
    pub valid_from: Option<Spanned<Date>>,
    /// Last day (UTC) on which it matches.
    pub valid_until: Option<Spanned<Date>>,
}

/// `kind: PlaceOverride`.
#[derive(Clone, Debug)]
pub struct PlaceOverride {
    /// `metadata.name`; the source that events name is `PlaceOverride/NAME`.
    pub name: Spanned<Arc<str>>,
    /// The networks it speaks of.
    pub cidrs: Vec<Spanned<IpNet>>,
    /// ISO 3166-1 alpha-2 code.
    pub country: Option<Spanned<Arc<str>>>,
    /// Announced from many countries: no single one is true.
    pub anycast: bool,
    /// The provider, for the record.
    pub provider: Option<Arc<str>>,
    /// The provider's region, for the record.
    pub region: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// What it rests on.
    pub reference: Option<Arc<str>>,
}
