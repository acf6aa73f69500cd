//! Stop 6: numbers to names. What is not known stays explicitly unknown; an event is never dropped for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_common::flow::{Direction as KernelDirection, Flow, flags};
use agent_common::verdict::{Outcome, Reason as KernelReason};
use agent_common::wire::{self, event_flags};
use jiff::Timestamp;

use super::model::Event;
use super::model::flow::{
    Endpoint, FenceOutcome, FlowEvent, Place, Process, ProcessingRecord, Protocol, Traffic,
};
use super::model::words::{Direction, Hook, Mode, Phase, Reason, Severity, Verdict};
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::{History, InForce};
use crate::policy::lacks::Lacks;
use crate::policy::{Clock, Manifest, schema};

/// Places and names that many events share, by generation.
#[derive(Default)]
struct Shared {
    places: HashMap<u16, Arc<Place>>,
    workloads: HashMap<u32, Arc<str>>,
    records: HashMap<u8, Arc<ProcessingRecord>>,
}

/// Names kept for one purpose; more means that a workload makes them up.
const CACHE: usize = 4096;

/// Turns kernel events into what people read.
pub struct Enricher {
    history: Arc<History>,
    cgroups: Arc<CgroupFs>,
    lacks: Arc<Lacks>,
    clock: Clock,
    shared: HashMap<u32, Shared>,
    comms: HashMap<[u8; 16], Arc<str>>,
}

impl Enricher {
    /// An enricher that finds generations in `history`, and in `lacks` what their fences go without.
    #[must_use]
    pub fn new(history: Arc<History>, cgroups: Arc<CgroupFs>, lacks: Arc<Lacks>) -> Self {
        let clock = Clock::read();
        Self { history, cgroups, lacks, clock, shared: HashMap::new(), comms: HashMap::new() }
    }

    /// Reads the clocks anew: somebody may have set one. Once a batch.
    pub fn refresh(&mut self) {
        self.clock = Clock::read();
        if self.shared.len() > History::KEPT {
            self.shared.clear();
        }
        if self.comms.len() > CACHE {
            self.comms.clear();
        }
    }

    fn wall(&self, boot: u64) -> Timestamp {
        self.clock.wall(boot)
    }

    /// One event. Its numbers were checked by `decode`; what they point to may be gone.
    pub fn enrich(&mut self, e: &wire::Event) -> Event {
        let in_force = self.history.get(e.generation);
        let manifest = in_force.as_deref().map(|f| &f.manifest);
        let outcome = Outcome(e.outcome);
        let violation = e.flags & event_flags::VIOLATION != 0;
        let blocked = e.flags & event_flags::BLOCKED != 0;
        let early = e.flags & event_flags::EARLY != 0;
        let phase = phase(e.phase);
        let rule = manifest.and_then(|m| m.rule(outcome));
        let fence = manifest.and_then(|m| m.fence(outcome));
        let severity = violation.then(|| rule.map_or(Severity::High, |r| severity(r.severity)));
        let flow = FlowEvent {
            phase,
            verdict: if blocked { Verdict::Block } else { Verdict::Allow },
            would_be: if violation { Verdict::Block } else { Verdict::Allow },
            enforced: blocked,
            reason: reason(outcome),
            fence: fence.map(|f| Arc::clone(&f.name)),
            rule: manifest.and_then(|m| m.rule_name(outcome)).map(Arc::from),
            outcomes: match (&in_force, violation) {
                (Some(f), true) => outcomes(f, e),
                _ => Arc::new([]),
            },
            generation: e.generation.into(),
            place: self.place(manifest, e),
            remote: Endpoint::new(IpAddr::from(e.remote), e.port),
            local: (e.flags & event_flags::LOCAL != 0)
                .then(|| Endpoint::new(IpAddr::from(e.local), e.local_port)),
            protocol: Protocol(e.protocol),
            direction: if e.direction == 0 { Direction::Outbound } else { Direction::Inbound },
            hook: hook(e.hook),
            process: (e.pid != 0).then(|| Process { pid: e.pid, uid: e.uid, comm: self.comm(e.comm) }),
            cgroup: self.cgroup(e.cgroup),
            cgroup_id: e.cgroup,
            workload: self.workload(manifest, e),
            severity,
            basis: rule.and_then(|r| r.basis.clone()),
            record: self.record(manifest, e.generation, outcome),
            traffic: (!matches!(phase, Phase::Open)).then_some(Traffic {
                tx_bytes: e.tx_bytes,
                tx_packets: e.tx_packets,
                rx_bytes: e.rx_bytes,
                rx_packets: e.rx_packets,
            }),
            opened: (!early).then(|| self.wall(e.opened)),
            duration: matches!(phase, Phase::Close)
                .then(|| Duration::from_nanos(e.time.saturating_sub(e.opened))),
            repeats: e.repeats,
            folded: e.folded,
            partial: manifest.is_some_and(|m| self.lacks.is_partial(m, e.set.into())),
        };
        Event::of_flow(self.wall(e.time), flow)
    }

    fn place(&mut self, manifest: Option<&Manifest>, e: &wire::Event) -> Arc<Place> {
        let Some(m) = manifest else { return Arc::default() };
        let shared = self.shared.entry(e.generation).or_default();
        Arc::clone(shared.places.entry(e.place).or_insert_with(|| Arc::new(place(m, e.place))))
    }

    fn comm(&mut self, comm: [u8; 16]) -> Arc<str> {
        let known = self.comms.entry(comm).or_insert_with(|| {
            let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
            Arc::from(String::from_utf8_lossy(&comm[..end]))
        });
        Arc::clone(known)
    }

    fn cgroup(&self, id: u64) -> Option<Arc<str>> {
        self.cgroups.path_of(id)
    }

    fn workload(&mut self, manifest: Option<&Manifest>, e: &wire::Event) -> Option<Arc<str>> {
        let entry = manifest?.workload(e.workload)?;
        let shared = self.shared.entry(e.generation).or_default();
        let name = shared.workloads.entry(e.workload).or_insert_with(|| Arc::from(entry.path.as_str()));
        Some(Arc::clone(name))
    }

    fn record(
        &mut self,
        manifest: Option<&Manifest>,
        generation: u32,
        outcome: Outcome,
    ) -> Option<Arc<ProcessingRecord>> {
        let record = &manifest?.fence(outcome)?.record;
        if **record == schema::Record::default() {
            return None;
        }
        let shared = self.shared.entry(generation).or_default();
        let known = shared.records.entry(outcome.fence()).or_insert_with(|| {
            Arc::new(ProcessingRecord {
                data_categories: record.data_categories.iter().map(ToString::to_string).collect(),
                purpose: record.purpose.as_deref().map(str::to_owned),
                recipients: record.recipients.iter().map(ToString::to_string).collect(),
            })
        });
        Some(Arc::clone(known))
    }
}

/// A place by id, in the words of an event.
#[must_use]
pub fn place(manifest: &Manifest, id: u16) -> Place {
    let Some((info, source)) = manifest.table.get(id) else { return Place::default() };
    Place {
        country: info.country.map(|c| Arc::from(c.to_string())),
        registered_country: info.registered.map(|c| Arc::from(c.to_string())),
        provider: info.provider.clone(),
        region: info.region.clone(),
        asn: None,
        source: Some(Arc::from(source.name.as_str())),
        data_date: source.date,
        jurisdictions: Arc::from(manifest.jurisdictions(id)),
        anycast: info.kind == agent_common::image::PlaceKind::Anycast,
    }
}

/// What each fence said: the kernel's own word on allow or block, and the same code on the same policy for the rule.
fn outcomes(in_force: &InForce, e: &wire::Event) -> Arc<[FenceOutcome]> {
    let manifest = &in_force.manifest;
    let flow = Flow {
        remote: e.remote,
        port: e.port,
        protocol: e.protocol,
        direction: if e.direction == 0 { KernelDirection::Outbound } else { KernelDirection::Inbound },
        flags: e.flow_flags,
    };
    let said = in_force.outcomes_at(e.set.into(), &flow, e.place, e.time);
    let fences = said.into_iter().enumerate().filter_map(|(at, outcome)| {
        let fence = manifest.fence(outcome)?;
        let blocks = e.blocking >> at & 1 == 1;
        // No fence was asked: they all say no for the same reason.
        let outcome = if e.flow_flags & (flags::UNREADABLE | flags::SPOOFED) == 0 {
            outcome
        } else {
            Outcome(e.outcome)
        };
        Some(FenceOutcome {
            fence: Arc::clone(&fence.name),
            mode: mode(fence.mode),
            verdict: if blocks { Verdict::Block } else { Verdict::Allow },
            rule: manifest.rule_name(outcome).map(Arc::from),
            reason: reason(outcome),
        })
    });
    fences.collect()
}

/// The reason of an outcome.
#[must_use]
pub fn reason(outcome: Outcome) -> Reason {
    KernelReason::try_from(outcome.reason()).map_or(Reason::Fault, Reason::from)
}

/// A fence's mode.
#[must_use]
pub const fn mode(mode: schema::Mode) -> Mode {
    match mode {
        schema::Mode::Audit => Mode::Audit,
        schema::Mode::Enforce => Mode::Enforce,
    }
}

const fn severity(severity: schema::Severity) -> Severity {
    match severity {
        schema::Severity::Low => Severity::Low,
        schema::Severity::Medium => Severity::Medium,
        schema::Severity::High => Severity::High,
        schema::Severity::Critical => Severity::Critical,
    }
}

/// `decode` let no other number through.
fn phase(phase: u8) -> Phase {
    wire::Phase::try_from(phase).map_or(Phase::Open, Phase::from)
}

/// As above.
fn hook(hook: u8) -> Hook {
    wire::Hook::try_from(hook).map_or(Hook::Egress, Hook::from)
}
