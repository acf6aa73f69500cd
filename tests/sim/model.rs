//! A policy, a small world and flows as plain data: what the generator makes, the naive evaluator reads, and
//! [`crate::yaml`] writes as documents.

use agent_common::image::PlaceKind;

/// One place of the small world: a /16 of IPv4 (20.N.0.0/16) and a /32 of IPv6 (2a00:N::/32).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: PlaceKind,
    pub(crate) country: Option<&'static str>,
    pub(crate) resolver: bool,
}

const fn cell(kind: PlaceKind, country: Option<&'static str>, resolver: bool) -> Cell {
    Cell { kind, country, resolver }
}

/// The small world: every kind of place, resolvers in some, neighbours that one CIDR takes in together.
pub(crate) const CELLS: [Cell; 16] = [
    cell(PlaceKind::Country, Some("DE"), false),
    cell(PlaceKind::Country, Some("FR"), false),
    cell(PlaceKind::Country, Some("NO"), false),
    cell(PlaceKind::Country, Some("CH"), false),
    cell(PlaceKind::Country, Some("US"), false),
    cell(PlaceKind::Country, Some("GB"), true),
    cell(PlaceKind::Country, Some("JP"), false),
    cell(PlaceKind::Unknown, None, false),
    cell(PlaceKind::Anycast, Some("US"), true),
    cell(PlaceKind::Private, None, true),
    cell(PlaceKind::Cluster, None, false),
    cell(PlaceKind::LinkLocal, None, false),
    cell(PlaceKind::Metadata, None, true),
    cell(PlaceKind::Multicast, None, false),
    cell(PlaceKind::Reserved, None, false),
    cell(PlaceKind::Loopback, None, false),
];

/// What rules may name. `CUSTOM` is a group of the documents: JP and EFTA.
pub(crate) const JURISDICTIONS: [&str; 16] = [
    "DE",
    "FR",
    "NO",
    "US",
    "GB",
    "EU",
    "EEA",
    "EFTA",
    "GDPR-ADEQUATE",
    "CUSTOM",
    "UNKNOWN",
    "ANYCAST",
    "PRIVATE",
    "CLUSTER",
    "METADATA",
    "RESERVED",
];

/// Which CIDRs rules may name, by the cells that they take in: `(first cell, how many, text)`.
pub(crate) const CIDRS: [(usize, usize, &str); 6] = [
    (0, 1, "20.0.0.0/16"),
    (0, 4, "20.0.0.0/14"),
    (4, 4, "20.4.0.0/14"),
    (8, 8, "20.8.0.0/13"),
    (9, 1, "20.9.0.0/16"),
    (0, 16, "0.0.0.0/0"),
];

/// Names of `protocols` with the numbers that each opens; `raw` is what is left.
pub(crate) const PROTOCOLS: [(&str, &[u8]); 12] = [
    ("icmp", &[1, 58]),
    ("udplite", &[136]),
    ("sctp", &[132]),
    ("dccp", &[33]),
    ("igmp", &[2]),
    ("gre", &[47]),
    ("ipip", &[4]),
    ("sit", &[41]),
    ("esp", &[50]),
    ("ah", &[51]),
    ("l2tp", &[115]),
    ("raw", &[]),
];

/// Cgroups: a small tree.
pub(crate) const PATHS: [&str; 5] = ["/a", "/a/b", "/a/b/c", "/ab", "/d"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Allow,
    Block,
}

/// A port range as written: transport, first, last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortRange {
    pub(crate) transport: Option<&'static str>,
    pub(crate) from: u16,
    pub(crate) to: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleModel {
    pub(crate) jurisdictions: Vec<&'static str>,
    /// Positions in [`CIDRS`].
    pub(crate) cidrs: Vec<usize>,
    pub(crate) ports: Vec<PortRange>,
}

#[derive(Clone, Debug)]
pub(crate) enum Subjects {
    All,
    /// Positions in [`PATHS`].
    Paths(Vec<usize>),
}

#[derive(Clone, Debug)]
pub(crate) struct FenceModel {
    pub(crate) enforce: bool,
    pub(crate) subjects: Subjects,
    /// cluster, private, linkLocal
    pub(crate) internal: [Word; 3],
    pub(crate) judge_inbound: bool,
    pub(crate) allow: Vec<RuleModel>,
    pub(crate) block: Vec<RuleModel>,
    pub(crate) default: Word,
    pub(crate) unknown: Option<Word>,
    pub(crate) dns: Word,
    /// As written: names of [`PROTOCOLS`].
    pub(crate) protocols: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct ExceptionModel {
    /// Position of the fence.
    pub(crate) fence: usize,
    /// `None`: all of the fence's workloads.
    pub(crate) subjects: Option<Subjects>,
    pub(crate) allow: Vec<RuleModel>,
    /// Seconds after [`EPOCH`].
    pub(crate) not_before: Option<i64>,
    pub(crate) expires_at: i64,
}

/// Time of the tests: seconds since 1970 of 2026-11-20T12:00:00Z. Windows lie within [`SPAN`] of it.
pub(crate) const EPOCH: i64 = 1_795_176_000;
/// Seconds.
pub(crate) const SPAN: i64 = 100;
/// Seconds from the boot of the machine that the tests pretend to be to [`EPOCH`]: some windows began before it.
pub(crate) const BOOTED_BEFORE: i64 = 30;

#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyModel {
    /// A fence's name is `f` and its number.
    pub(crate) fences: Vec<FenceModel>,
    /// An exception's name is `x` and its number.
    pub(crate) exceptions: Vec<ExceptionModel>,
}

/// Where a flow goes: a cell over IPv4, in one of its disguises, or over IPv6, or two cells by Teredo.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Remote {
    V4(usize),
    Mapped(usize),
    Nat64(usize),
    SixToFour(usize),
    V6(usize),
    Teredo { server: usize, client: usize },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowModel {
    /// Position in [`PATHS`], or the root for none of them.
    pub(crate) workload: Option<usize>,
    pub(crate) remote: Remote,
    /// `None`: the port is not known.
    pub(crate) port: Option<u16>,
    pub(crate) protocol: u8,
    pub(crate) inbound: bool,
    pub(crate) routed: bool,
    /// Nanoseconds after [`EPOCH`], may be negative.
    pub(crate) at: i64,
}
