//! The kinds of flow that a fence has to hold, and what a workload does with one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Family, Kind, Outcome};
use agent_tests::frame;
use agent_tests::sniffer::{Count, Sniffer};
use anyhow::{Result, ensure};

/// Port of the fenced workload's flows.
pub(crate) const PORT: u16 = 443;
/// Port of the flows of workloads outside the fence, so that the judge can tell them apart.
pub(crate) const OUTSIDE_PORT: u16 = 8443;
/// How long an echo may take that is expected to come.
const ECHO: Duration = Duration::from_secs(5);
/// How long to listen for an echo that must not come: long enough for TCP to have tried again.
const SILENCE: Duration = Duration::from_millis(700);
/// Payload of one exchange, bytes.
const BYTES: usize = 48;

/// Where a flow goes, as far as a fence around the EEA is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The United States: a Salesforce address, and one of a US access network.
    Forbidden,
    /// Germany: addresses of a hosting company.
    Allowed,
}

/// What carries a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    V4,
    V6,
    /// An IPv6 socket to `::ffff:a.b.c.d`: IPv4 on the wire.
    Mapped,
}

/// How a flow's socket is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Tcp,
    /// `connect`, then `send`.
    UdpConnected,
    /// `sendto` on a socket that is never connected.
    UdpUnconnected,
}

/// One kind of flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) address: Address,
    pub(crate) used: Use,
}

/// All kinds of flow: three uses of a socket over three kinds of address.
pub(crate) fn shapes() -> Vec<Shape> {
    let uses = [Use::Tcp, Use::UdpConnected, Use::UdpUnconnected];
    let addresses = [Address::V4, Address::V6, Address::Mapped];
    uses.into_iter().flat_map(|used| addresses.map(|address| Shape { address, used })).collect()
}

impl Shape {
    /// As a test name says it: `tcp_over_v4_mapped`.
    pub(crate) fn name(self) -> String {
        let used = match self.used {
            Use::Tcp => "tcp",
            Use::UdpConnected => "udp_connected",
            Use::UdpUnconnected => "udp_sendto",
        };
        let address = match self.address {
            Address::V4 => "v4",
            Address::V6 => "v6",
            Address::Mapped => "v4_mapped",
        };
        format!("{used}_over_{address}")
    }

    /// The address as the workload writes it.
    pub(crate) fn target(self, destination: Destination, port: u16) -> SocketAddr {
        let v4 = |last| match destination {
            Destination::Forbidden => Ipv4Addr::new(13, 110, 54, last),
            Destination::Allowed => Ipv4Addr::new(46, 4, 10, last),
        };
        let ip = match self.address {
            Address::V4 => IpAddr::V4(v4(10)),
            Address::Mapped => IpAddr::V6(v4(11).to_ipv6_mapped()),
            Address::V6 => IpAddr::V6(match destination {
                Destination::Forbidden => Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, 0, 0x10),
                Destination::Allowed => Ipv6Addr::new(0x2a01, 0x4f8, 0, 0, 0, 0, 0, 0x10),
            }),
        };
        SocketAddr::new(ip, port)
    }

    /// The address as it is on the wire.
    pub(crate) fn wire(self, destination: Destination, port: u16) -> SocketAddr {
        let target = self.target(destination, port);
        SocketAddr::new(target.ip().to_canonical(), target.port())
    }

    fn family(self) -> Family {
        match self.address {
            Address::V4 => Family::V4,
            Address::V6 | Address::Mapped => Family::V6,
        }
    }

    fn kind(self) -> Kind {
        match self.used {
            Use::Tcp => Kind::Tcp,
            Use::UdpConnected | Use::UdpUnconnected => Kind::Udp,
        }
    }

    fn protocol(self) -> u8 {
        match self.used {
            Use::Tcp => frame::TCP,
            Use::UdpConnected | Use::UdpUnconnected => frame::UDP,
        }
    }

    /// Frames of this kind of flow that have arrived so far, on the fenced workload's port or another.
    pub(crate) fn arrived(self, sniffer: &Sniffer, destination: Destination, port: u16) -> Result<Count> {
        sniffer.frames_of(self.protocol(), self.wire(destination, port))
    }
}

/// The addresses that UDP servers must answer on.
pub(crate) fn every_udp_address() -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for address in [Address::V4, Address::V6, Address::Mapped] {
        let shape = Shape { address, used: Use::UdpConnected };
        for destination in [Destination::Forbidden, Destination::Allowed] {
            all.extend([PORT, OUTSIDE_PORT].map(|port| shape.wire(destination, port)));
        }
    }
    all
}

/// What came of one exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Of `connect`, where there was one.
    pub(crate) connect: Option<Outcome>,
    /// Microseconds that `connect` took.
    pub(crate) connect_micros: u64,
    /// Of `send` or `sendto`.
    pub(crate) send: Outcome,
    /// The bytes came back.
    pub(crate) echoed: bool,
}

/// A flow of one actor: a named socket with its remote address. The socket stays open until [`Flow::close`].
pub(crate) struct Flow {
    shape: Shape,
    to: SocketAddr,
    name: String,
    connected: bool,
}

impl Flow {
    /// Opens the socket; nothing is sent.
    pub(crate) fn open(actor: &mut Actor, shape: Shape, to: SocketAddr) -> Result<Self> {
        let name = format!("{} to {to}", shape.name());
        let answer = actor.open(&name, shape.family(), shape.kind())?;
        ensure!(answer.is_done(), "cannot open a socket for {name}: {:?}", answer.outcome);
        Ok(Self { shape, to, name, connected: false })
    }

    /// Connects if need be, sends, and listens for the echo: for the full time if `patient`, else shortly.
    pub(crate) fn exchange(&mut self, actor: &mut Actor, patient: bool) -> Result<Exchange> {
        let mut connect = None;
        let mut connect_micros = 0;
        if self.shape.used != Use::UdpUnconnected && !self.connected {
            let answer = actor.connect(&self.name, self.to)?;
            self.connected = answer.is_done();
            connect_micros = answer.micros;
            connect = Some(answer.outcome);
        }
        let send = match self.shape.used {
            Use::Tcp | Use::UdpConnected => actor.send(&self.name, BYTES)?,
            Use::UdpUnconnected => actor.send_to(&self.name, self.to, BYTES)?,
        };
        let answer = actor.receive(&self.name, if patient { ECHO } else { SILENCE })?;
        let echoed = answer.is_done() && answer.bytes == BYTES;
        Ok(Exchange { connect, connect_micros, send: send.outcome, echoed })
    }

    /// Closes the socket.
    pub(crate) fn close(self, actor: &mut Actor) -> Result<()> {
        actor.close(&self.name).map(drop)
    }

    /// Closes the socket; nothing of it is sent afterwards.
    pub(crate) fn reset(self, actor: &mut Actor) -> Result<()> {
        let answer = actor.reset(&self.name)?;
        ensure!(answer.is_done(), "cannot reset {}: {:?}", self.name, answer.outcome);
        Ok(())
    }
}

/// Opens, exchanges, closes: a flow that is expected to work.
pub(crate) fn must_echo(actor: &mut Actor, shape: Shape, to: SocketAddr, when: &str) -> Result<()> {
    let mut flow = Flow::open(actor, shape, to)?;
    let exchange = flow.exchange(actor, true)?;
    ensure!(exchange.echoed, "{when}: {} to {to} got no echo: {exchange:?}", shape.name());
    flow.close(actor)
}
