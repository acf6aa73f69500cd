//! Traffic that runs while agents come and go, and the judgement over it.
//!
//! Floods of datagrams and connections to a forbidden and to an allowed destination, and two allowed flows that live from
//! the first moment to the last: a TCP connection and a UDP socket.

use std::time::Duration;

use agent_tests::actor::{Actor, Command, Repeat};
use anyhow::{Context, Result, ensure};

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use};
use crate::scene::Scene;

const TCP: Shape = Shape { address: Address::V4, used: Use::Tcp };
const UDP: Shape = Shape { address: Address::V6, used: Use::UdpConnected };
const FLOOD: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };

/// The flood; what it was told to do lasts as long as it may take, and it is ended by dropping it.
pub(super) struct Flood {
    datagrams: Actor,
    connections: Actor,
    steady: Actor,
    held: Vec<Flow>,
    before: u64,
}

impl Flood {
    /// Shows that all of it arrives without a fence, and opens the flows that live on.
    pub(super) fn open(scene: &Scene) -> Result<Self> {
        let (mut datagrams, mut connections) = (scene.crm_actor()?, scene.crm_actor()?);
        for (actor, what) in [(&mut datagrams, Repeat::SendTo), (&mut connections, Repeat::Connect)] {
            let answer = actor.tell(&load(what, 5_000, 3))?;
            for to in targets() {
                ensure!(answer.times(to, "done") == 3, "fence off: {to} is not reached: {:?}", answer.tally);
            }
        }
        let before = forbidden_frames(scene)?;
        ensure!(before > 0, "fence off: the flood was sent and the sniffer saw nothing of it");
        let mut steady = scene.crm_actor()?;
        let mut held = Vec::new();
        for shape in [TCP, UDP] {
            let mut flow = Flow::open(&mut steady, shape, shape.target(Destination::Allowed, PORT))?;
            ensure!(flow.exchange(&mut steady, true)?.echoed, "fence off: no echo");
            held.push(flow);
        }
        Ok(Self { datagrams, connections, steady, held, before })
    }

    /// Lets it run; the fence must be in force. Until `end` or for ten minutes.
    pub(super) fn begin(&mut self, scene: &Scene) -> Result<()> {
        self.before = forbidden_frames(scene)?;
        self.datagrams.begin(&load(Repeat::SendTo, 600_000, 0))?;
        self.connections.begin(&load(Repeat::Connect, 600_000, 0))
    }

    /// The allowed flows are alive.
    pub(super) fn exchange(&mut self, when: &str) -> Result<()> {
        for flow in &mut self.held {
            let exchange = flow.exchange(&mut self.steady, true)?;
            ensure!(exchange.echoed, "{when}: an allowed flow that was open is broken: {exchange:?}");
        }
        Ok(())
    }

    /// Not one forbidden frame since [`begin`](Self::begin).
    pub(super) fn judge(&self, scene: &Scene, when: &str) -> Result<()> {
        let frames = forbidden_frames(scene)?.saturating_sub(self.before);
        ensure!(frames == 0, "LEAK: {frames} forbidden frames {when}");
        Ok(())
    }

    /// Forbidden frames since [`begin`](Self::begin): for the mutant.
    pub(super) fn leaked(&self, scene: &Scene) -> Result<u64> {
        Ok(forbidden_frames(scene)?.saturating_sub(self.before))
    }
}

fn targets() -> [std::net::SocketAddr; 2] {
    [Destination::Forbidden, Destination::Allowed].map(|d| FLOOD.target(d, PORT))
}

fn load(what: Repeat, for_ms: u64, rounds: u64) -> Command {
    // Some thousand datagrams and some hundred connections a second: enough that a gap of a millisecond shows, and that
    // the machine has time for the agent.
    let pause_us = match what {
        Repeat::SendTo | Repeat::Datagram => 200,
        Repeat::Connect => 2_000,
    };
    Command::Load { what, to: targets().to_vec(), for_ms, rounds, until: None, pause_us }
}

fn forbidden_frames(scene: &Scene) -> Result<u64> {
    let to = FLOOD.target(Destination::Forbidden, PORT).ip();
    Ok(scene.sniffer.frames_to(to).context("the sniffer")?.frames)
}

/// How long some things took, for people.
pub(super) fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
