//! The stage of the rows that need a network namespace of the workload's own: three pods of one node, each with the
//! capabilities that a row asks for.
//!
//! - `open` has no fence. What arrives from it shows that a way out is one.
//! - `hooked` is fenced, by an agent without the host layer.
//! - `layered` is fenced by the same policy, by an agent with the host layer.
//!
//! Where only the host layer stops a way out, `hooked` is the mutant: the same fence, the same frames, and they arrive.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use agent_tests::actor::{Actor, Answer, Family, Profile, Raw};
use agent_tests::agent::{Agent, Setup};
use agent_tests::cgroup::Cgroup;
use agent_tests::craft::{Header, framed};
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use agent_tests::frame::UDP;
use agent_tests::node::{GATEWAY, Node, POD_LINK, Pod};
use agent_tests::sniffer::Sniffer;
use agent_tests::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::fate::Arms;
use crate::policies;
use crate::scene;

/// How long an event may take.
const REPORTED: Duration = Duration::from_secs(10);
/// How long the host layer may take to cover a pod.
const COVERED: Duration = Duration::from_secs(20);

/// Destinations of one row, of one family: nothing else goes there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// In the United States, which the fence does not allow.
    pub(crate) forbidden: IpAddr,
    /// In Germany, which it allows.
    pub(crate) allowed: IpAddr,
}

impl Aim {
    /// IPv4 addresses that end in `last`.
    pub(crate) const fn v4(last: u8) -> Self {
        Self {
            forbidden: IpAddr::V4(Ipv4Addr::new(13, 110, 54, last)),
            allowed: IpAddr::V4(Ipv4Addr::new(46, 4, 10, last)),
        }
    }

    /// IPv6 addresses that end in `last`.
    pub(crate) const fn v6(last: u16) -> Self {
        Self {
            forbidden: IpAddr::V6(Ipv6Addr::new(0x2601, 0x600, 0, 0, 0, 0, 0, last)),
            allowed: IpAddr::V6(Ipv6Addr::new(0x2a01, 0x4f8, 0, 0, 0, 0, 0, last)),
        }
    }
}

/// A fenced or unfenced workload in a pod of its own.
pub(crate) struct Member {
    /// With CAP_NET_RAW, which has the raw sockets of [`OLD`] open since before the fence.
    raw: RefCell<Actor>,
    /// With CAP_NET_ADMIN and CAP_NET_RAW.
    admin: RefCell<Actor>,
    pub(crate) cgroup: Cgroup,
    pub(crate) pod: Pod,
}

/// Raw sockets that every member has held since before its fence: name, family, protocol.
pub(crate) const OLD: [(&str, Family, u8); 5] = [
    ("old-v4", Family::V4, 255),
    ("old-v6", Family::V6, 255),
    ("old-sit", Family::V4, 41),
    ("old-ipip", Family::V4, 4),
    ("old-gre", Family::V4, 47),
];

impl Member {
    fn new(node: &Node, number: u8, root: &Cgroup, name: &str) -> Result<Self> {
        let (pod, cgroup) = (node.pod(number)?, root.child(name)?);
        let mut raw = Actor::start_as(Profile::NetRaw, &pod.namespace, &cgroup)?;
        for (name, family, protocol) in OLD {
            let answer = raw.raw(Raw::Open { name: name.into(), family, protocol })?;
            ensure!(
                answer.is_done(),
                "cannot open a raw socket of protocol {protocol}: {:?}",
                answer.outcome
            );
        }
        let admin = Actor::start_as(Profile::NetAdmin, &pod.namespace, &cgroup)?;
        Ok(Self { raw: raw.into(), admin: admin.into(), cgroup, pod })
    }

    /// A process of this member with these capabilities.
    pub(crate) fn actor(&self, profile: Profile) -> &RefCell<Actor> {
        match profile {
            Profile::NetAdmin => &self.admin,
            Profile::Root | Profile::None | Profile::NetRaw => &self.raw,
        }
    }

    /// Lets a process of this member act.
    pub(crate) fn act(&self, profile: Profile, raw: Raw) -> Result<Answer> {
        self.actor(profile).borrow_mut().raw(raw)
    }

    /// A UDP datagram from this pod's address, as a packet.
    pub(crate) fn datagram(&self, to: IpAddr) -> Vec<u8> {
        self.header(to, UDP).udp((40_000, 443), b"ringfence")
    }

    /// A header from this pod's address.
    pub(crate) fn header(&self, to: IpAddr, next: u8) -> Header {
        Header::new(self.pod.address_like(to), to, next)
    }

    /// The frame that carries `packet` to the gateway.
    pub(crate) fn frame(&self, packet: &[u8]) -> Vec<u8> {
        framed(GATEWAY, self.pod.mac, packet)
    }

    /// Hands frames to the pod's link through a packet socket.
    pub(crate) fn frames(&self, frames: Vec<Vec<u8>>) -> Result<Answer> {
        self.act(Profile::NetRaw, Raw::Frames { link: POD_LINK.into(), frames })
    }
}

/// The stage. Dropped in this order: streams, agents, processes, judge, cgroups from the leaves up, node.
pub(crate) struct Pods {
    hooked_watch: Watch,
    layered_watch: Watch,
    _hooked_agent: Agent,
    _hooked_setup: Setup,
    layered_agent: Agent,
    _layered_setup: Setup,
    pub(crate) open: Member,
    pub(crate) hooked: Member,
    pub(crate) layered: Member,
    pub(crate) sniffer: Sniffer,
    _roots: [Cgroup; 3],
    pub(crate) node: Node,
}

impl Pods {
    /// Sets the stage.
    pub(crate) fn new() -> Result<Self> {
        let node = Node::new(World::new()?)?;
        let roots = [Cgroup::root()?, Cgroup::root()?, Cgroup::root()?];
        let open = Member::new(&node, 1, &roots[0], "open")?;
        let hooked = Member::new(&node, 2, &roots[1], "hooked")?;
        let layered = Member::new(&node, 3, &roots[2], "layered")?;
        // Sentinels travel as the members' frames do: from a pod, over the bridge.
        let sniffer = Sniffer::between(&open.pod.namespace, node.world().far())?;
        let run = |root: &Cgroup, member: &Member, layer: &str| -> Result<(Setup, Agent)> {
            let policy =
                policies::fence("pods-stay-in-the-eea", "Enforce", member.cgroup.name(), "eea", &["EEA"]);
            let setup = scene::with_a_small_world(Setup::new(root)?)?
                .inside(node.world().near())?
                .arg("--host-layer")
                .arg(layer)
                .policy(&policy)?;
            let agent = setup.start()?;
            Ok((setup, agent))
        };
        let (hooked_setup, hooked_agent) = run(&roots[1], &hooked, "off")?;
        let (layered_setup, layered_agent) = run(&roots[2], &layered, "auto")?;
        let pods = Self {
            hooked_watch: hooked_agent.watch(&["--all"])?,
            layered_watch: layered_agent.watch(&["--all"])?,
            _hooked_agent: hooked_agent,
            _hooked_setup: hooked_setup,
            layered_agent,
            _layered_setup: layered_setup,
            open,
            hooked,
            layered,
            sniffer,
            _roots: roots,
            node,
        };
        pods.covered().context("the host layer does not cover the fenced pod")?;
        Ok(pods)
    }

    /// Waits until the host layer is on the fenced pod's link.
    fn covered(&self) -> Result<()> {
        let link = &self.layered.pod.host_link;
        wait_for("the host layer to cover the fenced pod", COVERED, || {
            let status = self.layered_agent.status()?;
            let interfaces = status.get("interfaces").and_then(Value::as_array).into_iter().flatten();
            let guard = |it: &Value| it.get("guard").and_then(Value::as_str).is_some_and(|it| it != "None");
            let mut ours = interfaces.filter(|it| it.get("name").and_then(Value::as_str) == Some(link));
            Ok(ours.any(guard).then_some(()))
        })
    }

    /// Lets three members do the same thing, and counts what arrives: `open` and `member` to the forbidden address,
    /// `member` to the allowed one.
    pub(crate) fn arms(
        &self,
        member: &Member,
        aim: Aim,
        act: impl Fn(&Member, IpAddr) -> Result<Answer>,
    ) -> Result<Arms> {
        let count = |member: &Member, to: IpAddr| -> Result<u64> {
            let before = self.sniffer.frames_to(to)?.frames;
            act(member, to).with_context(|| format!("{} to {to}", member.cgroup.name()))?;
            Ok(self.sniffer.frames_to(to)?.frames - before)
        };
        let arms = Arms {
            unfenced: count(&self.open, aim.forbidden)?,
            forbidden: count(member, aim.forbidden)?,
            allowed: count(member, aim.allowed)?,
        };
        let name = member.cgroup.name().rsplit('/').next().unwrap_or_default();
        println!(
            "  {name}: {} frames unfenced, {} forbidden, {} allowed ({})",
            arms.unfenced, arms.forbidden, arms.allowed, aim.forbidden
        );
        Ok(arms)
    }

    /// A way out that only the host layer closes: it is open for `hooked`, and what `layered` finds is returned.
    pub(crate) fn only_the_host_layer(
        &self,
        aim: Aim,
        act: impl Fn(&Member, IpAddr) -> Result<Answer>,
    ) -> Result<Arms> {
        let hooked = self.arms(&self.hooked, aim, &act)?;
        ensure!(hooked.forbidden > 0, "the hooks alone stopped it: the row should say so ({hooked:?})");
        self.arms(&self.layered, aim, act)
    }

    /// Waits for a violation of `layered` that satisfies `wanted`.
    pub(crate) fn layered_event(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        event(&self.layered_watch, &self.layered, what, wanted)
    }

    /// Waits for a violation of `hooked` that satisfies `wanted`.
    pub(crate) fn hooked_event(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        event(&self.hooked_watch, &self.hooked, what, wanted)
    }
}

fn event(watch: &Watch, member: &Member, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
    watch.wait_for(what, REPORTED, |event| {
        event.is("kind", "violation") && event.is("cgroup", member.cgroup.name()) && wanted(event)
    })
}
