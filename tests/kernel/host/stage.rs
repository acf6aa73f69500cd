//! A node with one pod, whose only workload is `crm`: the agent runs on the node, far from the pod's namespace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Raw};
use agent_tests::agent::{Agent, Setup};
use agent_tests::cgroup::Cgroup;
use agent_tests::craft::{Header, framed};
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use agent_tests::frame::UDP;
use agent_tests::netns::Netns;
use agent_tests::node::{GATEWAY, Node, POD_LINK, Pod};
use agent_tests::servers::Servers;
use agent_tests::sniffer::Sniffer;
use agent_tests::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::flows::{Address, Destination, OUTSIDE_PORT, PORT, Shape, Use, every_udp_address};
use crate::policies::{FENCE, RULE, fence};
use crate::scene::with_a_small_world;
use crate::suite::in_vm;

/// How long an event or a look may take.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// Frames of one act.
pub(super) const FRAMES: u64 = 20;
/// Source port of made-up datagrams.
pub(super) const SOURCE_PORT: u16 = 40_000;

/// Dropped in this order: servers, judge, cgroups from the leaves up, pod, node.
pub(super) struct Stage {
    _servers: Servers,
    pub(super) sniffer: Sniffer,
    pub(super) crm: Cgroup,
    pub(super) root: Cgroup,
    pub(super) pod: Pod,
    _outside: Pod,
    pub(super) node: Node,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let node = Node::new(World::new()?)?;
        let pod = node.pod(1)?;
        let root = Cgroup::root()?;
        let crm = root.child("crm")?;
        // Sentinels travel as the pod's frames do, over the bridge: from another pod, that nobody fences.
        let outside = node.pod(2)?;
        let sniffer = Sniffer::between(&outside.namespace, node.world().far())?;
        let servers = Servers::start(node.world(), &[PORT, OUTSIDE_PORT], &every_udp_address())?;
        Ok(Self { _servers: servers, sniffer, crm, root, pod, _outside: outside, node })
    }

    /// The namespace that the agent runs in.
    pub(super) fn host(&self) -> &Netns {
        self.node.world().near()
    }

    /// A process of the workload.
    pub(super) fn actor(&self) -> Result<Actor> {
        Actor::start(&self.pod.namespace, &self.crm)
    }

    /// An agent of the node, which guards by `layer`; in a virtual machine it knows a small world, as in `scene`.
    pub(super) fn agent(&self, layer: &str) -> Result<Setup> {
        let setup = Setup::new(&self.root)?.inside(self.host())?.arg("--host-layer").arg(layer);
        if in_vm() { with_a_small_world(setup) } else { Ok(setup) }
    }

    /// `crm` may send to the EEA only; `more` are lines of the fence's spec.
    pub(super) fn policy(&self, mode: &str, more: &str) -> String {
        fence(FENCE, mode, self.crm.name(), RULE, &["EEA"]) + more
    }

    /// A UDP datagram of the pod to one of the servers, as a frame.
    pub(super) fn frame(&self, to: SocketAddr) -> Vec<u8> {
        self.frame_from(self.pod.address_like(to.ip()), to)
    }

    /// The same from another pod.
    pub(super) fn frame_of(&self, pod: &Pod, to: SocketAddr) -> Vec<u8> {
        let packet = Header::new(pod.address_like(to.ip()), to.ip(), UDP).udp((SOURCE_PORT, to.port()), b"x");
        framed(GATEWAY, pod.mac, &packet)
    }

    /// The same from any source.
    pub(super) fn frame_from(&self, source: IpAddr, to: SocketAddr) -> Vec<u8> {
        let packet = Header::new(source, to.ip(), UDP).udp((SOURCE_PORT, to.port()), b"around the sockets");
        framed(GATEWAY, self.pod.mac, &packet)
    }

    /// Hands a frame to the pod's interface several times; how many of the packets arrive at its destination.
    pub(super) fn arrive(&self, actor: &mut Actor, frame: &[u8], to: SocketAddr) -> Result<u64> {
        let before = self.sniffer.frames_of(UDP, to)?.frames;
        hand_over(actor, frame)?;
        Ok(self.sniffer.frames_of(UDP, to)?.frames - before)
    }
}

/// Hands a frame to the pod's interface [`FRAMES`] times.
pub(super) fn hand_over(actor: &mut Actor, frame: &[u8]) -> Result<()> {
    let frames = vec![frame.to_vec(); usize::try_from(FRAMES)?];
    let answer = actor.raw(Raw::Frames { link: POD_LINK.into(), frames })?;
    ensure!(answer.is_done(), "the frames were not taken: {:?}", answer.outcome);
    Ok(())
}

/// Where made-up datagrams go.
pub(super) fn target(address: Address, destination: Destination) -> SocketAddr {
    Shape { address, used: Use::UdpUnconnected }.wire(destination, PORT)
}

/// An address of nobody here.
pub(super) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 99));

/// What the agent says of its interfaces once `wanted` holds for one of them.
pub(super) fn interface(agent: &Agent, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_for(what, SOON, || {
        let status = agent.status()?;
        let interfaces = status.get("interfaces").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(interfaces.into_iter().find(|it| wanted(it)))
    })
    .with_context(|| format!("ringfence run said:\n{}", agent.said()))
}

/// The host layer's violation of a packet to `to`, for `reason`.
pub(super) fn reported(watch: &Watch, agent: &Agent, to: SocketAddr, reason: &str) -> Result<Event> {
    let what = format!("the host layer's violation of packets to {to} for {reason}");
    watch
        .wait_for(&what, SOON, |event| {
            event.is("kind", "violation")
                && event.is("hook", "Host")
                && event.is_to(to.ip())
                && event.is("reason", reason)
        })
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))
}
