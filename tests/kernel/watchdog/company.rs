//! Programs of others at the same cgroup, before and after ours.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use agent_tests::cgroup::Cgroup;
use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, Program};
use libtest_mimic::Trial;

use super::Guarded;
use crate::load::{PROBE_OBJECT, object};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "watchdog::a_program_of_others_after_ours_is_told_once", after),
        trial(Place::Anywhere, "watchdog::a_program_of_others_before_ours_is_told_with_its_place", before),
    ]
}

/// The probe object, of which some program stands in for somebody else's. Dropping it detaches.
pub(super) struct Foreign {
    ebpf: Ebpf,
    name: &'static str,
}

/// Lets everything pass.
pub(super) fn empty_egress(ebpf: &mut Ebpf) -> Result<&'static str> {
    let name = "peer_empty_egress";
    let program: &mut CgroupSkb = ebpf.program_mut(name).context(name)?.try_into()?;
    program.load()?;
    Ok(name)
}

/// Lets everything pass: it has no image.
fn blind_connect(ebpf: &mut Ebpf) -> Result<&'static str> {
    let name = "ringfence_connect4";
    let program: &mut CgroupSockAddr = ebpf.program_mut(name).context(name)?.try_into()?;
    program.load()?;
    Ok(name)
}

impl Foreign {
    pub(super) fn load(which: fn(&mut Ebpf) -> Result<&'static str>) -> Result<Self> {
        let mut ebpf = Ebpf::load(&fs::read(object(PROBE_OBJECT)?)?)?;
        let name = which(&mut ebpf)?;
        Ok(Self { ebpf, name })
    }

    fn program(&self) -> Result<&Program> {
        self.ebpf.program(self.name).context(self.name)
    }

    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.program()?.fd()?.as_fd())
    }

    fn id(&self) -> Result<u32> {
        Ok(self.program()?.info()?.id())
    }

    fn attach(&mut self, cgroup: &Cgroup) -> Result<()> {
        let cgroup = File::open(cgroup.path())?;
        let program = self.ebpf.program_mut(self.name).context(self.name)?;
        if self.name == "peer_empty_egress" {
            let program: &mut CgroupSkb = program.try_into()?;
            program.attach(cgroup, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)?;
        } else {
            let program: &mut CgroupSockAddr = program.try_into()?;
            program.attach(cgroup, CgroupAttachMode::Single)?;
        }
        Ok(())
    }
}

fn after() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let mut kept = Vec::new();
    for (which, hook) in [(blind_connect as fn(&mut Ebpf) -> _, "connect4"), (empty_egress, "egress")] {
        let mut foreign = Foreign::load(which)?;
        let since = Instant::now();
        foreign.attach(&guarded.scene.root)?;
        guarded.told(since, hook, &format!("(id {}) runs after ours at {hook}", foreign.id()?), false)?;
        kept.push(foreign);
    }
    guarded.looked(2)?;
    ensure!(guarded.tampers().len() == 2, "told once each: {:#?}", guarded.tampers());
    ensure!(guarded.state()? == "Ready", "company is no reason to be {}", guarded.state()?);
    let status = guarded.agent.status()?.to_string();
    ensure!(status.contains("runs after ours at egress"), "status does not say it: {status}");
    guarded.holds("in company")?;
    drop(kept);
    guarded.looked(2)?;
    let status = guarded.agent.status()?.to_string();
    ensure!(!status.contains("runs after ours"), "status still says it: {status}");
    guarded.stop()
}

fn before() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut foreign = Foreign::load(blind_connect)?;
    foreign.attach(&scene.root)?;
    let guarded = Guarded::in_company(scene)?;
    let says = format!("(id {}) runs before ours at connect4 (1 of 2, ours is 2)", foreign.id()?);
    guarded.told(Instant::now(), "connect4", &says, false)?;
    guarded.looked(2)?;
    ensure!(guarded.tampers().len() == 1, "told once: {:#?}", guarded.tampers());
    guarded.stop()
}
