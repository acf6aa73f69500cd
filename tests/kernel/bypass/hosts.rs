//! Rows about the host: other programs on our cgroups, packets that nobody can read, and who was there first.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use agent_tests::actor::{Actor, Family, Kind, Profile};
use agent_tests::bpf::{ALLOW_MULTI, ALLOW_OVERRIDE, Rewriter};
use agent_tests::cgroup::Cgroup;
use agent_tests::craft::{ETH_V4, ethernet};
use agent_tests::node::GATEWAY;
use anyhow::{Result, bail, ensure};

use super::fate::{Arms, Fate, Finding};
use super::pods::{Aim, Member};
use super::stage::{AT_CONNECT, Stage, all, datagram};
use super::{Row, rows_of};
use crate::flows::PORT;
use crate::policies::eea_only;
use crate::scene::Scene;

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("hybrid-exec", hybrid_exec),
            ("program-order", program_order),
            ("program-override", program_override),
            ("unreadable-packet", unreadable_packet),
            ("node-boot", node_boot),
        ],
    )
}

/// What an exec into a container is on such a host: a process in the container's namespaces, but not in its place of
/// the v2 tree.
fn hybrid_exec(stage: &mut Stage) -> Result<Finding> {
    if !Path::new("/sys/fs/cgroup/unified").exists() {
        return Ok(Finding::NotHere("this host has cgroup v2 alone".into()));
    }
    let aim = Aim::v4(160);
    let elsewhere = Cgroup::root()?;
    let mut exec = Actor::start_as(Profile::None, stage.scene.near(), &elsewhere)?;
    datagram(&mut exec, (aim.forbidden, PORT).into())?;
    ensure!(stage.frames_to(aim.forbidden)? > 0, "a process outside the tree is fenced: the row is wrong");
    Ok(Finding::Fate(Fate::OutOfScope))
}

/// Programs of cgroups further down run first, so ours is asked about what they have made of the address.
fn program_order(stage: &mut Stage) -> Result<Finding> {
    foreign(stage, ALLOW_MULTI, [161, 162])
}

/// The old flags (none, and "override") may be used below our links, and do not replace them.
fn program_override(stage: &mut Stage) -> Result<Finding> {
    all([foreign(stage, ALLOW_OVERRIDE, [163, 164])?, foreign(stage, 0, [165, 166])?]
        .into_iter()
        .map(fate)
        .collect::<Result<Vec<_>>>()?)
}

fn fate(finding: Finding) -> Result<Fate> {
    match finding {
        Finding::Fate(fate) => Ok(fate),
        Finding::NotHere(reason) => bail!("cannot be tried: {reason}"),
    }
}

/// A program on a child of the workload's cgroup sends every connect elsewhere: from an allowed address to a
/// forbidden one, then the other way round.
fn foreign(stage: &mut Stage, flags: u32, lasts: [u8; 2]) -> Result<Finding> {
    let [said, aim] = lasts.map(Aim::v4);
    let connect = |actor: &mut Actor, to: IpAddr| {
        ensure!(actor.open("tcp", Family::V4, Kind::Tcp)?.is_done(), "no socket");
        let answer = actor.connect("tcp", SocketAddr::new(to, PORT))?;
        actor.reset("tcp")?;
        Ok(answer)
    };
    let rewriting = |parent: &Cgroup, to: IpAddr, said: IpAddr| -> Result<_> {
        let child = parent.child("rewritten")?;
        let IpAddr::V4(v4) = to else { bail!("a program of this test rewrites IPv4") };
        let program = Rewriter::attach(&child, v4, flags)?;
        let mut actor = Actor::start_as(Profile::None, stage.scene.near(), &child)?;
        let answer = connect(&mut actor, said);
        drop((actor, program, child));
        answer
    };
    // Unfenced: the program works, for the frames go where it says.
    rewriting(&stage.scene.other, aim.forbidden, said.allowed)?;
    let unfenced = stage.frames_to(aim.forbidden)?;
    let answer = rewriting(&stage.scene.crm, aim.forbidden, said.allowed)?;
    ensure!(answer.outcome.is_error("EPERM"), "rewritten to a forbidden address: {:?}", answer.outcome);
    stage.told(aim.forbidden, &AT_CONNECT)?;
    let forbidden = stage.frames_to(aim.forbidden)? - unfenced;
    // The address that the call names does not matter, either way.
    let answer = rewriting(&stage.scene.crm, aim.allowed, said.forbidden)?;
    ensure!(answer.is_done(), "rewritten to an allowed address: {:?}", answer.outcome);
    let arms = Arms { unfenced, forbidden, allowed: stage.frames_to(aim.allowed)? };
    println!("  flags {flags}: {arms:?}");
    Ok(Finding::Fate(arms.fate()?))
}

/// Of [`unreadable_packet`]: nothing else goes there.
const UNREADABLE: IpAddr = Aim::v4(167).forbidden;
/// Ethernet type for local experiments (IEEE 802).
const FOREIGN: u16 = 0x88b5;
/// Ethernet type of a VLAN tag (IEEE 802.1Q).
const VLAN: u16 = 0x8100;

/// Frames that end too early, lie about their version, wear a tag, and are of a type that nobody judges.
fn unreadable_packet(stage: &mut Stage) -> Result<Finding> {
    fn cut(member: &Member) -> Vec<u8> {
        member.frame(&member.datagram(UNREADABLE)[..20])
    }
    fn lying(member: &Member) -> Vec<u8> {
        let mut packet = member.datagram(UNREADABLE);
        packet[0] = 0x55; // version 5
        ethernet(GATEWAY, member.pod.mac, ETH_V4, &packet)
    }
    fn tagged(member: &Member) -> Vec<u8> {
        let tag = [0, 7, 0x08, 0]; // VLAN 7, then IPv4
        ethernet(GATEWAY, member.pod.mac, VLAN, &[&tag[..], &member.datagram(UNREADABLE)].concat())
    }
    fn foreign(member: &Member) -> Vec<u8> {
        ethernet(GATEWAY, member.pod.mac, FOREIGN, b"ringfence")
    }
    let pods = stage.pods()?;
    let kinds = [
        ("cut short", ETH_V4, cut as fn(&Member) -> Vec<u8>),
        ("of no version", ETH_V4, lying),
        // The kernel takes the tag off before the judge sees the frame.
        ("behind a VLAN tag", ETH_V4, tagged),
        ("of a foreign type", FOREIGN, foreign),
    ];
    let mut fates = Vec::new();
    for (what, kind, frame) in kinds {
        let count = |member: &Member| -> Result<u64> {
            // Whether the judge can read them or not.
            let arrived = || {
                Ok::<_, anyhow::Error>(
                    pods.sniffer.unread_frames(kind)? + pods.sniffer.frames_to(UNREADABLE)?.frames,
                )
            };
            let before = arrived()?;
            member.frames(vec![frame(member); 3])?;
            Ok(arrived()? - before)
        };
        let arms = Arms { unfenced: count(&pods.open)?, forbidden: count(&pods.layered)?, allowed: 0 };
        println!("  {what}: {arms:?}");
        fates.push(arms.fate()?);
    }
    pods.layered_event("the unreadable frame", |event| {
        event.is("reason", "Fault") && event.is("hook", "Host")
    })?;
    all(fates)
}

/// Nothing is fenced before the agent has started once: pins do not outlive a boot.
fn node_boot(_: &mut Stage) -> Result<Finding> {
    let scene = Scene::new()?;
    let [before, after] = [168, 169].map(Aim::v4);
    let mut crm = scene.crm_actor()?;
    datagram(&mut crm, (before.forbidden, PORT).into())?;
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let _agent = setup.start()?;
    let answer = datagram(&mut crm, (after.forbidden, PORT).into())?;
    ensure!(answer.outcome.is_error("EPERM"), "once the agent runs: {:?}", answer.outcome);
    ensure!(scene.sniffer.frames_to(after.forbidden)?.frames == 0, "the fence does not hold");
    ensure!(scene.sniffer.frames_to(before.forbidden)?.frames > 0, "nothing was sent before");
    Ok(Finding::Fate(Fate::OutOfScope))
}
