//! One agent with one fence for many rows: a workload inside, one outside, and fresh addresses for each row, so that
//! every frame to an address belongs to who was told to send there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use agent_tests::actor::{Actor, Answer, Family, Profile};
use agent_tests::agent::{Agent, Setup};
use agent_tests::cgroup::Cgroup;
use agent_tests::events::{Event, Watch};
use agent_tests::world::NEAR;
use anyhow::{Context, Result, ensure};

use super::fate::{Arms, Fate, Finding};
use super::pods::Pods;
use super::sockets::Elder;
use crate::flows::PORT;
use crate::policies::{RULE, eea_only, fence, places};
use crate::scene::Scene;

/// How long an event may take.
const REPORTED: Duration = Duration::from_secs(10);

/// Addresses of one row, used by nobody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remotes {
    /// In the United States: the unfenced workload sends here.
    pub(crate) unfenced: IpAddr,
    /// In the United States: the fenced workload tries.
    pub(crate) forbidden: IpAddr,
    /// In Germany: the fenced workload may.
    pub(crate) allowed: IpAddr,
}

/// What an event has to say.
pub(crate) struct Told<'a> {
    /// The verdict's reason.
    pub(crate) reason: &'a str,
    /// Any of these hooks.
    pub(crate) hooks: &'a [&'a str],
}

/// Blocked by the fence's `default`, by the authority.
pub(crate) const AT_EGRESS: Told<'_> = Told { reason: "Default", hooks: &["Egress"] };
/// Blocked by the fence's `default`, before anything was sent.
pub(crate) const AT_CONNECT: Told<'_> = Told { reason: "Default", hooks: &["Connect4", "Connect6"] };

/// Either of them.
pub(crate) const AT_EITHER: Told<'_> = Told { reason: "Default", hooks: &["Connect4", "Connect6", "Egress"] };

/// The stage. Dropped in this order: who watches, the agent, the workloads, the world.
pub(crate) struct Stage {
    watch: Watch,
    agent: Agent,
    /// Holds the agent's directory.
    setup: Setup,
    /// A process of the fenced workload, with sockets that are older than the agent.
    pub(crate) elder: Elder,
    /// A fenced workload whose cgroup is to be removed.
    doomed: Option<Cgroup>,
    policy: String,
    pub(crate) scene: Scene,
    rows: u8,
    /// Made for the first row that needs it.
    pods: Option<Pods>,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let scene = Scene::with_udp(&Elder::UDP_SERVERS)?;
        let elder = Elder::new(&scene)?;
        let doomed = scene.root.child("doomed")?;
        let policy =
            eea_only(&scene, "Enforce") + &fence("doomed-too", "Enforce", doomed.name(), RULE, &["EEA"]);
        let setup = scene.agent()?.policy(&policy)?;
        let agent = setup.start()?;
        let watch = agent.watch(&["--all"])?;
        Ok(Self { watch, agent, setup, elder, doomed: Some(doomed), policy, scene, rows: 0, pods: None })
    }

    /// The stage of rows that need network namespaces of the workloads' own.
    pub(crate) fn pods(&mut self) -> Result<&Pods> {
        if self.pods.is_none() {
            self.pods = Some(Pods::new()?);
        }
        self.pods.as_ref().context("invariant: just made")
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// A directory for files and unix sockets.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.setup.directory()
    }

    /// A process of the fenced workload.
    pub(crate) fn fenced(&self, profile: Profile) -> Result<Actor> {
        Actor::start_as(profile, self.scene.near(), &self.scene.crm)
    }

    /// A process of a workload without a fence.
    pub(crate) fn unfenced(&self, profile: Profile) -> Result<Actor> {
        Actor::start_as(profile, self.scene.near(), &self.scene.other)
    }

    /// The fenced workload whose cgroup may be removed, once.
    pub(crate) fn take_doomed(&mut self) -> Result<Cgroup> {
        self.doomed.take().context("the doomed cgroup is gone already")
    }

    /// Puts a new image in force: every socket is judged anew. The fence stays the same; a place is added.
    pub(crate) fn publish_anew(&self) -> Result<()> {
        let policy = format!("{}{}", self.policy, places("elsewhere", &[("203.0.113.0/24", "FR")]));
        self.agent.publish(&self.setup, &policy).map(drop)
    }

    /// A process on the internet.
    pub(crate) fn far_actor(&self) -> Result<Actor> {
        Actor::start(self.scene.far(), &self.scene.other)
    }

    /// The address by which the internet reaches workloads.
    pub(crate) fn near_ip(&self) -> IpAddr {
        NEAR.0
    }

    /// Addresses that nobody has used yet.
    pub(crate) fn remotes(&mut self, family: Family) -> Result<Remotes> {
        self.rows = self.rows.checked_add(1).context("more rows than addresses")?;
        let last = self.rows;
        let v6 = |a, b, part| IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, part, u16::from(last)));
        Ok(match family {
            Family::V4 => Remotes {
                unfenced: Ipv4Addr::new(13, 110, 1, last).into(),
                forbidden: Ipv4Addr::new(13, 110, 2, last).into(),
                allowed: Ipv4Addr::new(46, 4, 11, last).into(),
            },
            Family::V6 => Remotes {
                unfenced: v6(0x2601, 0x600, 1),
                forbidden: v6(0x2601, 0x600, 2),
                allowed: v6(0x2a01, 0x4f8, 1),
            },
        })
    }

    /// Frames to an address so far, of any protocol.
    pub(crate) fn frames_to(&self, ip: IpAddr) -> Result<u64> {
        Ok(self.scene.sniffer.frames_to(ip)?.frames)
    }

    /// What has arrived at a row's addresses, printed.
    pub(crate) fn arms(&self, what: &str, remotes: Remotes) -> Result<Arms> {
        let arms = Arms {
            unfenced: self.frames_to(remotes.unfenced)?,
            forbidden: self.frames_to(remotes.forbidden)?,
            allowed: self.frames_to(remotes.allowed)?,
        };
        println!(
            "{what}: frames from the unfenced workload {}, fenced to a forbidden place {}, to an allowed one {}",
            arms.unfenced, arms.forbidden, arms.allowed
        );
        Ok(arms)
    }

    /// Takes the same way from both workloads: unfenced first, then fenced to a forbidden and to an allowed place,
    /// each time with a new process of `profile`. Counts frames.
    pub(crate) fn try_way(
        &mut self,
        what: &str,
        profile: Profile,
        remotes: Remotes,
        way: impl Fn(&mut Actor, SocketAddr) -> Result<()>,
    ) -> Result<Arms> {
        let at = |ip| SocketAddr::new(ip, PORT);
        way(&mut self.unfenced(profile)?, at(remotes.unfenced)).context("from the unfenced workload")?;
        way(&mut self.fenced(profile)?, at(remotes.forbidden)).context("to a forbidden place")?;
        way(&mut self.fenced(profile)?, at(remotes.allowed)).context("to an allowed place")?;
        self.arms(what, remotes)
    }

    /// [`Stage::try_way`], judged by frames, and the event of the block checked.
    pub(crate) fn judge_way(
        &mut self,
        what: &str,
        family: Family,
        told: &Told<'_>,
        way: impl Fn(&mut Actor, SocketAddr) -> Result<()>,
    ) -> Result<Fate> {
        let remotes = self.remotes(family)?;
        self.judge_way_to(what, remotes, told, way)
    }

    /// The same to given addresses.
    pub(crate) fn judge_way_to(
        &mut self,
        what: &str,
        remotes: Remotes,
        told: &Told<'_>,
        way: impl Fn(&mut Actor, SocketAddr) -> Result<()>,
    ) -> Result<Fate> {
        let fate = self.try_way(what, Profile::None, remotes, way)?.fate()?;
        if fate != Fate::OutOfScope {
            self.told(remotes.forbidden, told)?;
        }
        Ok(fate)
    }

    /// Waits for the event of a block of the fenced workload.
    pub(crate) fn told(&self, remote: IpAddr, told: &Told<'_>) -> Result<Event> {
        let what =
            format!("a block of {} to {remote}, {} at {:?}", self.scene.crm.name(), told.reason, told.hooks);
        self.watch.wait_for(&what, REPORTED, |event| {
            event.is_to(remote)
                && event.is("kind", "violation")
                && event.is("verdict", "Block")
                && event.is("workload", self.scene.crm.name())
                && event.is("reason", told.reason)
                && event.text("hook").is_some_and(|hook| told.hooks.contains(&hook))
        })
    }

    /// Waits for the event of a socket that process `pid` was refused, because its fence does not open the protocol
    /// `name`.
    pub(crate) fn told_of_socket(&self, name: &str, pid: u32) -> Result<Event> {
        self.watch.wait_for(&format!("a refused socket of protocol {name}"), REPORTED, |event| {
            event.is("kind", "violation")
                && event.is("reason", "Protocol")
                && event.is("hook", "SockCreate")
                && event.is("protocol", name)
                && event.is("workload", self.scene.crm.name())
                && event.number("pid") == Some(pid.into())
        })
    }

    /// Whether any event of the fenced workload names this address. Events come in order, so once a block that was
    /// provoked after everything else has been told, so has all that was to be told before it.
    pub(crate) fn is_told_of(&mut self, remote: IpAddr) -> Result<bool> {
        let marker = self.remotes(Family::V4)?.forbidden;
        let mut crm = self.fenced(Profile::None)?;
        let answer = datagram(&mut crm, SocketAddr::new(marker, PORT))?;
        ensure!(!answer.is_done(), "the marker was sent");
        self.told(marker, &AT_EGRESS)?;
        let crm = self.scene.crm.name();
        Ok(self.watch.events().iter().any(|event| event.is_to(remote) && event.is("workload", crm)))
    }
}

/// Sends one datagram with `sendto`.
pub(crate) fn datagram(actor: &mut Actor, to: SocketAddr) -> Result<Answer> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let name = format!("datagram to {to}");
    ensure!(actor.open(&name, family, agent_tests::actor::Kind::Udp)?.is_done(), "no UDP socket");
    actor.send_to(&name, to, 32)
}

/// The same outcome from every part of a row, or the worst of them.
pub(crate) fn all(fates: impl IntoIterator<Item = Fate>) -> Result<Finding> {
    let fates: Vec<Fate> = fates.into_iter().collect();
    let first = *fates.first().context("a row without parts")?;
    let worst = fates.iter().copied().find(|fate| *fate == Fate::OutOfScope);
    ensure!(
        worst.is_some() || fates.iter().all(|fate| *fate == first),
        "the parts of this row differ: {fates:?}"
    );
    Ok(Finding::Fate(worst.unwrap_or(first)))
}
