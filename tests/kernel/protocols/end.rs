//! A connection that a new policy blocks: no payload any more, but its end passes, so that the peer learns. What was
//! never allowed gets not even that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Call, Outcome as Ended};
use agent_tests::craft::Header;
use agent_tests::deadline::wait_for;
use agent_tests::frame::TCP;
use agent_tests::sniffer::Count;
use agent_tests::sockaddr;
use agent_tests::world::NEAR;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use super::{frames, policy, send};
use crate::flows::{Address, Destination, Flow, PORT, Shape, Use};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// How long the kernel may take to try again: it backs off from 200 ms.
const AGAIN: Duration = Duration::from_secs(20);
const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "protocols::the_end_of_a_connection_that_is_blocked_reaches_the_peer", ends),
        trial(Place::Anywhere, "protocols::no_frame_ends_a_connection_that_is_older_than_the_agent", older),
        trial(Place::Anywhere, "protocols::no_end_of_a_connection_that_never_was_gets_out", scan),
    ]
}

/// How the caller ends the connection.
#[derive(Debug, Clone, Copy)]
enum End {
    /// `close`: FIN.
    Close,
    /// `close` with payload that the fence holds back: the FIN is put onto that payload, and stays with it.
    CloseWithPayload,
    /// The same with `SO_LINGER` 0: RST, and the payload is given up.
    ResetWithPayload,
}

fn ends() -> Result<Outcome> {
    for (end, address) in [
        (End::Close, Address::V4),
        (End::ResetWithPayload, Address::V4),
        (End::Close, Address::V6),
        (End::CloseWithPayload, Address::V4),
        (End::ResetWithPayload, Address::V6),
    ] {
        let scene = Scene::new()?;
        let mut crm = scene.crm_actor()?;
        let setup = scene.agent()?.policy(&policy(&scene, "Audit", &[]))?;
        let agent = setup.start()?;
        let shape = Shape { address, used: Use::Tcp };
        let mut flow = Flow::open(&mut crm, shape, shape.target(Destination::Forbidden, PORT))?;
        ensure!(flow.exchange(&mut crm, true)?.echoed, "an audit fence let no echo through");
        agent.publish(&setup, &policy(&scene, "Enforce", &[]))?;

        let arrived = || -> Result<Count> { shape.arrived(&scene.sniffer, Destination::Forbidden, PORT) };
        let before = arrived()?;
        match end {
            End::Close => flow.close(&mut crm)?,
            End::CloseWithPayload | End::ResetWithPayload => {
                ensure!(!flow.exchange(&mut crm, false)?.echoed, "LEAK: an echo after the flip");
                ensure!(arrived()? == before, "LEAK: before the end of the connection: {:?}", arrived()?);
                if let End::CloseWithPayload = end { flow.close(&mut crm)? } else { flow.reset(&mut crm)? }
            }
        }
        let after = arrived()?;
        ensure!(after.with_payload == before.with_payload, "{end:?}: LEAK: {before:?} to {after:?}");
        let is_told = after.frames > before.frames;
        ensure!(
            is_told != matches!(end, End::CloseWithPayload),
            "{end:?} over {address:?}: the peer was told: {is_told}"
        );
    }
    Ok(Outcome::Passed)
}

/// A connection that is older than the agent: whether it ever was allowed, nobody knows.
fn older() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let shape = Shape { address: Address::V4, used: Use::Tcp };
    let mut flow = Flow::open(&mut crm, shape, shape.target(Destination::Forbidden, PORT))?;
    ensure!(flow.exchange(&mut crm, true)?.echoed, "no agent, and no echo");
    let setup = scene.agent()?.policy(&policy(&scene, "Enforce", &[]))?;
    let agent = setup.start()?;
    let arrived = || -> Result<Count> { shape.arrived(&scene.sniffer, Destination::Forbidden, PORT) };
    let before = arrived()?;
    flow.close(&mut crm)?;
    ensure!(arrived()? == before, "LEAK: {before:?} to {:?}", arrived()?);
    // The mutant: the kernel tries its FIN again, and without the hooks it arrives.
    agent.stop()?;
    wait_for("the FIN after the agent has stopped", AGAIN, || Ok((arrived()? != before).then_some(())))?;
    Ok(Outcome::Passed)
}

/// By hand, from a raw socket that the fence opens: to a place that is forbidden, and to one that was allowed to this
/// very socket before.
fn scan() -> Result<Outcome> {
    let never = Ipv4Addr::new(13, 110, 90, 1);
    let once = Ipv4Addr::new(13, 110, 90, 2);
    let unfenced = Ipv4Addr::new(13, 110, 90, 3);
    let scene = Scene::new()?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let setup = scene.agent()?.policy(&policy(&scene, "Audit", &["raw"]))?;
    let agent = setup.start()?;
    for actor in [&mut crm, &mut other] {
        let (domain, kind, protocol) = (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
        let opened = actor.call(Call::Socket { name: "raw".into(), domain, kind, protocol })?;
        ensure!(opened.is_done(), "no raw socket: {:?}", opened.outcome);
    }
    ensure!(segment(&scene, &mut crm, once, ACK)?.0 == 1, "an audit fence let no segment through");
    agent.publish(&setup, &policy(&scene, "Enforce", &["raw"]))?;
    for flags in [FIN, FIN | ACK, RST, RST | ACK] {
        ensure!(segment(&scene, &mut other, unfenced, flags)?.0 == 1, "unfenced, nothing arrives");
        for to in [never, once] {
            let (leaked, ended) = segment(&scene, &mut crm, to, flags)?;
            ensure!(
                leaked == 0 && ended.is_error("EPERM"),
                "LEAK: flags {flags:#x} to {to}: {leaked} {ended:?}"
            );
        }
    }
    Ok(Outcome::Passed)
}

/// A TCP segment without payload (RFC 9293 section 3.1); frames that come of it.
fn segment(scene: &Scene, actor: &mut Actor, to: Ipv4Addr, flags: u8) -> Result<(u64, Ended)> {
    let mut header = [0; 20];
    header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    (header[12], header[13], header[14]) = (0x50, flags, 0x20);
    let packet = Header::new(NEAR.0, to.into(), TCP).packet(&header);
    let mut ended = Ended::Done;
    let count = frames(&scene.sniffer, IpAddr::V4(to), || {
        ended = send(actor, "raw", sockaddr::inet(SocketAddr::new(to.into(), 0)), &packet)?;
        Ok(())
    })?;
    Ok((count, ended))
}
