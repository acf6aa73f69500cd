//! A socket that has no room for the fence's memory. Socket storage is charged to the socket's option memory
//! (`bpf_sk_storage_charge`, `net.core.optmem_max`), which any workload can fill up by itself. Its flows are judged all
//! the same, and told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_tests::actor::{Actor, Call, Outcome as Ended, Profile};
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::{REPORTED, frames, policy, send, told};
use crate::flows::PORT;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// The loopback device has this index in every namespace.
const LOOPBACK: u32 = 1;
/// `optmem_max` is 20 KiB before 6.7 and 128 KiB since; a membership takes 40 bytes or more.
const MOST_GROUPS: u16 = 8000;
const FULL: &str = "full";

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        Place::Anywhere,
        "protocols::no_frame_from_a_socket_that_has_no_room_for_the_fences_memory_and_it_is_told",
        full,
    )]
}

fn full() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = Actor::start_as(Profile::None, scene.near(), &scene.crm)?;
    let (domain, kind) = (libc::AF_INET6, libc::SOCK_DGRAM);
    ensure!(crm.call(Call::Socket { name: FULL.into(), domain, kind, protocol: 0 })?.is_done(), "no socket");
    fill(&mut crm)?;
    let forbidden: [IpAddr; 2] =
        [Ipv4Addr::new(13, 110, 95, 1).into(), Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, 0x95, 1).into()];
    let allowed: IpAddr = Ipv6Addr::new(0x2a01, 0x4f8, 0, 0, 0, 0, 0x95, 1).into();
    for to in forbidden {
        ensure!(datagram(&scene, &mut crm, to)?.0 == 1, "without a fence, nothing arrives at {to}");
    }

    let setup = scene.agent()?.policy(&policy(&scene, "Enforce", &[]))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for to in forbidden {
        let (leaked, ended) = datagram(&scene, &mut crm, to)?;
        ensure!(leaked == 0 && ended.is_error("EPERM"), "LEAK: {leaked} frames to {to}: {ended:?}");
        let event = told(&watch, to, "Default")?;
        ensure!(event.is("cgroup", scene.crm.name()) && event.is("hook", "Egress"), "{}", event.0);
        // Told by itself, and not silently let through, at connect too.
        let connect = Call::Connect { name: FULL.into(), to: address(to), limit_ms: 1000 };
        let ended = crm.call(connect)?.outcome;
        ensure!(ended.is_error("EPERM"), "connect to {to}: {ended:?}");
    }
    ensure!(datagram(&scene, &mut crm, allowed)?.0 == 1, "an allowed flow was disturbed");
    // The counter says that it was so: there was no memory.
    watch
        .wait_for("the announcement that flows were not remembered", REPORTED, |event| {
            event.is("kind", "lost")
                && event.is("reason", "KernelStateFull")
                && event.number("count") >= Some(4)
        })
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;

    agent.stop()?;
    ensure!(
        datagram(&scene, &mut crm, forbidden[0])?.0 == 1,
        "no agent, and nothing arrives: the judge is blind"
    );
    Ok(Outcome::Passed)
}

/// Joins groups (on loopback, so that nobody hears of it) until the socket's option memory is full.
fn fill(actor: &mut Actor) -> Result<()> {
    let (level, option) = (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP);
    for group in 1..=MOST_GROUPS {
        let mut value = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x7777, group).octets().to_vec();
        value.extend(LOOPBACK.to_ne_bytes());
        let ended = actor.call(Call::Option { name: FULL.into(), level, option, value })?.outcome;
        match ended {
            Ended::Done => {}
            Ended::Failed(error) => {
                ensure!(error == "ENOBUFS" || error == "ENOMEM", "joining group {group}: {error}");
                println!("the socket's option memory is full after {group} groups");
                return Ok(());
            }
        }
    }
    anyhow::bail!("{MOST_GROUPS} groups did not fill the socket's option memory")
}

/// As an IPv6 socket wants it.
fn address(to: IpAddr) -> Vec<u8> {
    let to = match to {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => IpAddr::V6(v6),
    };
    sockaddr::inet(SocketAddr::new(to, PORT))
}

fn datagram(scene: &Scene, actor: &mut Actor, to: IpAddr) -> Result<(u64, Ended)> {
    let mut ended = Ended::Done;
    let count = frames(&scene.sniffer, to, || {
        ended = send(actor, FULL, address(to), b"ringfence")?;
        Ok(())
    })?;
    Ok((count, ended))
}
