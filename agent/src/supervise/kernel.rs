//! The kernel side over the agent's life: loaded over what is there, attached, kept or removed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, MapData};

use agent_common::control::Control;

use crate::bpf::adopt::{Inherited, PolicyPin, forget_other_maps, keep_new_maps, look, pinned_maps};
use crate::bpf::attach::{HOOKS, HookProgram, attach};
use crate::bpf::birth::{self, Birth, tracepoints};
use crate::bpf::image::ImageMaps;
use crate::bpf::ledger::{Ledger, own_schema};
use crate::bpf::link::{How, KeptLink};
use crate::bpf::load::{Loaded, keep_seed, load_over, seed};
use crate::bpf::object::OBJECT;
use crate::bpf::pin::{PinDirectory, PinError};
use crate::bpf::rings::Rings;
use crate::config::{Config, OnExit};
use crate::hostlayer::guard::release_filters;
use crate::identity::cgroups::CgroupFs;

/// Programs, maps and links, and the directory that keeps them.
pub(super) struct Kernel {
    /// Where all of it is pinned. Others who attach something keep it here.
    pub(super) pins: Arc<PinDirectory>,
    /// The loaded object.
    pub(super) ebpf: Ebpf,
    /// What the verifier said.
    pub(super) programs: Vec<Loaded>,
    /// The image that was in force before, if its maps go on.
    pub(super) inherited: Option<Inherited>,
    /// Held beside their pins: somebody who removes a pin does not detach anything.
    pub(super) links: Vec<KeptLink>,
    /// How new cgroups of subjects are met.
    pub(super) birth: Birth,
    control: Option<Array<MapData, Control>>,
    root: PathBuf,
    /// Something was enforced before this agent.
    pub(super) took_over: bool,
    /// Everything is attached and pinned.
    complete: bool,
}

/// What the reader needs.
pub(super) struct Sources {
    /// Rings of our programs.
    pub(super) rings: Rings,
    /// Rings that an earlier agent's programs wrote to.
    pub(super) old: Vec<Rings>,
    /// What was told so far.
    pub(super) ledger: Ledger,
}

impl Kernel {
    /// Loads the programs over the maps that an earlier agent left, or over new ones. Nothing that is in force changes.
    pub(super) fn load(config: &Config, root: &Path, cgroups: &CgroupFs) -> Result<Self> {
        let pins = Arc::new(PinDirectory::open(&config.bpffs)?);
        refuse_other_root(&pins, root, cgroups)?;
        let took_over = !pins.link_names()?.is_empty();
        let inherited = look(&pins)?;
        let maps = if inherited.is_some() { pinned_maps(&pins)? } else { Default::default() };
        let (mut ebpf, mut programs) =
            load_over(OBJECT, &maps).context("loading (`ringfence doctor` says what this kernel lacks)")?;
        if inherited.is_none() {
            keep_new_maps(&pins, &ebpf)?;
        }
        let control = if inherited.is_some() { keep_seed(&mut ebpf)? } else { seed(&mut ebpf)? };
        let (birth, links) = birth::attach(&mut ebpf, &pins, cgroups.levels_are_depths(), &mut programs);
        match &birth {
            Birth::Kernel => tracing::info!("{birth}"),
            Birth::Watch { .. } | Birth::Off => tracing::warn!("{birth}"),
        }
        let (root, control) = (root.to_owned(), Some(control));
        Ok(Self { pins, ebpf, programs, inherited, links, birth, control, root, took_over, complete: false })
    }

    /// The maps that make the image.
    pub(super) fn image_maps(&mut self) -> Result<ImageMaps> {
        let control = self.control.take().context("the image's maps were taken twice")?;
        let mut maps = ImageMaps::take(&mut self.ebpf, control)?;
        maps.keep(PolicyPin::new(&self.pins), self.inherited.as_ref());
        Ok(maps)
    }

    /// Puts our programs at the cgroup; what is no longer needed goes last.
    pub(super) fn attach(&mut self, errno: u32) -> Result<()> {
        let (needed, spare): (Vec<HookProgram>, Vec<HookProgram>) =
            HOOKS.into_iter().partition(|hook| hook.needed(errno));
        self.links.extend(attach(&self.ebpf, &self.pins, &self.root, &needed)?);
        for hook in spare {
            self.spare(hook.hook)?;
        }
        self.say();
        Ok(())
    }

    /// Every hook runs our programs: what went on beside them goes.
    pub(super) fn settle(&mut self) -> Result<()> {
        for link in &mut self.links {
            link.settle()?;
        }
        if self.birth != Birth::Kernel {
            for (name, _) in tracepoints() {
                self.spare(name)?;
            }
        }
        self.complete = true;
        Ok(())
    }

    fn spare(&self, name: &str) -> Result<()> {
        if self.pins.unlink(name)? {
            tracing::info!(link = name, "no longer needed: detached");
        }
        Ok(())
    }

    /// What the reader needs; maps that no program uses any more are let go, but for the rings that it has still to read.
    pub(super) fn sources(&mut self) -> Result<Sources> {
        let others = self.pins.other_maps()?;
        let before = if self.inherited.is_some() { Some(self.pins.maps()) } else { others.first().cloned() };
        let ledger = Ledger::open(&self.pins, before.as_deref())?;
        let mut old = Vec::new();
        for maps in others {
            match Rings::pinned(&maps) {
                Ok(rings) => old.push(rings),
                Err(error) => {
                    tracing::warn!(%error, maps = %maps.display(), "rings of an earlier agent can't be read");
                }
            }
        }
        forget_other_maps(&self.pins)?;
        Ok(Sources { rings: Rings::take(&mut self.ebpf, own_schema())?, old, ledger })
    }

    fn say(&self) {
        for p in &self.programs {
            tracing::debug!(program = p.name, instructions = p.instructions, "verified");
        }
        for link in &self.links {
            if let Ok(info) = link.info() {
                tracing::debug!(name = link.name, how = ?link.how, link = info.id, program = info.program, "kept");
            }
        }
        let count = |how| self.links.iter().filter(|link| link.how == how).count();
        let (adopted, attached, replaced) = (count(How::Adopted), count(How::Attached), count(How::Replaced));
        let cgroup = self.root.display();
        tracing::info!(%cgroup, adopted, attached, replaced, "attached: verdicts are given from now on");
        if self.took_over && attached + replaced > 0 {
            let hooks = self.links.iter().filter(|link| link.how != How::Adopted);
            let hooks = hooks.map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
            tracing::warn!(hooks, "these hooks were not attached any more, or are new: they are now");
        }
    }

    /// The agent failed. Before it was complete, what it made goes, and what was enforced before it still is;
    /// afterwards it is an end like any other.
    pub(super) fn give_up(self, on_exit: OnExit) {
        let undone = match (self.complete, self.took_over) {
            (true, _) => self.end(on_exit),
            (false, true) => Ok(()),
            (false, false) => self.take_down(),
        };
        if let Err(error) = undone {
            tracing::error!(%error, "what a failed agent leaves can't be removed");
        }
    }

    /// Ends the agent's part: everything stays as it is, or everything goes.
    pub(super) fn end(self, on_exit: OnExit) -> Result<()> {
        let cgroup = self.root.display();
        match on_exit {
            OnExit::Keep => {
                tracing::info!(%cgroup, "the fences stay in force without an agent: {}", mend(&self.pins));
            }
            OnExit::Remove => {
                let cgroup = cgroup.to_string();
                self.take_down()?;
                tracing::info!(cgroup, "detached: nothing is enforced below this cgroup any more");
            }
        }
        Ok(())
    }

    fn take_down(self) -> Result<()> {
        // Descriptors hold links as pins do.
        drop(self.links);
        release_filters(&self.pins)?;
        self.pins.remove()?;
        Ok(())
    }
}

/// How to end enforcement without an agent.
fn mend(pins: &PinDirectory) -> String {
    format!("`ringfence uninstall --bpffs {}` removes them", pins.path().display())
}

/// Links of another cgroup are another agent's work.
fn refuse_other_root(pins: &PinDirectory, root: &Path, cgroups: &CgroupFs) -> Result<()> {
    let own = fs::metadata(root).with_context(|| format!("can't read {}", root.display()))?.ino();
    let Some(other) = pins.guarded()?.into_iter().find(|id| *id != own) else { return Ok(()) };
    let guarded = cgroups.path_of(other).map_or_else(|| format!("id {other}"), |path| path.to_string());
    Err(PinError::OtherRoot { path: pins.path().to_owned(), guarded, wanted: root.to_owned() }.into())
}
