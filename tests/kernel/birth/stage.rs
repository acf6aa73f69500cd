//! What the tests of birth share: sibling cgroups, those of subjects and those of nobody, and an agent that meets new
//! cgroups in a chosen way.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use agent::bpf::birth::SWITCH;
use agent::bpf::features::switches::WITHOUT;
use agent_tests::actor::{Actor, Answer, Command};
use agent_tests::agent::{Agent, Setup};
use anyhow::{Context, Result, bail};
use aya::maps::{HashMap, Map, MapData, loaded_maps};

use crate::flows::{Address, Destination, OUTSIDE_PORT, PORT, Shape, Use};
use crate::scene::Scene;

/// How the agent meets new cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the kernel, at birth.
    Kernel,
    /// Strangers get what could be meant.
    Watch,
    /// Not before it notices: the mutant.
    Off,
}

/// The datagrams of births.
const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };

/// Names of subjects: `s0`, `s1`, …
pub(super) fn subjects(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n}")).collect()
}

/// Names of siblings that no fence selects.
pub(super) fn innocents(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("innocent{n}")).collect()
}

/// Each subject by its own path; their parent is fenced by nobody.
pub(super) fn policy(scene: &Scene, names: &[String]) -> String {
    let paths: Vec<String> = names.iter().map(|name| format!("\"{}/{name}\"", scene.root.name())).collect();
    format!(
        "apiVersion: ringfence.dev/v1alpha1\n\
         kind: GeoFence\n\
         metadata: {{name: births}}\n\
         spec:\n\
         \x20 mode: Enforce\n\
         \x20 subjects: [{{cgroups: [{}]}}]\n\
         \x20 allow: [{{name: eea, jurisdictions: [EEA]}}]\n\
         \x20 default: Block\n",
        paths.join(", ")
    )
}

/// An agent that fences `names` below the scene's root.
pub(super) fn setup(scene: &Scene, way: Way, names: &[String]) -> Result<Setup> {
    let setup = scene.agent()?.policy(&policy(scene, names))?;
    Ok(match way {
        Way::Kernel => setup,
        Way::Watch => setup.env(WITHOUT, "birth"),
        Way::Off => setup.env(SWITCH, "off"),
    })
}

/// Where subjects must not send, on a port of theirs.
pub(super) fn forbidden() -> SocketAddr {
    SHAPE.target(Destination::Forbidden, PORT)
}

/// The same address on the innocents' port, so that the judge can tell them apart.
pub(super) fn forbidden_to_subjects() -> SocketAddr {
    SHAPE.target(Destination::Forbidden, OUTSIDE_PORT)
}

/// Who has new cgroups made and processes born in them; it is in a cgroup that no fence selects.
pub(super) struct Midwife {
    actor: Actor,
}

impl Midwife {
    pub(super) fn new(scene: &Scene) -> Result<Self> {
        Ok(Self { actor: scene.other_actor()? })
    }

    /// One birth after the other, `every_us` microseconds apart.
    pub(super) fn births(
        &mut self,
        scene: &Scene,
        names: &[String],
        to: SocketAddr,
        every_us: u64,
    ) -> Result<Answer> {
        let (parent, names) = (scene.root.path().to_owned(), names.to_vec());
        self.actor.tell(&Command::Births { parent, names, to, every_us })
    }
}

/// Frames of births that arrived so far.
pub(super) fn arrived(scene: &Scene, to: SocketAddr) -> Result<u64> {
    Ok(scene.sniffer.frames_of(agent_tests::frame::UDP, to)?.frames)
}

/// The identity table of an agent, as the kernel has it: found among the maps that its descriptors show.
pub(super) fn identity_table(agent: &Agent) -> Result<HashMap<MapData, u64, u32>> {
    let own = map_ids(agent.pid())?;
    for info in loaded_maps() {
        // A map of somebody else's may be gone by now.
        let Ok(info) = info else { continue };
        if own.contains(&info.id()) && info.name_as_str() == Some("IDENTITY") {
            let data = MapData::from_id(info.id()).context("the agent's IDENTITY map")?;
            return Map::from_map_data(data)?.try_into().context("IDENTITY is no hash map");
        }
    }
    bail!("process {} holds no map IDENTITY", agent.pid())
}

fn map_ids(pid: u32) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed while it is looked at.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

/// Resident memory of a process, KiB.
pub(super) fn rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS")
}
