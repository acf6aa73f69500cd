//! Herds: many flows of one actor, and what became of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use agent_tests::actor::{Actor, Command, Kind};
use agent_tests::events::{Event, Watch};
use agent_tests::frame::{TCP, UDP};
use agent_tests::sniffer::Sniffer;
use anyhow::{Result, bail, ensure};

use crate::flows::{Address, Destination, PORT, Shape, Use};
use crate::suite::{Tier, in_vm};

/// Where TCP herds connect: the port of [`agent_tests::peers::Peers`].
pub(crate) const PEERS_PORT: u16 = 9443;
/// Payload of each flow's datagram or segment, bytes.
pub(crate) const BYTES: usize = 32;
/// How long all answers may take.
const ANSWERED: Duration = Duration::from_secs(20);
/// How long records may take.
const RECORDED: Duration = Duration::from_secs(10);
/// How long to listen for what must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(700);

/// How many flows of each protocol.
pub(crate) fn many() -> usize {
    match Tier::from_environment() {
        _ if in_vm() => 30,
        Tier::Default => 100,
        Tier::All => 1000,
    }
}

/// One herd of one actor.
pub(crate) struct Herd {
    name: &'static str,
    kind: Kind,
    to: Vec<SocketAddr>,
    pub(crate) count: u64,
}

impl Herd {
    /// Opens `count` flows: IPv4, IPv6 and IPv4 from IPv6 sockets in turn. Each sends once and gets its echo, so the
    /// test has shown that they work.
    pub(crate) fn open(
        actor: &mut Actor,
        name: &'static str,
        kind: Kind,
        destination: Destination,
        port: u16,
        count: usize,
    ) -> Result<Self> {
        let used = if kind == Kind::Tcp { Use::Tcp } else { Use::UdpConnected };
        let shapes = [Address::V4, Address::V6, Address::Mapped].map(|address| Shape { address, used });
        let to: Vec<SocketAddr> = shapes.iter().map(|s| s.target(destination, port)).collect();
        let herd = Self { name, kind, to: to.clone(), count: u64::try_from(count)? };
        let opened = actor.tell(&Command::OpenHerd { name: name.to_owned(), kind, to, count })?.herd();
        // connect() answers nothing: noted as one byte.
        herd.all(&opened, "done", "connect")?;
        herd.must_echo(actor, "when opened")?;
        Ok(herd)
    }

    /// Connected UDP on [`PORT`] and TCP on [`PEERS_PORT`], to this destination.
    pub(crate) fn pair(
        actor: &mut Actor,
        names: [&'static str; 2],
        destination: Destination,
        count: usize,
    ) -> Result<[Self; 2]> {
        Ok([
            Self::open(actor, names[0], Kind::Tcp, destination, PEERS_PORT, count)?,
            Self::open(actor, names[1], Kind::Udp, destination, PORT, count)?,
        ])
    }

    /// Sends once on each; how that ended.
    pub(crate) fn send(&self, actor: &mut Actor) -> Result<BTreeMap<String, u64>> {
        Ok(actor.tell(&self.sends(Duration::ZERO)?)?.herd())
    }

    /// Sends on each, again and again; for [`Actor::begin`].
    pub(crate) fn sends(&self, time: Duration) -> Result<Command> {
        let for_ms = u64::try_from(time.as_millis())?;
        Ok(Command::SendHerd { name: self.name.to_owned(), bytes: BYTES, for_ms })
    }

    /// Receives once on each; how that ended.
    pub(crate) fn receive(&self, actor: &mut Actor, limit: Duration) -> Result<BTreeMap<String, u64>> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        Ok(actor.tell(&Command::ReceiveHerd { name: self.name.to_owned(), limit_ms })?.herd())
    }

    /// Every flow of the herd works.
    pub(crate) fn must_echo(&self, actor: &mut Actor, when: &str) -> Result<()> {
        self.all(&self.send(actor)?, "done", &format!("send {when}"))?;
        self.all(&self.receive(actor, ANSWERED)?, "done", &format!("receive {when}"))
    }

    /// The caller of every flow has its error: why, and then that there is no connection any more. `send` on a UDP socket
    /// looks for the connection first; the reason is there for who receives or polls.
    pub(crate) fn must_be_told(&self, actor: &mut Actor) -> Result<()> {
        match self.kind {
            Kind::Tcp => {
                self.all(&self.send(actor)?, "ECONNABORTED", "first send")?;
                self.all(&self.send(actor)?, "EPIPE", "second send")?;
                self.all(&self.receive(actor, SILENCE)?, "end", "receive")
            }
            Kind::Udp => {
                self.all(&self.receive(actor, SILENCE)?, "ECONNABORTED", "receive")?;
                self.all(&self.send(actor)?, "EDESTADDRREQ", "send")
            }
        }
    }

    /// Every socket of the herd ended with `outcome`.
    pub(crate) fn all(&self, tally: &BTreeMap<String, u64>, outcome: &str, what: &str) -> Result<()> {
        let right = tally.get(outcome).copied().unwrap_or(0);
        ensure!(
            right == self.count,
            "{}: {what}: {tally:?}, expected {outcome} of all {}",
            self.name,
            self.count
        );
        Ok(())
    }

    /// Frames with payload that this herd's addresses have received so far.
    pub(crate) fn payload(&self, sniffer: &Sniffer) -> Result<u64> {
        let protocol = if self.kind == Kind::Tcp { TCP } else { UDP };
        let mut sum = 0;
        for to in &self.to {
            sum +=
                sniffer.frames_of(protocol, SocketAddr::new(to.ip().to_canonical(), to.port()))?.with_payload;
        }
        Ok(sum)
    }

    fn is_mine(&self, event: &Event) -> bool {
        let protocol = if self.kind == Kind::Tcp { "tcp" } else { "udp" };
        event.is("protocol", protocol)
            && self.to.iter().any(|to| event.is_to(to.ip()) && event.number("port") == Some(to.port().into()))
    }

    /// Every flow of the herd has exactly one record that says it is blocked now; repeats and closes are not counted.
    pub(crate) fn one_record_each(&self, watch: &Watch, generation: u64) -> Result<()> {
        let records = |events: &[Event]| {
            let mut by_flow: BTreeMap<[String; 2], u64> = BTreeMap::new();
            let mine = events.iter().filter(|e| e.is("kind", "violation") && self.is_mine(e));
            let begins = mine.filter(|e| e.is("phase", "Open") || e.is("phase", "Verdict"));
            for event in begins.filter(|e| e.number("generation") == Some(generation)) {
                // Flows to different places may share a local port.
                let end = |address, port| {
                    format!("{} {}", event.text(address).unwrap_or("?"), event.number(port).unwrap_or(0))
                };
                *by_flow.entry([end("local", "local_port"), end("remote", "port")]).or_default() += 1;
            }
            by_flow
        };
        let all = watch.wait_until(&format!("a record for each flow of {}", self.name), RECORDED, |events| {
            let records = records(events);
            (u64::try_from(records.len()).ok()? >= self.count).then_some(records)
        });
        let all = match all {
            Ok(all) => all,
            Err(error) => {
                let have = records(&watch.events()).len();
                bail!("{}: {have} of {} flows have a record: {error:#}", self.name, self.count)
            }
        };
        let twice: Vec<_> = all.iter().filter(|(_, times)| **times != 1).take(3).collect();
        ensure!(twice.is_empty(), "{}: flows with more than one record: {twice:?}", self.name);
        ensure!(u64::try_from(all.len())? == self.count, "{}: records of {} flows", self.name, all.len());
        Ok(())
    }
}

/// Waits for what the agent says of its pass over the flows under this generation.
pub(crate) fn pass(watch: &Watch, generation: u64) -> Result<String> {
    let event =
        watch.wait_for("the agent's word on the flows it ended", Duration::from_secs(20), |event| {
            event.is("kind", "node_state")
                && event.number("generation") == Some(generation)
                && event.text("detail").is_some_and(|detail| detail.contains("open flows"))
        })?;
    Ok(event.text("detail").unwrap_or_default().to_owned())
}
