//! Sockets that were there before the fence, and connections that came from outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Call, Family, Kind, Profile};
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};

use super::fate::{Arms, Finding};
use super::stage::{AT_EGRESS, Remotes, Stage, all};
use super::{Row, rows_of};
use crate::flows::PORT;
use crate::scene::Scene;

/// Payload of one send, bytes.
const BYTES: usize = 48;
/// How long to try what a fence prevents: long enough for TCP to have tried again.
const TRIED: u64 = 1_500;
/// How long to wait for what must come.
const PATIENCE: u64 = 5_000;
/// Where a workload serves.
const SERVED: u16 = 8080;
/// Of the sockets that are older than the agent. No row is given these addresses.
const FORBIDDEN: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(13, 110, 3, 1)), IpAddr::V4(Ipv4Addr::new(13, 110, 3, 2)));
const ALLOWED: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(46, 4, 12, 1)), IpAddr::V4(Ipv4Addr::new(46, 4, 12, 2)));

pub(super) fn rows() -> Vec<Row> {
    rows_of(file!(), [("older-socket", older_socket), ("accepted-connection", accepted_connection)])
}

/// A process of the fenced workload that was there before the agent, with four sockets that had exchanged bytes.
pub(crate) struct Elder {
    actor: Actor,
}

impl Elder {
    /// Where datagrams must be answered: an unreachable port would refuse the next `send` by itself.
    pub(crate) const UDP_SERVERS: [SocketAddr; 2] =
        [SocketAddr::new(FORBIDDEN.1, PORT), Self::ALLOWED_SERVER];

    /// The one that the fence allows.
    pub(crate) const ALLOWED_SERVER: SocketAddr = SocketAddr::new(ALLOWED.1, PORT);

    /// Opens and uses the sockets. Call it before the agent starts.
    pub(crate) fn new(scene: &Scene) -> Result<Self> {
        let mut actor = Actor::start_as(Profile::None, scene.near(), &scene.crm)?;
        for (ip, kind) in Self::sockets() {
            let name = ip.to_string();
            ensure!(actor.open(&name, Family::V4, kind)?.is_done(), "no socket for {ip}");
            let answer = actor.connect(&name, SocketAddr::new(ip, PORT))?;
            ensure!(answer.is_done(), "connecting to {ip} without an agent: {:?}", answer.outcome);
            ensure!(actor.send(&name, BYTES)?.is_done(), "sending to {ip} without an agent");
        }
        Ok(Self { actor })
    }

    fn sockets() -> [(IpAddr, Kind); 4] {
        [(FORBIDDEN.0, Kind::Tcp), (FORBIDDEN.1, Kind::Udp), (ALLOWED.0, Kind::Tcp), (ALLOWED.1, Kind::Udp)]
    }

    /// Sends over the socket to `ip` and says how many frames with payload came of it; an established connection
    /// may still acknowledge and end.
    fn send(&mut self, scene: &Scene, ip: IpAddr) -> Result<u64> {
        let before = scene.sniffer.frames_to(ip)?.with_payload;
        let name = ip.to_string();
        self.actor.send(&name, BYTES)?;
        // An echo, or time for TCP to try again. Twice: the echo of before the fence may still be unread.
        for _ in 0..2 {
            self.actor.receive(&name, Duration::from_millis(TRIED / 2))?;
        }
        Ok(scene.sniffer.frames_to(ip)?.with_payload - before)
    }
}

fn older_socket(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for (what, forbidden, allowed) in
        [("TCP", FORBIDDEN.0, ALLOWED.0), ("connected UDP", FORBIDDEN.1, ALLOWED.1)]
    {
        let arms = Arms {
            unfenced: stage.scene.sniffer.frames_to(forbidden)?.with_payload,
            forbidden: stage.elder.send(&stage.scene, forbidden)?,
            allowed: stage.elder.send(&stage.scene, allowed)?,
        };
        println!("older-socket, {what}: before the agent started and after: {arms:?}");
        stage.told(forbidden, &AT_EGRESS)?;
        fates.push(arms.fate()?);
    }
    all(fates)
}

/// The other side is a client in the far namespace that has one of the row's addresses.
fn accepted_connection(stage: &mut Stage) -> Result<Finding> {
    let remotes = stage.remotes(Family::V4)?;
    let mut unfenced = stage.unfenced(Profile::None)?;
    ensure!(
        serve(stage, &mut unfenced, remotes.unfenced, PATIENCE)?,
        "the unfenced workload could not answer"
    );
    drop(unfenced);
    let mut crm = stage.fenced(Profile::None)?;
    let answered = serve(stage, &mut crm, remotes.forbidden, TRIED)?;
    let arms = arms_after_allowed(stage, &mut crm, remotes)?;
    ensure!(!answered || arms.forbidden > 0, "an answer came without a frame");
    let event = stage.told(remotes.forbidden, &AT_EGRESS)?;
    ensure!(event.is("direction", "Inbound"), "not told as inbound: {}", event.0);
    Ok(Finding::Fate(arms.fate()?))
}

fn arms_after_allowed(stage: &Stage, crm: &mut Actor, remotes: Remotes) -> Result<Arms> {
    ensure!(serve(stage, crm, remotes.allowed, PATIENCE)?, "an allowed client got no answer");
    stage.arms("accepted-connection", remotes)
}

/// Lets `server` accept one connection from `client` and send over it. False: there was no connection in time.
fn serve(stage: &Stage, server: &mut Actor, client: IpAddr, limit_ms: u64) -> Result<bool> {
    let (listener, connection) = (format!("for {client}"), format!("with {client}"));
    ensure!(server.open(&listener, Family::V4, Kind::Tcp)?.is_done(), "no socket");
    let (name, option) = (listener.clone(), libc::SO_REUSEADDR);
    let value = 1i32.to_ne_bytes().to_vec();
    server.call(Call::Option { name, level: libc::SOL_SOCKET, option, value })?;
    let any = sockaddr::inet(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), SERVED));
    ensure!(server.call(Call::Bind { name: listener.clone(), to: any })?.is_done(), "cannot serve");
    ensure!(server.call(Call::Listen { name: listener.clone() })?.is_done(), "cannot listen");

    let mut outsider = stage.far_actor()?;
    ensure!(outsider.open("c", Family::V4, Kind::Tcp)?.is_done(), "no socket in far");
    let own = sockaddr::inet(SocketAddr::new(client, 0));
    ensure!(outsider.call(Call::Bind { name: "c".into(), to: own })?.is_done(), "cannot be {client}");
    let to = sockaddr::inet(SocketAddr::new(stage.near_ip(), SERVED));
    let connected = outsider.call(Call::Connect { name: "c".into(), to, limit_ms })?.is_done();
    if connected {
        let accept = Call::Accept { name: listener.clone(), connection: connection.clone(), limit_ms };
        ensure!(server.call(accept)?.is_done(), "connected and not accepted");
        server.send(&connection, BYTES)?;
        outsider.receive("c", Duration::from_millis(limit_ms)).context("the outsider")?;
        server.reset(&connection)?;
    }
    server.close(&listener)?;
    Ok(connected)
}
