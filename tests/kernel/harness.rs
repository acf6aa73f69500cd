//! The harness judged by itself, without an agent: a test world that lies would make every other test
//! worthless.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_tests::actor::{Actor, Command, Family, Kind, Outcome as Call, Repeat};
use agent_tests::cgroup::Cgroup;
use agent_tests::netlink::{Netlink, Via};
use agent_tests::netns::Netns;
use agent_tests::sniffer::Sniffer;
use agent_tests::world::World;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo, shapes};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "harness::a_world_with_another_way_out_is_refused", other_way_out),
        trial(Place::Anywhere, "harness::an_actor_is_in_its_cgroup_and_namespace_from_the_start", placed),
        trial(
            Place::Anywhere,
            "harness::the_sniffer_counts_every_datagram_and_none_that_was_not_sent",
            counts,
        ),
        trial(Place::Anywhere, "harness::every_kind_of_flow_is_echoed_and_seen", echoes),
        trial(Place::Anywhere, "harness::the_judge_tells_a_stopped_flow_from_a_passing_one", notices),
        trial(Place::Anywhere, "harness::a_cgroup_with_a_living_member_is_removed", removed),
        trial(
            Place::Anywhere,
            "harness::the_loopback_world_carries_what_the_pair_of_namespaces_does",
            loopback,
        ),
    ]
}

fn other_way_out() -> Result<Outcome> {
    let world = World::any()?;
    if world.is_loopback() {
        return Ok(Outcome::Skipped("this kernel has no veth to open a way out with".into()));
    }
    world.assert_closed()?;
    let elsewhere = Netns::new()?;
    world.near().run(|| Netlink::open()?.add_veth("way-out", "outside", elsewhere.fd()))?;
    world.assert_closed()?;
    world.near().run(|| Netlink::open()?.set_up("way-out", true))?;
    ensure!(world.assert_closed().is_err(), "a third link is up and the world calls itself closed");
    Ok(Outcome::Passed)
}

fn placed() -> Result<Outcome> {
    let world = World::any()?;
    let root = Cgroup::root()?;
    let crm = root.child("crm")?;
    let mut actor = Actor::start(world.near(), &crm)?;
    let answer = actor.tell(&Command::Identify)?;
    ensure!(answer.cgroup.as_deref() == Some(crm.name()), "cgroup {:?}, not {}", answer.cgroup, crm.name());
    ensure!(answer.netns == Some(world.near().inode()?), "the actor is in another namespace");
    let pid = i32::try_from(actor.pid())?;
    ensure!(crm.members()? == [pid], "the cgroup holds {:?}, not {pid}", crm.members()?);
    Ok(Outcome::Passed)
}

fn counts() -> Result<Outcome> {
    let world = World::any()?;
    let root = Cgroup::root()?;
    let sniffer = Sniffer::start(&world)?;
    let mut actor = Actor::start(world.near(), &root)?;
    let to = [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(13, 110, 54, 10)), 7),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, 0, 7)), 7),
    ];
    let load = |rounds| Command::Load {
        what: Repeat::SendTo,
        to: to.to_vec(),
        for_ms: 20_000,
        rounds,
        until: None,
        pause_us: 0,
    };
    for rounds in [1, 1000] {
        let before = to.map(|to| sniffer.frames_to(to.ip()).map(|count| count.with_payload));
        let answer = actor.tell(&load(rounds))?;
        for (to, before) in to.into_iter().zip(before) {
            // A port without a server: the ICMP answers may turn sends into ECONNREFUSED, but none is lost.
            let done = answer.times(to, "done");
            let arrived = sniffer.frames_to(to.ip())?.with_payload - before?;
            ensure!(done > 0 && arrived == done, "{to}: {done} sent, {arrived} arrived ({:?})", answer.tally);
        }
    }
    ensure!(
        sniffer.frames_to(IpAddr::V4(Ipv4Addr::new(13, 110, 54, 99)))?.frames == 0,
        "frames out of nothing"
    );
    Ok(Outcome::Passed)
}

fn echoes() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    for shape in shapes() {
        for destination in [Destination::Forbidden, Destination::Allowed] {
            let before = shape.arrived(&scene.sniffer, destination, PORT)?;
            must_echo(&mut crm, shape, shape.target(destination, PORT), "no agent")?;
            let after = shape.arrived(&scene.sniffer, destination, PORT)?;
            ensure!(after.with_payload > before.with_payload, "{} was echoed but not seen", shape.name());
        }
    }
    Ok(Outcome::Passed)
}

/// A blackhole route stands in for the fence.
fn notices() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let shape = Shape { address: Address::V4, used: Use::UdpUnconnected };
    let to = shape.target(Destination::Forbidden, PORT);
    must_echo(&mut crm, shape, to, "no route in the way")?;
    let before = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    scene.near().run(|| Netlink::open()?.add_route(to.ip(), 32, 0, Via::Blackhole))?;
    let mut flow = Flow::open(&mut crm, shape, to)?;
    let exchange = flow.exchange(&mut crm, false)?;
    let after = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    ensure!(!exchange.echoed && exchange.send != Call::Done, "through a blackhole: {exchange:?}");
    ensure!(after == before, "the sniffer saw frames that a blackhole swallowed: {before:?} to {after:?}");
    must_echo(&mut crm, shape, shape.target(Destination::Allowed, PORT), "beside the blackhole")?;
    Ok(Outcome::Passed)
}

fn removed() -> Result<Outcome> {
    let world = World::any()?;
    let root = Cgroup::root()?;
    let crm = root.child("crm")?;
    let path = crm.path().to_owned();
    let mut actor = Actor::start(world.near(), &crm)?;
    ensure!(actor.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket");
    drop(crm);
    ensure!(!path.exists(), "{} is still there", path.display());
    ensure!(actor.open("t", Family::V4, Kind::Udp).is_err(), "the member is still alive");
    Ok(Outcome::Passed)
}

fn loopback() -> Result<Outcome> {
    let scene = Scene::in_world(World::loopback()?)?;
    let mut crm = scene.crm_actor()?;
    for shape in shapes() {
        let before = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
        must_echo(&mut crm, shape, shape.target(Destination::Forbidden, PORT), "on lo")?;
        let after = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
        ensure!(after.with_payload > before.with_payload, "{} was echoed on lo but not seen", shape.name());
    }
    Ok(Outcome::Passed)
}
