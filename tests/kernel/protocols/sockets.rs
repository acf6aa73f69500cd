//! `socket(2)`: what no fence of the task opens is refused with EPERM and told once, with the name that would open it.

use std::fs;

use agent_tests::actor::{Actor, Outcome as Ended};
use agent_tests::agent::Agent;
use agent_tests::events::{Event, Watch};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::{Kind, REPORTED, policy};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const SOCK_DCCP: i32 = 6;

const fn kind(name: &'static str, numbers: [i32; 3], opened_by: &'static str, said: &'static str) -> Kind {
    let [domain, kind, protocol] = numbers;
    Kind { name, domain, kind, protocol, opened_by, said }
}

/// Raw sockets need `raw` whatever they carry; the rest goes by its protocol.
pub(super) const KINDS: [Kind; 12] = [
    kind("raw ICMP", [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP], "raw", "icmp"),
    kind("raw ICMPv6", [libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6], "raw", "icmpv6"),
    kind("raw TCP", [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP], "raw", "tcp"),
    kind("raw of all", [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW], "raw", "255"),
    kind("ping", [libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP], "icmp", "icmp"),
    kind("ping over IPv6", [libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6], "icmp", "icmpv6"),
    kind("UDP-Lite", [libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE], "udplite", "udplite"),
    kind(
        "UDP-Lite over IPv6",
        [libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE],
        "udplite",
        "udplite",
    ),
    kind("SCTP", [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP], "sctp", "sctp"),
    kind("SCTP one to many", [libc::AF_INET6, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP], "sctp", "sctp"),
    kind("DCCP", [libc::AF_INET, SOCK_DCCP, libc::IPPROTO_DCCP], "dccp", "dccp"),
    kind("L2TP", [libc::AF_INET, libc::SOCK_DGRAM, 115], "l2tp", "l2tp"),
];

/// Judged by where they send: no name opens or closes them.
const ALWAYS: [Kind; 4] = [
    kind("TCP", [libc::AF_INET, libc::SOCK_STREAM, 0], "", ""),
    kind("UDP", [libc::AF_INET, libc::SOCK_DGRAM, 0], "", ""),
    kind("TCP over IPv6", [libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP], "", ""),
    kind("MPTCP", [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP], "", ""),
];

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "protocols::sockets_that_no_fence_opens_are_refused_and_told_with_the_name_that_would",
            refused,
        ),
        trial(Place::Anywhere, "protocols::an_audit_fence_tells_and_lets_the_socket_be_made", audited),
    ]
}

/// A new network namespace gives ping sockets to nobody; container engines give them to everybody.
pub(super) fn let_everybody_ping(scene: &Scene) -> Result<()> {
    scene
        .near()
        .run(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("ping_group_range"))
}

/// The kinds that this kernel has, by trying: more than half of them everywhere.
pub(super) fn in_this_kernel(actor: &mut Actor) -> Result<Vec<Kind>> {
    let mut there = Vec::new();
    for kind in KINDS {
        match kind.open(actor)? {
            Ended::Done => there.push(kind),
            Ended::Failed(error) => {
                let missing = ["EPROTONOSUPPORT", "ESOCKTNOSUPPORT"].contains(&error.as_str());
                ensure!(missing, "{} without a fence: {error}", kind.name);
                println!("{} is not in this kernel", kind.name);
            }
        }
    }
    ensure!(there.len() > KINDS.len() / 2, "this kernel has next to nothing: {there:?}");
    Ok(there)
}

fn refused() -> Result<Outcome> {
    let scene = Scene::new()?;
    let_everybody_ping(&scene)?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let kinds = in_this_kernel(&mut crm)?;

    let setup = scene.agent()?.policy(&policy(&scene, "Enforce", &[]))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for kind in &kinds {
        let ended = kind.open(&mut crm)?;
        ensure!(ended.is_error("EPERM"), "{} in the fence: {ended:?}", kind.name);
        ensure!(kind.open(&mut other)? == Ended::Done, "{} outside the fence", kind.name);
    }
    are_told(&watch, &agent, &crm, &kinds, "Block")?;
    for kind in ALWAYS {
        let ended = kind.open(&mut crm)?;
        let missing = ended.is_error("EPROTONOSUPPORT") || ended.is_error("ENOPROTOOPT");
        ensure!(ended == Ended::Done || missing && kind.name == "MPTCP", "{}: {ended:?}", kind.name);
    }

    // The mutant: without the hook they are made again.
    agent.stop()?;
    for kind in &kinds {
        ensure!(kind.open(&mut crm)? == Ended::Done, "{} is refused without an agent", kind.name);
    }
    Ok(Outcome::Passed)
}

fn audited() -> Result<Outcome> {
    let scene = Scene::new()?;
    let_everybody_ping(&scene)?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?.policy(&policy(&scene, "Audit", &[]))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let kinds = in_this_kernel(&mut crm)?;
    are_told(&watch, &agent, &crm, &kinds, "Allow")?;
    Ok(Outcome::Passed)
}

/// The events of sockets of these kinds: one each, with hook, protocol, who made it, and the name to open it by. Kinds
/// that are told alike are told one after the other.
fn are_told(watch: &Watch, agent: &Agent, crm: &Actor, kinds: &[Kind], verdict: &str) -> Result<()> {
    for kind in kinds {
        let alike = kinds.iter().filter(|k| (k.said, k.opened_by) == (kind.said, kind.opened_by)).count();
        let mine = |event: &&Event| {
            event.is("hook", "SockCreate")
                && event.is("protocol", kind.said)
                && event.is("rule", kind.opened_by)
        };
        let what = format!("{alike} events of {} sockets", kind.name);
        let told = watch
            .wait_until(&what, REPORTED, |events| {
                let told: Vec<Event> = events.iter().filter(mine).cloned().collect();
                (told.len() >= alike).then_some(told)
            })
            .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
        ensure!(told.len() == alike, "{what}: {} came", told.len());
        for event in told {
            let as_promised = event.is("kind", "violation")
                && event.is("phase", "Open")
                && event.is("reason", "Protocol")
                && event.is("verdict", verdict)
                && event.is("would_be", "Block")
                && event.number("pid") == Some(crm.pid().into());
            ensure!(as_promised, "{what}: {}", event.0);
        }
    }
    Ok(())
}
