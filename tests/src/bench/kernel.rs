//! The kernel object with the peers' programs, loaded by this process, and the production publisher above its maps.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::bpf::birth::Birth;
use agent::bpf::identity::IdentityMaps;
use agent::bpf::image::ImageMaps;
use agent::bpf::load::{Loaded, load, seed};
use agent::identity::cgroups::CgroupFs;
use agent::places::Groups;
use agent::policy::identify::Identities;
use agent::policy::in_force::History;
use agent::policy::publish::{Data, Knobs, Publisher};
use agent::policy::{CgroupPath, Context as PolicyContext, PolicySet, SourceFile, check};
use agent_common::limits::MAX_PLACES;
use agent_tests::cgroup::Cgroup;
use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, Map};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, SchedClassifier, TestRun, TestRunOptions,
};
use jiff::Timestamp;

use super::ground::Ground;
use super::trie::Prefixes;

/// Names the kernel object with the test-only programs.
const OBJECT: &str = "RINGFENCE_PROBE_OBJECT";
/// Lookups of one run: `KEYS` of `agent-ebpf/src/peer.rs`; the map refuses another size.
pub(crate) const KEYS: usize = 1 << 16;
const DENIED_WORDS: usize = MAX_PLACES / 64;
/// A test run wants a packet; nobody reads it.
const PACKET: [u8; 64] = [0; 64];

/// The maps that a publisher writes.
pub(crate) struct Maps {
    /// Of the image.
    pub(crate) image: ImageMaps,
    identity: IdentityMaps,
}

/// A loaded object. What it attached is detached when it is dropped.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    /// Names of the hooks' programs with the instructions that the verifier walked in each.
    pub(crate) programs: Vec<Loaded>,
}

impl Kernel {
    /// Loads the object; the maps of the image come with it.
    ///
    /// # Errors
    /// It is not built, or the kernel refuses it.
    pub(crate) fn load() -> Result<(Self, Maps)> {
        let path = std::env::var_os(OBJECT).map(PathBuf::from);
        let path = path.with_context(|| format!("{OBJECT} is not set: run `cargo xtask bench`"))?;
        let object = fs::read(&path).with_context(|| {
            format!("cannot read {}: build it with `cargo xtask build-ebpf --probe`", path.display())
        })?;
        let (mut ebpf, programs) = load(&object)?;
        let control = seed(&mut ebpf)?;
        let maps =
            Maps { image: ImageMaps::take(&mut ebpf, control)?, identity: IdentityMaps::take(&mut ebpf)? };
        Ok((Self { ebpf, programs }, maps))
    }

    fn trie(&self, name: &str) -> Result<BorrowedFd<'_>> {
        match self.ebpf.map(name) {
            Some(Map::LpmTrie(map)) => Ok(map.fd().as_fd()),
            _ => anyhow::bail!(
                "the kernel object has no trie {name}: build it with `cargo xtask build-ebpf --probe`"
            ),
        }
    }

    /// Fills the tries of the object; returns how long each took, IPv4 and IPv6.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn fill_tries(&self, v4: &Prefixes, v6: &Prefixes) -> Result<(Duration, Duration)> {
        Ok((v4.fill(self.trie("PEER_TRIE_V4")?)?, v6.fill(self.trie("PEER_TRIE_V6")?)?))
    }

    /// The addresses that runs look up, as high and low words.
    ///
    /// # Errors
    /// Not [`KEYS`] of them.
    pub(crate) fn set_keys(&mut self, keys: &[(u64, u64)]) -> Result<()> {
        let words: Vec<u64> = keys.iter().flat_map(|(high, low)| [*high, *low]).collect();
        let words: Box<[u64; 2 * KEYS]> = words
            .into_boxed_slice()
            .try_into()
            .ok()
            .with_context(|| format!("{} keys, not {KEYS}", keys.len()))?;
        let mut map: Array<_, [u64; 2 * KEYS]> =
            self.ebpf.map_mut("PEER_KEYS").context("no map PEER_KEYS")?.try_into()?;
        Ok(map.set(0, words.as_ref(), 0)?)
    }

    /// What the fence of the trie program refuses: all that ours does.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn set_denied(&mut self, ground: &Ground) -> Result<()> {
        let mut denied = [0u64; DENIED_WORDS];
        for place in 0..ground.table.places.len() {
            if !ground.allows(u16::try_from(place)?) {
                denied[place / 64] |= 1 << (place % 64);
            }
        }
        let mut map: Array<_, [u64; DENIED_WORDS]> =
            self.ebpf.map_mut("PEER_DENIED").context("no map PEER_DENIED")?.try_into()?;
        Ok(map.set(0, denied, 0)?)
    }

    /// Runs a program once: how long it took and what it returned.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn run(&mut self, program: &str) -> Result<(Duration, u32)> {
        let classifier: &mut SchedClassifier =
            self.ebpf.program_mut(program).with_context(|| format!("no program {program}"))?.try_into()?;
        if classifier.fd().is_err() {
            classifier.load().with_context(|| format!("the kernel refuses {program}"))?;
        }
        let options = TestRunOptions { data_in: Some(&PACKET), repeat: 1, ..TestRunOptions::default() };
        let result = classifier.test_run(options).with_context(|| format!("run {program}"))?;
        Ok((result.duration, result.return_value))
    }

    /// Attaches an egress program to a cgroup, until this is dropped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn attach(&mut self, program: &str, cgroup: &Cgroup) -> Result<()> {
        let egress: &mut CgroupSkb =
            self.ebpf.program_mut(program).with_context(|| format!("no program {program}"))?.try_into()?;
        let directory = fs::File::open(cgroup.path())?;
        egress
            .attach(&directory, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)
            .with_context(|| format!("attach {program}"))?;
        Ok(())
    }
}

/// The production publisher above maps, with what it takes to keep them.
///
/// # Errors
/// No cgroup2 mount.
pub(crate) fn publisher(maps: Maps, country_db: Option<&Path>) -> Result<(Publisher, Arc<History>)> {
    let (cgroups, _) = CgroupFs::find(None)?;
    let history = Arc::new(History::default());
    let data = Data { country_db: country_db.map(Path::to_owned), ..Data::default() };
    let knobs = Knobs { errno: 1, flows: true, events_per_second: 20_000 };
    let identities = Identities::new(maps.identity, Arc::new(cgroups), CgroupPath::root(), Birth::Off);
    Ok((Publisher::new(maps.image, identities, Arc::clone(&history), data, knobs), history))
}

/// A policy as the agent would read it.
///
/// # Errors
/// It is refused.
pub(crate) fn policy(text: &str) -> Result<PolicySet> {
    let groups = Groups::builtin()?;
    let context = PolicyContext { now: Timestamp::now(), groups: &groups, cgroups: None };
    let checked = check(&[SourceFile::new("bench.yaml", text)], context);
    ensure!(checked.set.is_some(), "the benchmark's own policy is refused: {:?}", checked.findings);
    checked.set.context("a policy")
}
