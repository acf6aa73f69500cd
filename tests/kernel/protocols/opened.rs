//! What a fence opens by name works, and is then judged by where it goes; what it does not open gets nothing out, also
//! over sockets that are older than the fence.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use agent_tests::actor::{Actor, Outcome as Ended};
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::sockets::{KINDS, let_everybody_ping};
use super::{Kind, frames, policy, send, told};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "protocols::what_a_fence_opens_by_name_works_and_goes_where_the_fence_lets_it",
            opened,
        ),
        trial(Place::Anywhere, "protocols::no_frame_from_sockets_that_are_older_than_the_fence", older),
    ]
}

/// An echo request: the kernel numbers and sums it up for ping sockets.
const ECHO: [u8; 12] = [8, 0, 0, 0, 0, 0, 0, 1, b'r', b'r', b'r', b'r'];
/// The same as a raw socket has to write it.
const RAW_ECHO: [u8; 12] = [8, 0, 0xf7, 0xfe, 0, 0, 0, 1, 0, 0, 0, 0];

/// One way to send, with a socket of a kind.
struct Way {
    kind: Kind,
    payload: &'static [u8],
    port: u16,
    last: u8,
}

fn ways() -> Result<Vec<Way>> {
    let of = |name: &str, payload: &'static [u8], port: u16, last: u8| {
        let kind = KINDS.iter().find(|kind| kind.name == name).context("a kind of that name")?;
        anyhow::Ok(Way { kind: *kind, payload, port, last })
    };
    Ok(vec![
        of("ping", &ECHO[..], 0, 1)?,
        of("raw ICMP", &RAW_ECHO[..], 0, 2)?,
        of("UDP-Lite", &b"ringfence"[..], 443, 3)?,
    ])
}

impl Way {
    const fn forbidden(&self) -> Ipv4Addr {
        Ipv4Addr::new(13, 110, 70, self.last)
    }

    const fn allowed(&self) -> Ipv4Addr {
        Ipv4Addr::new(46, 4, 70, self.last)
    }

    /// Frames that come of one try, and how the call ended.
    fn try_to(&self, scene: &Scene, actor: &mut Actor, to: Ipv4Addr) -> Result<(u64, Ended)> {
        let mut ended = Ended::Done;
        let count = frames(&scene.sniffer, IpAddr::V4(to), || {
            let address = sockaddr::inet(SocketAddr::new(to.into(), self.port));
            ended = send(actor, self.kind.name, address, self.payload)?;
            Ok(())
        })?;
        Ok((count, ended))
    }
}

fn opened() -> Result<Outcome> {
    let scene = Scene::new()?;
    let_everybody_ping(&scene)?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let setup = scene.agent()?.policy(&policy(&scene, "Enforce", &["icmp", "raw", "udplite"]))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for way in ways()? {
        let name = way.kind.name;
        ensure!(way.kind.open(&mut crm)? == Ended::Done, "{name} is opened by name and refused");
        ensure!(way.kind.open(&mut other)? == Ended::Done, "{name} outside the fence");
        let unfenced = way.try_to(&scene, &mut other, way.forbidden())?;
        ensure!(unfenced.0 > 0, "{name}: not even unfenced does anything arrive: {unfenced:?}");
        let allowed = way.try_to(&scene, &mut crm, way.allowed())?;
        ensure!(allowed.0 > 0, "{name}: opened, allowed, and nothing arrived: {allowed:?}");
        let forbidden = way.try_to(&scene, &mut crm, way.forbidden())?;
        ensure!(forbidden.0 == 0 && forbidden.1.is_error("EPERM"), "{name}: LEAK: {forbidden:?}");
        told(&watch, way.forbidden().into(), "Default")?;
    }
    Ok(Outcome::Passed)
}

fn older() -> Result<Outcome> {
    let scene = Scene::new()?;
    let_everybody_ping(&scene)?;
    let mut crm = scene.crm_actor()?;
    for way in ways()? {
        ensure!(way.kind.open(&mut crm)? == Ended::Done, "{} without a fence", way.kind.name);
        let unfenced = way.try_to(&scene, &mut crm, way.allowed())?;
        ensure!(unfenced.0 > 0, "{}: nothing arrives without a fence: {unfenced:?}", way.kind.name);
    }
    let setup = scene.agent()?.policy(&policy(&scene, "Enforce", &["gre"]))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for way in ways()? {
        let fenced = way.try_to(&scene, &mut crm, way.allowed())?;
        ensure!(fenced.0 == 0 && fenced.1.is_error("EPERM"), "{}: LEAK: {fenced:?}", way.kind.name);
        let event = told(&watch, way.allowed().into(), "Protocol")?;
        // By its bytes: an echo request of a raw socket is ICMP.
        ensure!(event.is("protocol", way.kind.said) && event.is("rule", way.kind.said), "{}", event.0);
    }
    agent.stop()?;
    for way in ways()? {
        let mutant = way.try_to(&scene, &mut crm, way.allowed())?;
        ensure!(mutant.0 > 0, "{}: no agent, and nothing arrives: the judge is blind", way.kind.name);
    }
    Ok(Outcome::Passed)
}
