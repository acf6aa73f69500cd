//! An audit fence at the host layer: frames arrive, and are reported once.

use anyhow::{Result, ensure};

use super::stage::{FRAMES, SOON, Stage, reported, target};
use crate::flows::{Address, Destination, PORT, Shape, Use, must_echo};
use crate::suite::Outcome;

pub(super) fn reports_and_lets_pass() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Audit", ""))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;

    // A socket's flow is egress's to report, and not again here.
    let shape = Shape { address: Address::V6, used: Use::UdpConnected };
    let by_socket = shape.target(Destination::Forbidden, PORT);
    must_echo(&mut crm, shape, by_socket, "audit fence on")?;

    let to = target(Address::V4, Destination::Forbidden);
    let frame = stage.frame(to);
    let arrived = stage.arrive(&mut crm, &frame, to)?;
    ensure!(arrived == FRAMES, "an audit fence stopped frames: {arrived} of {FRAMES} arrived");
    let event = reported(&watch, &agent, to, "Default")?;
    ensure!(event.is("verdict", "Allow") && event.is("would_be", "Block"), "{}", event.0);

    let of_socket = watch.wait_for("the socket's flow", SOON, |event| event.is_to(by_socket.ip()))?;
    ensure!(of_socket.is("hook", "Egress") || of_socket.is("hook", "Connect6"), "{}", of_socket.0);
    let events = watch.events();
    let twice = events.iter().find(|event| event.is("hook", "Host") && event.is_to(by_socket.ip()));
    ensure!(twice.is_none(), "the socket's flow was reported by the host layer too: {twice:?}");
    let opened = events.iter().filter(|e| {
        e.is("hook", "Host") && e.is_to(to.ip()) && e.is("phase", "Open") && e.is("protocol", "udp")
    });
    let opened: Vec<_> = opened.collect();
    ensure!(opened.len() == 1, "the frames are one flow, but: {opened:?}");
    Ok(Outcome::Passed)
}
