use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Facts, Gap, Home, Seat, plan};
use crate::hostlayer::census::{Census, Netns};
use crate::hostlayer::rtnl::{Link, NetnsId};

const OURS: Netns = Netns(1);
const POD: Netns = Netns(2);
const CRM: u32 = 7;
const LLM: u32 = 8;
const VETH: u32 = 30;

fn link(index: u32, name: &str, kind: &str, peer: Option<u32>, peer_namespace: Option<i32>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        is_up: true,
        is_loopback: name == "lo",
        peer,
        peer_namespace: peer_namespace.map(NetnsId),
    }
}

/// `crm` alone in a pod with one veth.
struct World {
    census: Census,
    links: Vec<Link>,
    homes: BTreeMap<Netns, Home>,
    guarded: BTreeMap<u32, u32>,
    settled: BTreeSet<Netns>,
}

impl World {
    fn new() -> Self {
        let mut census = Census::default();
        census.tenants.entry(POD).or_default().insert(CRM, 100);
        let home = Home {
            id: Some(NetnsId(4)),
            links: vec![link(1, "lo", "", None, None), link(2, "eth0", "veth", Some(VETH), Some(0))],
            addresses: vec!["10.0.0.2".parse().expect("an address")],
        };
        Self {
            census,
            links: vec![
                link(1, "lo", "", None, None),
                link(2, "eth0", "", None, None),
                link(VETH, "veth1", "veth", Some(2), Some(4)),
                link(31, "veth2", "veth", Some(2), Some(5)),
            ],
            homes: BTreeMap::from([(POD, home)]),
            guarded: BTreeMap::new(),
            settled: BTreeSet::new(),
        }
    }

    fn plan(&self) -> Vec<Seat> {
        let facts = Facts {
            census: &self.census,
            ours: OURS,
            links: &self.links,
            homes: &self.homes,
            guarded: &self.guarded,
            settled: &self.settled,
        };
        plan(&facts, &BTreeSet::from([CRM, LLM]))
    }

    fn only(&self) -> Seat {
        let mut seats = self.plan();
        assert_eq!(seats.len(), 1, "{seats:?}");
        seats.remove(0)
    }

    fn home(&mut self) -> &mut Home {
        self.homes.get_mut(&POD).expect("the pod's")
    }
}

#[test]
fn the_veth_that_leads_to_the_workload_is_guarded_and_no_other() {
    let seat = World::new().only();
    let guarded: Vec<_> = seat.guard.iter().map(|t| (t.index, t.name.as_str())).collect();
    assert_eq!((guarded, seat.gaps), (vec![(VETH, "veth1")], vec![]));
    assert_eq!(seat.guard[0].addresses, ["10.0.0.2".parse::<IpAddr>().expect("an address")]);
}

#[test]
fn the_hosts_network_has_nothing_to_guard() {
    let mut world = World::new();
    world.census.tenants = BTreeMap::from([(OURS, BTreeMap::from([(CRM, 100)]))]);
    let seat = world.only();
    assert_eq!((seat.guard, seat.gaps), (vec![], vec![Gap::HostNetwork]));
}

#[test]
fn two_workloads_in_one_namespace_are_both_unguarded() {
    let mut world = World::new();
    world.census.tenants.entry(POD).or_default().insert(LLM, 200);
    let gaps: Vec<_> = world.plan().into_iter().map(|s| (s.workload, s.guard.len(), s.gaps)).collect();
    assert_eq!(gaps, [(CRM, 0, vec![Gap::Shared { pid: 200 }]), (LLM, 0, vec![Gap::Shared { pid: 100 }])]);
}

#[test]
fn a_stranger_who_passes_by_does_not_end_a_guard_and_one_who_stays_does() {
    let mut world = World::new();
    world.census.strangers.insert(POD, 300);
    assert_eq!(world.only().gaps, [Gap::Shared { pid: 300 }], "nothing is guarded yet");
    world.guarded.insert(VETH, CRM);
    assert_eq!(world.only().gaps, [], "guarded, and seen once");
    world.settled.insert(POD);
    assert_eq!(world.only().gaps, [Gap::Shared { pid: 300 }], "seen twice");
}

#[test]
fn a_namespace_that_no_veth_leads_to_is_said() {
    let mut world = World::new();
    world.home().id = None;
    assert_eq!(world.only().gaps, [Gap::NoVeth]);
    world.home().id = Some(NetnsId(9));
    assert_eq!(world.only().gaps, [Gap::NoVeth]);
    world.homes.clear();
    assert_eq!(world.only().gaps, [Gap::NoVeth]);
}

#[test]
fn a_second_way_out_is_said_beside_what_is_guarded() {
    let mut world = World::new();
    let inside = &mut world.home().links;
    inside.push(link(3, "net1", "macvlan", Some(2), Some(0)));
    inside.push(link(4, "vf0", "", None, None));
    inside.push(link(5, "tun0", "tun", None, None));
    inside.push(link(6, "other", "veth", Some(1), Some(6)));
    let mut down = link(7, "net2", "ipvlan", Some(2), Some(0));
    down.is_up = false;
    inside.push(down);
    let seat = world.only();
    let said: Vec<_> = seat.gaps.iter().map(ToString::to_string).collect();
    assert_eq!(seat.guard.len(), 1);
    assert_eq!(said.len(), 3, "{said:?}");
    for (text, name) in said.iter().zip(["net1", "vf0", "other"]) {
        assert!(text.starts_with(name), "{text}");
    }
}

#[test]
fn processes_that_cannot_be_seen_are_said() {
    let mut world = World::new();
    world.census.hidden.insert(LLM);
    let seats = world.plan();
    assert_eq!((seats[0].workload, &seats[0].gaps), (LLM, &vec![Gap::Hidden]));
    assert_eq!(seats[1].guard.len(), 1);
}
