//! Rows beside the hooks: other devices, the kernel's own sockets, and root on the node.

use std::fs;
use std::net::SocketAddr;

use agent_tests::actor::{Actor, Family, Kind, Profile, Raw};
use agent_tests::bpf::detach_links;
use agent_tests::netlink::{Netlink, Tunnel};
use anyhow::{Context, Result, ensure};

use super::fate::{Arms, Fate, Finding};
use super::pods::Aim;
use super::stage::{Stage, datagram};
use super::{Row, rows_of};
use crate::flows::PORT;
use crate::policies::eea_only;
use crate::scene::Scene;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("rdma", rdma),
            ("second-nic", second_nic),
            ("kernel-sockets", kernel_sockets),
            ("link-detach", link_detach),
            ("own-cgroupfs", own_cgroupfs),
        ],
    )
}

/// Needs the hardware (or soft-RoCE). Where a device is present, it is named.
fn rdma(_: &mut Stage) -> Result<Finding> {
    let devices = fs::read_dir("/sys/class/infiniband").map(|list| list.flatten().count()).unwrap_or(0);
    ensure!(devices == 0, "{devices} RDMA devices: this host could show the escape, and no test does");
    Ok(Finding::NotHere("no RDMA device".into()))
}

/// A card of the workload's own, joined to the world and not to the node: ordinary sockets on it are judged, frames
/// are not, for there is no host side to judge them on.
fn second_nic(stage: &mut Stage) -> Result<Finding> {
    const NIC: &str = "eth1";
    let pods = stage.pods()?;
    let (far, aim, by_socket) = (pods.node.world().far(), Aim::v4(150), Aim::v4(151));
    for (member, far_end) in [(&pods.open, "rf-nic-1"), (&pods.layered, "rf-nic-2")] {
        member.pod.namespace.run(|| Netlink::open()?.add_veth(NIC, far_end, far.fd()))?;
        far.run(|| Netlink::open()?.set_up(far_end, true))?;
        member.pod.namespace.run(|| {
            let mut netlink = Netlink::open()?;
            netlink.set_up(NIC, true)?;
            let index = netlink.link(NIC)?.index;
            netlink.add_neighbour_route(by_socket.forbidden, index)
        })?;
    }
    let arms = pods.arms(&pods.layered, aim, |member, to| {
        let frames = vec![member.frame(&member.datagram(to)); 3];
        member.act(Profile::NetRaw, Raw::Frames { link: NIC.into(), frames })
    })?;
    let answer =
        datagram(&mut pods.layered.actor(Profile::NetRaw).borrow_mut(), (by_socket.forbidden, PORT).into())?;
    ensure!(answer.outcome.is_error("EPERM"), "a socket on the second card: {:?}", answer.outcome);
    Ok(Finding::Fate(arms.fate()?))
}

/// A tunnel's socket stands for the kernel's own sockets, which file systems and block devices over the network use:
/// made inside the kernel, past `sock_create`, and no workload's.
fn kernel_sockets(stage: &mut Stage) -> Result<Finding> {
    let pods = stage.pods()?;
    let (aim, inner) = (Aim::v4(152), Aim::v4(116).allowed);
    let arms = pods.arms(&pods.hooked, aim, |member, remote| {
        let link = || "rf-mount".to_owned();
        let made = Raw::Tunnel { tunnel: Tunnel::Vxlan, link: link(), remote, inner };
        let made = member.act(Profile::NetAdmin, made)?;
        ensure!(made.is_done(), "a device with a socket of the kernel's: {:?}", made.outcome);
        let answer = datagram(&mut member.actor(Profile::NetRaw).borrow_mut(), SocketAddr::new(inner, PORT))?;
        member.act(Profile::NetAdmin, Raw::Remove { link: link() })?;
        Ok(answer)
    })?;
    Ok(Finding::Fate(arms.fate()?))
}

/// Root on the node takes our links off by their numbers.
fn link_detach(_: &mut Stage) -> Result<Finding> {
    // Its own fence: it is broken for good.
    let scene = Scene::new()?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    let [held, gone, allowed] = [153, 154, 155].map(Aim::v4);
    let mut crm = scene.crm_actor()?;
    let answer = datagram(&mut crm, (held.forbidden, PORT).into())?;
    ensure!(answer.outcome.is_error("EPERM"), "before: {:?}", answer.outcome);
    ensure!(scene.sniffer.frames_to(held.forbidden)?.frames == 0, "the fence did not hold to begin with");

    let links = detach_links(&scene.root)?;
    println!("  {links} links detached by number");
    datagram(&mut crm, (gone.forbidden, PORT).into())?;
    datagram(&mut crm, (allowed.allowed, PORT).into())?;
    let mut other = scene.other_actor()?;
    datagram(&mut other, (held.forbidden, PORT).into())?;
    let arms = Arms {
        unfenced: scene.sniffer.frames_to(held.forbidden)?.frames,
        forbidden: scene.sniffer.frames_to(gone.forbidden)?.frames,
        allowed: scene.sniffer.frames_to(allowed.allowed)?.frames,
    };
    drop(agent);
    Ok(Finding::Fate(arms.fate()?))
}

/// The workload moves itself: what it opens afterwards is another workload's.
fn own_cgroupfs(stage: &mut Stage) -> Result<Finding> {
    let [before, after] = [156, 157].map(Aim::v4);
    let mut crm: Actor = stage.fenced(Profile::None)?;
    ensure!(crm.open("old", Family::V4, Kind::Udp)?.is_done(), "no socket");
    let answer = datagram(&mut crm, (before.forbidden, PORT).into())?;
    ensure!(answer.outcome.is_error("EPERM"), "before the move: {:?}", answer.outcome);
    let cgroup = stage.scene.other.path().to_owned();
    let moved = crm.raw(Raw::Move { cgroup })?;
    ensure!(moved.is_done(), "cgroup.procs: {:?}", moved.outcome);
    // The old socket stays what it was.
    let answer = crm.send_to("old", (before.forbidden, PORT).into(), 32)?;
    ensure!(answer.outcome.is_error("EPERM"), "the old socket after the move: {:?}", answer.outcome);
    ensure!(stage.frames_to(before.forbidden)? == 0, "the fence did not hold before the move");
    datagram(&mut crm, (after.forbidden, PORT).into()).context("after the move")?;
    let escaped = stage.frames_to(after.forbidden)?;
    ensure!(escaped > 0, "a move to another cgroup changed nothing");
    Ok(Finding::Fate(Fate::OutOfScope))
}
