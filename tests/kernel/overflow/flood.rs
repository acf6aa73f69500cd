//! A flood of new flows: each has an event when it begins and one when it ends.

use std::net::SocketAddr;
use std::time::Duration;

use agent_tests::actor::{Actor, Command, Repeat};
use anyhow::{Context, Result, ensure};

use crate::flows::{Address, Destination, PORT, Shape, Use};
use crate::scene::Scene;

const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };
const FORBIDDEN: &[Destination] = &[Destination::Forbidden];
const ALLOWED: &[Destination] = &[Destination::Allowed];
const BOTH: &[Destination] = &[Destination::Forbidden, Destination::Allowed];

/// Processes that flood until they are dropped.
pub(super) struct Flood {
    actors: Vec<Actor>,
    before: u64,
}

/// What one process repeats, to whom, and how long it waits between rounds.
type Part = (Repeat, &'static [Destination], Duration);

/// As fast as it goes: refused connections, and datagrams of both kinds from new sockets.
pub(super) const MIXED: &[Part] = &[
    (Repeat::Connect, FORBIDDEN, Duration::ZERO),
    (Repeat::Datagram, BOTH, Duration::ZERO),
    (Repeat::Datagram, ALLOWED, Duration::ZERO),
];

/// Some thousand allowed flows a second, which an agent keeps up with, and few forbidden ones.
pub(super) const MOSTLY_ALLOWED: &[Part] = &[
    (Repeat::Connect, BOTH, Duration::from_millis(20)),
    (Repeat::Datagram, FORBIDDEN, Duration::from_millis(20)),
    (Repeat::Datagram, ALLOWED, Duration::from_millis(1)),
];

impl Flood {
    /// Shows that all of it arrives without a fence.
    pub(super) fn arrives_unfenced(scene: &Scene) -> Result<()> {
        let mut actor = scene.crm_actor()?;
        let before = forbidden_frames(scene)?;
        for what in [Repeat::Connect, Repeat::Datagram, Repeat::SendTo] {
            let answer = actor.tell(&load(what, BOTH, 5_000, 3, Duration::ZERO))?;
            let done = answer.times(target(Destination::Forbidden), "done");
            ensure!(done > 0, "fence off: {what:?} does not work: {:?}", answer.tally);
        }
        let frames = forbidden_frames(scene)? - before;
        ensure!(frames >= 6, "fence off: the flood was sent and the sniffer saw {frames} frames of it");
        Ok(())
    }

    /// Lets it run; the fence must be in force.
    pub(super) fn begin(scene: &Scene, parts: &[Part]) -> Result<Self> {
        let before = forbidden_frames(scene)?;
        let mut actors = Vec::new();
        for (what, to, pause) in parts {
            let mut actor = scene.crm_actor()?;
            actor.begin(&load(*what, to, 600_000, 0, *pause))?;
            actors.push(actor);
        }
        Ok(Self { actors, before })
    }

    /// Not one forbidden frame since the beginning.
    pub(super) fn judge(&self, scene: &Scene, when: &str) -> Result<()> {
        let frames = self.leaked(scene)?;
        ensure!(frames == 0, "LEAK: {frames} forbidden frames {when}");
        Ok(())
    }

    /// Forbidden frames since the beginning: for the mutant.
    pub(super) fn leaked(&self, scene: &Scene) -> Result<u64> {
        Ok(forbidden_frames(scene)?.saturating_sub(self.before))
    }

    /// Ends it; its sockets are closed when this returns.
    pub(super) fn end(&mut self) {
        self.actors.clear();
    }
}

/// Three flows of each kind, so that something comes last.
pub(super) fn last_ones(scene: &Scene) -> Result<()> {
    let answer = scene.crm_actor()?.tell(&load(Repeat::Datagram, BOTH, 5_000, 3, Duration::ZERO))?;
    let (allowed, forbidden) = (target(Destination::Allowed), target(Destination::Forbidden));
    ensure!(answer.times(allowed, "done") == 3, "allowed flows are broken: {:?}", answer.tally);
    ensure!(answer.times(forbidden, "EPERM") == 3, "forbidden flows are not refused: {:?}", answer.tally);
    Ok(())
}

fn target(destination: Destination) -> SocketAddr {
    SHAPE.target(destination, PORT)
}

fn load(what: Repeat, to: &[Destination], for_ms: u64, rounds: u64, pause: Duration) -> Command {
    let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
    Command::Load {
        what,
        to: to.iter().copied().map(target).collect(),
        for_ms,
        rounds,
        until: None,
        pause_us,
    }
}

fn forbidden_frames(scene: &Scene) -> Result<u64> {
    Ok(scene.sniffer.frames_to(target(Destination::Forbidden).ip()).context("the sniffer")?.frames)
}
