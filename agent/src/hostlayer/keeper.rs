//! Keeps the interfaces of fenced workloads guarded: looks, plans, attaches, lets go. One thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_common::address::Address;
use agent_common::host::{OWN_ADDRESSES, Veth, veth_flags};
use thiserror::Error;

use super::census::{self, Census, Netns, Subject};
use super::guard::{Attached, GuardError, Held, Method, left, release};
use super::netlink::{Netlink, NetlinkError};
use super::plan::{Facts, Gap, Home, Seat, plan};
use super::report::{Interface, Report};
use super::rtnl::{Link, addresses, links, namespace_of};
use super::wait::{Wait, Waker};
use crate::bpf::host::{HostError, HostMaps, HostProgram};
use crate::bpf::pin::{PinDirectory, PinError};
use crate::events::model::words::Guard;
use crate::identity::cgroups::{CgroupError, CgroupFs};
use crate::policy::in_force::{History, InForce};
use crate::policy::lacks::{Lack, Lacks, Scope};
use crate::policy::schema::Requirement;
use crate::watchdog::Alarms;
use crate::watchdog::alarms::Weight;

/// How often a look is taken although nothing is known to have changed: addresses change without a word to us.
const LOOK: Duration = Duration::from_secs(1);

/// Why a look failed. What was guarded still is.
#[derive(Debug, Error)]
pub enum LookError {
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Attaching, or letting go.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The pin directory.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Maps or program.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Cgroups can't be read.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// Our own namespace can't be told.
    #[error("/proc/thread-self/net/dev: {0}; the host layer needs /proc")]
    Proc(io::Error),
}

/// The keeper.
pub struct Keeper {
    netlink: Netlink,
    wait: Wait,
    program: HostProgram,
    pins: Arc<PinDirectory>,
    maps: HostMaps,
    method: Method,
    history: Arc<History>,
    cgroups: Arc<CgroupFs>,
    lacks: Arc<Lacks>,
    report: Arc<Report>,
    /// By interface index.
    guards: BTreeMap<u32, Attached>,
    /// Strangers of the last look.
    strangers: BTreeMap<Netns, u32>,
    /// Fences that required it and did not have it, after the last look.
    lacking: BTreeSet<Arc<str>>,
    alarms: Option<Arc<Alarms>>,
}

impl Keeper {
    /// A keeper that guards nothing yet; `method` is to be tried first.
    ///
    /// # Errors
    /// No netlink.
    pub fn new(
        program: HostProgram,
        pins: Arc<PinDirectory>,
        maps: HostMaps,
        method: Method,
        history: Arc<History>,
        cgroups: Arc<CgroupFs>,
        lacks: Arc<Lacks>,
    ) -> Result<Self, LookError> {
        Ok(Self {
            netlink: Netlink::open()?,
            wait: Wait::new()?,
            program,
            pins,
            maps,
            method,
            history,
            cgroups,
            lacks,
            report: Arc::default(),
            guards: BTreeMap::new(),
            strangers: BTreeMap::new(),
            lacking: BTreeSet::new(),
            alarms: None,
        })
    }

    /// Tells when somebody meddles with its guards.
    #[must_use]
    pub fn alarming(mut self, alarms: Arc<Alarms>) -> Self {
        self.alarms = Some(alarms);
        self
    }

    /// What it says of itself, after each look.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// Makes it look at once.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.wait.waker()
    }

    /// Looks until told to stop; then lets go of everything, unless the guards shall `stay`.
    pub fn run(mut self, stop: &AtomicBool, stay: bool) {
        while !stop.load(Ordering::Acquire) {
            self.wait.wait(LOOK);
            if !stop.load(Ordering::Acquire)
                && let Err(error) = self.look()
            {
                tracing::error!(%error, "host layer: what was guarded still is, nothing new is");
            }
        }
        if stay {
            return;
        }
        let indexes: Vec<u32> = self.guards.keys().copied().collect();
        for index in indexes {
            if let Err(error) = self.release(index) {
                tracing::error!(%error, index, "host layer: letting go of an interface");
            }
        }
    }

    /// One look: what is there is guarded when it returns.
    ///
    /// # Errors
    /// What was guarded still is.
    pub fn look(&mut self) -> Result<(), LookError> {
        let Some(now) = self.history.now() else { return Ok(()) };
        let subjects = subjects(&now);
        let fenced: BTreeSet<u32> = subjects.iter().filter(|s| s.is_fenced).map(|s| s.id).collect();
        if fenced.is_empty() {
            self.settle(&[], &now)?;
            self.tell(&[], &now);
            return Ok(());
        }
        let ours = Netns::own().map_err(LookError::Proc)?;
        // Listing the interfaces makes the kernel give the namespaces that they lead to their names.
        let links = links(&mut self.netlink, None)?;
        let census = census::take(&self.cgroups, &subjects, ours);
        let homes = self.homes(&census, ours)?;
        let guarded = self.guards.iter().map(|(index, g)| (*index, g.veth.workload)).collect();
        let settled = settled(&self.strangers, &census.strangers);
        let facts = Facts {
            census: &census,
            ours,
            links: &links,
            homes: &homes,
            guarded: &guarded,
            settled: &settled,
        };
        let mut seats = plan(&facts, &fenced);
        self.strangers = census.strangers.clone();
        self.forget_the_dead(&links);
        self.hold();
        self.settle(&seats, &now)?;
        for seat in &mut seats {
            self.guard(seat, &now)?;
        }
        self.tell(&seats, &now);
        Ok(())
    }

    fn homes(&mut self, census: &Census, ours: Netns) -> Result<BTreeMap<Netns, Home>, LookError> {
        let mut homes = BTreeMap::new();
        for (netns, tenants) in census.tenants.iter().filter(|(netns, _)| **netns != ours) {
            let mut home = Home::default();
            for pid in tenants.values() {
                home.id = namespace_of(&mut self.netlink, *pid)?;
                if home.id.is_some() {
                    break;
                }
            }
            if let Some(id) = home.id {
                // A namespace that ended meanwhile has nothing in it.
                let gone = |error: &NetlinkError| error.errno() == Some(libc::EINVAL);
                match (links(&mut self.netlink, Some(id)), addresses(&mut self.netlink, id)) {
                    (Ok(links), Ok(addresses)) => (home.links, home.addresses) = (links, addresses),
                    (Err(error), _) | (_, Err(error)) if gone(&error) => continue,
                    (Err(error), _) | (_, Err(error)) => return Err(error.into()),
                }
            }
            homes.insert(*netns, home);
        }
        Ok(homes)
    }

    /// The kernel has detached what was on an interface that is gone.
    fn forget_the_dead(&mut self, links: &[Link]) {
        let alive: BTreeSet<u32> = links.iter().map(|l| l.index).collect();
        for index in self.maps.assigned().into_iter().filter(|index| !alive.contains(index)) {
            if let Err(error) = self.release(index) {
                tracing::error!(%error, index, "host layer: forgetting an interface that is gone");
            }
        }
    }

    /// Puts right what somebody did to the guards. Without [`Alarms`] nobody would hear of it: then it is left.
    fn hold(&mut self) {
        let Some(alarms) = &self.alarms else { return };
        for (index, guard) in &mut self.guards {
            let what = format!("host layer at interface {index}");
            match guard.hold() {
                Held::Well => alarms.over(&what),
                Held::Again(found) => alarms.repaired(&what, &format!("{found}; put right")),
                Held::Not(detail) => alarms.stands(&what, &what, &detail, Weight::Degrades),
                Held::Gone => {}
            }
        }
    }

    /// Lets go of what is no longer to be guarded, what an earlier agent left among it.
    fn settle(&mut self, seats: &[Seat], now: &InForce) -> Result<(), LookError> {
        let wanted: BTreeSet<u32> = seats.iter().flat_map(|s| s.guard.iter().map(|t| t.index)).collect();
        let mut there = left(&self.pins)?;
        there.extend(self.maps.assigned());
        for index in there.into_iter().filter(|index| !wanted.contains(index)) {
            tracing::info!(index, generation = now.manifest.generation, "host layer: no longer guarded");
            self.release(index)?;
        }
        self.maps.announce(wanted.len())?;
        Ok(())
    }

    fn release(&mut self, index: u32) -> Result<(), LookError> {
        // A link lives as long as anybody holds it.
        self.guards.remove(&index);
        if let Some(alarms) = &self.alarms {
            alarms.over(&format!("host layer at interface {index}"));
        }
        release(&self.pins, &mut self.netlink, index)?;
        self.maps.release(index)?;
        Ok(())
    }

    /// Guards the interfaces of a seat; those that the kernel refuses become gaps.
    fn guard(&mut self, seat: &mut Seat, now: &InForce) -> Result<(), LookError> {
        let Some(entry) = now.manifest.workload(seat.workload) else { return Ok(()) };
        let cgroup = self.cgroups.id(&entry.path)?.unwrap_or_default();
        for target in std::mem::take(&mut seat.guard) {
            let veth = veth(seat.workload, cgroup, &target.addresses);
            if self.guards.get(&target.index).is_none_or(|g| g.veth != veth) {
                // Known before it is attached: the first packet finds its workload.
                self.maps.assign(target.index, veth)?;
            }
            if let Some(guard) = self.guards.get_mut(&target.index) {
                guard.veth = veth;
                seat.guard.push(target);
                continue;
            }
            let netlink = &mut self.netlink;
            let (program, pins) = (&self.program, &self.pins);
            match Attached::attach(&mut self.method, program, pins, netlink, target.index, veth) {
                Ok(guard) => {
                    let (interface, how) = (target.name.as_str(), guard.guard().as_str());
                    tracing::info!(interface, how, workload = entry.path.as_str(), "host layer: guarded");
                    self.guards.insert(target.index, guard);
                    seat.guard.push(target);
                }
                Err(error) => {
                    self.maps.release(target.index)?;
                    seat.gaps.push(Gap::Failed(format!("{}: {error}", target.name)));
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, seats: &[Seat], now: &InForce) {
        let mut interfaces = Vec::new();
        let mut lacking = BTreeSet::new();
        for seat in seats {
            let Some(entry) = now.manifest.workload(seat.workload) else { continue };
            let workload = entry.path.as_str();
            for target in &seat.guard {
                let how = self.guards.get(&target.index).map_or(Guard::None, Attached::guard);
                interfaces.push(Interface::guarded(workload, target, how, self.maps.counts(target.index)));
            }
            interfaces.extend(seat.gaps.iter().map(|gap| Interface::missing(workload, gap)));
            if let Some(gap) = seat.gaps.first() {
                for fence in requiring(now, entry.set) {
                    let lost = format!("{workload}: {gap}, so what leaves it without a socket is not seen");
                    let lack = Lack { lost, mend: gap.mend().to_owned() };
                    self.lacks.set(Requirement::HostLayer, Scope::Fence(Arc::clone(fence)), Some(lack));
                    lacking.insert(Arc::clone(fence));
                }
            }
        }
        for fence in self.lacking.difference(&lacking) {
            self.lacks.set(Requirement::HostLayer, Scope::Fence(Arc::clone(fence)), None);
        }
        self.lacking = lacking;
        self.lacks.set(Requirement::HostLayer, Scope::Node, None);
        self.report.set(interfaces);
    }
}

/// The fences of a set that require the layer.
fn requiring(now: &InForce, set: u32) -> impl Iterator<Item = &Arc<str>> {
    let fences = now.manifest.sets.get(set as usize).map_or(&[][..], |fences| fences);
    let fences = fences.iter().filter_map(|at| now.manifest.fences.get(usize::from(*at)));
    fences.filter(|f| f.require.contains(&Requirement::HostLayer)).map(|f| &f.name)
}

/// The subjects in force. One without a cgroup has no processes.
fn subjects(now: &InForce) -> Vec<Subject> {
    let is_fenced = |set: u32| now.manifest.sets.get(set as usize).is_some_and(|fences| !fences.is_empty());
    let workloads = now.manifest.workloads.iter();
    workloads.map(|w| Subject { id: w.id, path: w.path.clone(), is_fenced: is_fenced(w.set) }).collect()
}

/// Where the same stranger was in the last look.
fn settled(before: &BTreeMap<Netns, u32>, now: &BTreeMap<Netns, u32>) -> BTreeSet<Netns> {
    now.iter().filter(|(netns, pid)| before.get(netns) == Some(pid)).map(|(netns, _)| *netns).collect()
}

fn veth(workload: u32, cgroup: u64, addresses: &[std::net::IpAddr]) -> Veth {
    let mut own = [Address { hi: 0, lo: 0 }; OWN_ADDRESSES];
    for (slot, address) in own.iter_mut().zip(addresses) {
        *slot = Address::from(*address);
    }
    let flags = if addresses.len() > OWN_ADDRESSES { veth_flags::ANY_SOURCE } else { 0 };
    Veth { cgroup, workload, flags, own }
}
