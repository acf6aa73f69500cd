//! Which interfaces are guarded, and why others are not: from what a look found, without a look of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::census::{Census, Netns};
use super::rtnl::{Link, NetnsId};

/// What a look found.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// Who lives where.
    pub(super) census: &'a Census,
    /// The agent's own namespace.
    pub(super) ours: Netns,
    /// Interfaces of the agent's namespace.
    pub(super) links: &'a [Link],
    /// The other namespaces of fenced workloads.
    pub(super) homes: &'a BTreeMap<Netns, Home>,
    /// Interfaces that are guarded already, with their workload: a stranger that passes by does not end that.
    pub(super) guarded: &'a BTreeMap<u32, u32>,
    /// Namespaces in which the look before saw the same stranger.
    pub(super) settled: &'a BTreeSet<Netns>,
}

/// A workload's namespace, seen from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Home {
    /// How we call it; `None`: no interface of ours leads there.
    pub(super) id: Option<NetnsId>,
    /// Its interfaces.
    pub(super) links: Vec<Link>,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// What is to become of one workload in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// The workload.
    pub(super) workload: u32,
    /// The host's sides of its interfaces, to be guarded.
    pub(super) guard: Vec<Target>,
    /// What its packets can do that the guard does not see.
    pub(super) gaps: Vec<Gap>,
}

/// One interface to be guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its index.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// The addresses that its packets may come from.
    pub(super) addresses: Vec<IpAddr>,
}

/// Why a workload, or an interface of it, is not guarded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    /// It uses the host's network.
    HostNetwork,
    /// Others live in its namespace.
    Shared {
        /// One of their processes.
        pid: u32,
    },
    /// No interface of the host leads to its namespace.
    NoVeth,
    /// Its namespace has a way out that is no veth to the host.
    Direct {
        /// The interface, as it is called inside.
        name: String,
        /// What made it.
        kind: String,
    },
    /// Its processes are in a PID namespace that can't be seen from the agent's.
    Hidden,
    /// The kernel refused.
    Failed(String),
}

impl Gap {
    /// What to do about it.
    pub(super) const fn mend(&self) -> &'static str {
        match self {
            Self::HostNetwork => "give the workload a network namespace of its own",
            Self::Shared { .. } => {
                "fence everything in the namespace by one subject, such as the pod's cgroup"
            }
            Self::NoVeth | Self::Direct { .. } => "connect it to the host by veth only",
            Self::Hidden => "run the agent in the host's PID namespace",
            Self::Failed(_) => "see `ringfence doctor`",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => write!(f, "no own interface: it uses the host's network"),
            Self::Shared { pid } => {
                write!(f, "its network namespace is shared with process {pid}, which is not the workload's")
            }
            Self::NoVeth => write!(f, "no veth of the host leads to its network namespace"),
            Self::Direct { name, kind } if kind.is_empty() => {
                write!(f, "{name} in its network namespace is a device of its own, not a veth to the host")
            }
            Self::Direct { name, kind } => {
                write!(f, "{name} in its network namespace is a {kind}, not a veth to the host")
            }
            Self::Hidden => write!(f, "its processes can't be seen from the agent's PID namespace"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Interfaces inside a namespace that are a way out by themselves; all other kinds lie on another interface, or lead
/// nowhere.
const WAYS_OUT: [&str; 8] = ["", "veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "netkit", "ipoib"];

/// Decides for each fenced workload and namespace; `fenced` are the workloads that some fence matches.
pub(super) fn plan(facts: &Facts<'_>, fenced: &BTreeSet<u32>) -> Vec<Seat> {
    let mut seats = Vec::new();
    let hidden = facts.census.hidden.iter().map(|id| (*id, Gap::Hidden));
    seats.extend(hidden.map(|(workload, gap)| Seat { workload, guard: Vec::new(), gaps: vec![gap] }));
    for (netns, tenants) in &facts.census.tenants {
        for workload in tenants.keys().filter(|id| fenced.contains(id)) {
            let (guard, gaps) = seat(facts, *netns, *workload, tenants);
            seats.push(Seat { workload: *workload, guard, gaps });
        }
    }
    seats
}

fn seat(
    facts: &Facts<'_>,
    netns: Netns,
    workload: u32,
    tenants: &BTreeMap<u32, u32>,
) -> (Vec<Target>, Vec<Gap>) {
    if netns == facts.ours {
        return (Vec::new(), vec![Gap::HostNetwork]);
    }
    let Some(home) = facts.homes.get(&netns) else { return (Vec::new(), vec![Gap::NoVeth]) };
    let Some(id) = home.id else { return (Vec::new(), vec![Gap::NoVeth]) };
    let ours: Vec<&Link> =
        facts.links.iter().filter(|l| l.kind == "veth" && l.peer_namespace == Some(id)).collect();
    let is_guarded = ours.iter().any(|l| facts.guarded.get(&l.index) == Some(&workload));
    if let Some(pid) = other(facts, netns, workload, tenants, is_guarded) {
        return (Vec::new(), vec![Gap::Shared { pid }]);
    }
    if ours.is_empty() {
        return (Vec::new(), vec![Gap::NoVeth]);
    }
    let target =
        |l: &&Link| Target { index: l.index, name: l.name.clone(), addresses: home.addresses.clone() };
    let gaps = home.links.iter().filter(|inside| {
        let is_covered = inside.kind == "veth" && ours.iter().any(|l| l.peer == Some(inside.index));
        inside.is_up && !inside.is_loopback && !is_covered && WAYS_OUT.contains(&inside.kind.as_str())
    });
    let gaps = gaps.map(|l| Gap::Direct { name: l.name.clone(), kind: l.kind.clone() }).collect();
    (ours.iter().map(target).collect(), gaps)
}

/// A process in the namespace that is not the workload's. One of no subject counts at once where nothing is guarded
/// yet, and where something is only if it stays: runtimes and tools pass through namespaces.
fn other(
    facts: &Facts<'_>,
    netns: Netns,
    workload: u32,
    tenants: &BTreeMap<u32, u32>,
    is_guarded: bool,
) -> Option<u32> {
    let tenant = tenants.iter().find(|(id, _)| **id != workload).map(|(_, pid)| *pid);
    let stranger = facts.census.strangers.get(&netns).copied();
    tenant.or(stranger.filter(|_| !is_guarded || facts.settled.contains(&netns)))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
