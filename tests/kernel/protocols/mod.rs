//! Protocols other than TCP and UDP: refused to a fenced workload until its fence opens them by name; what a network
//! stack needs to live; and how a flow ends that the fence has come to block.

mod end;
mod life;
mod memory;
mod opened;
mod sockets;

use std::net::IpAddr;
use std::time::Duration;

use agent_tests::actor::{Actor, Call, Outcome as Ended};
use agent_tests::events::{Event, Watch};
use agent_tests::sniffer::Sniffer;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::policies::eea_only;
use crate::scene::Scene;

/// How long an event may take.
const REPORTED: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    [sockets::trials(), opened::trials(), life::trials(), end::trials(), memory::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// The fence around the EEA that opens these protocols beside TCP and UDP.
fn policy(scene: &Scene, mode: &str, protocols: &[&str]) -> String {
    format!("{}\x20 protocols: [{}]\n", eea_only(scene, mode), protocols.join(", "))
}

/// A kind of socket, in the kernel's numbers.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    domain: i32,
    kind: i32,
    protocol: i32,
    /// The name that opens it.
    opened_by: &'static str,
    /// The protocol that its events say.
    said: &'static str,
}

impl Kind {
    /// Makes one; the actor knows it by its name.
    fn open(&self, actor: &mut Actor) -> Result<Ended> {
        let Self { domain, kind, protocol, .. } = *self;
        Ok(actor.call(Call::Socket { name: self.name.into(), domain, kind, protocol })?.outcome)
    }
}

/// `sendto` with bytes of the caller's.
fn send(actor: &mut Actor, name: &str, to: Vec<u8>, payload: &[u8]) -> Result<Ended> {
    let call = Call::Send { name: name.into(), to: Some(to), payload: payload.to_vec(), flags: 0 };
    Ok(actor.call(call)?.outcome)
}

/// Frames to an address during `act`.
fn frames(sniffer: &Sniffer, to: IpAddr, act: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = sniffer.frames_to(to)?.frames;
    act()?;
    Ok(sniffer.frames_to(to)?.frames - before)
}

/// Waits for the event of a flow to `to` that was blocked for `reason`.
fn told(watch: &Watch, to: IpAddr, reason: &str) -> Result<Event> {
    let event = watch.wait_for(&format!("a block of {to} for {reason}"), REPORTED, |event| {
        event.is_to(to) && event.is("kind", "violation") && event.is("reason", reason)
    })?;
    ensure!(event.is("verdict", "Block"), "would be blocked, and was not: {}", event.0);
    Ok(event)
}
