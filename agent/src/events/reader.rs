//! Stop 5: ring bytes to events, checked. One thread reads both rings, hands batches on, and tells what was lost.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_common::wire::{self, Counter};
use aya::maps::{MapData, RingBuf};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::enrich::Enricher;
use super::hub::Hub;
use super::model::notice::Lost;
use super::model::words::{Kind, LostReason};
use super::model::{Body, Event};
use crate::bpf::ledger::{Ledger, Told};
use crate::bpf::load::KernelLog;
use crate::bpf::rings::Rings;
use crate::flows::Witness;

mod resume;

/// The flow ring does not wake anybody; it is looked at this often. It holds 2 MiB: 11,900 events.
const LOOK: Duration = Duration::from_millis(20);
/// How often the kernel's loss counters are read.
const COUNT: Duration = Duration::from_millis(500);
/// How long the last look may take, when it is told to stop while more is written than it can read.
const LAST: Duration = Duration::from_secs(2);
/// Events handed on at once.
const BATCH: usize = 1024;

/// What stops 4 to 6 have counted since the maps were made: over all agents that used them.
#[derive(Debug, Default)]
pub struct ReaderCounts {
    /// Kernel counters, by [`Counter`], as last read.
    pub kernel: [AtomicU64; Counter::ALL.len()],
    /// Records taken from the rings.
    pub taken: AtomicU64,
    /// Records that did not decode.
    pub undecodable: AtomicU64,
    /// Events handed to the hub.
    pub published: AtomicU64,
    /// Records that an agent had taken and not handed on when it ended.
    pub died: AtomicU64,
}

/// The rings and where their events go.
pub struct Reader {
    rings: Rings,
    /// Rings of an earlier agent whose maps are not ours.
    old: Vec<Rings>,
    ledger: Ledger,
    /// The kernel programs' debug lines; they only come at log level debug.
    logs: Option<KernelLog>,
    enricher: Enricher,
    hub: Arc<Hub>,
    counts: Arc<ReaderCounts>,
    /// Wants to know which blocked flows the kernel told of.
    witness: Option<Arc<Witness>>,
    announced: [u64; Counter::ALL.len()],
    undecodable: u64,
    batch: Vec<Event>,
}

impl Reader {
    /// A reader over the rings of our programs, and over those that an earlier agent left beside.
    #[must_use]
    pub fn new(
        rings: Rings,
        old: Vec<Rings>,
        ledger: Ledger,
        logs: Option<KernelLog>,
        enricher: Enricher,
        hub: Arc<Hub>,
        counts: Arc<ReaderCounts>,
    ) -> Self {
        let announced = [0; Counter::ALL.len()];
        let batch = Vec::with_capacity(BATCH);
        Self {
            rings,
            old,
            ledger,
            logs,
            enricher,
            hub,
            counts,
            witness: None,
            announced,
            undecodable: 0,
            batch,
        }
    }

    /// Shows every event to `witness` too.
    #[must_use]
    pub fn watched_by(mut self, witness: Option<Arc<Witness>>) -> Self {
        self.witness = witness;
        self
    }

    /// Reads until told to stop, then what is left.
    pub fn run(mut self, stop: &AtomicBool) {
        self.resume();
        let mut counted = Instant::now();
        let mut more = false;
        while !stop.load(Ordering::Acquire) {
            if !more {
                wait(self.rings.violations.as_fd());
            }
            more = self.drain(counted + COUNT);
            if counted.elapsed() >= COUNT {
                counted = Instant::now();
                self.tell_losses();
                self.logs.iter_mut().for_each(KernelLog::flush);
            }
        }
        self.drain(Instant::now() + LAST);
        self.tell_losses();
    }

    /// Violations first, and again after each batch of flows. Ends when the rings are empty, and at the first batch after
    /// `until`: under a flood that is faster than the reader they never are, and the losses have to be told all the same.
    /// True if there may be more.
    fn drain(&mut self, until: Instant) -> bool {
        self.enricher.refresh();
        loop {
            let witness = self.witness.as_deref();
            let violations =
                take(&mut self.rings.violations, &mut self.enricher, &mut self.batch, &self.counts, witness);
            let flows = take(&mut self.rings.flows, &mut self.enricher, &mut self.batch, &self.counts, None);
            if !self.batch.is_empty() {
                let events = self.batch.len() as u64;
                self.hub.publish_all(self.batch.drain(..));
                self.counts.published.fetch_add(events, Ordering::Relaxed);
            }
            let told = self.told();
            self.ledger.tell(&told);
            if let (Some(witness), false) = (witness, violations) {
                witness.emptied();
            }
            if !violations && !flows {
                return false;
            }
            if Instant::now() >= until {
                return true;
            }
        }
    }

    /// What never reached a ring is announced in the stream: counted by the kernel, one event a reason.
    fn tell_losses(&mut self) {
        for (at, what) in Counter::ALL.into_iter().enumerate() {
            let now = match self.rings.counters.get(what) {
                Ok(count) => count,
                Err(error) => {
                    tracing::error!(%error, counter = what.name(), "a kernel counter can't be read");
                    continue;
                }
            };
            self.counts.kernel[at].store(now, Ordering::Relaxed);
            let more = now.saturating_sub(self.announced[at]);
            self.announced[at] = now;
            if let (Some((reason, kind)), true) = (loss(what), more > 0) {
                self.tell(reason, kind, more);
                self.ledger.announced(what, now, self.hub.head());
            }
        }
        let undecodable = self.counts.undecodable.load(Ordering::Relaxed);
        let more = undecodable - self.undecodable;
        self.undecodable = undecodable;
        if more > 0 {
            self.tell(LostReason::Decode, None, more);
        }
    }

    /// What became of the records so far.
    fn told(&self) -> Told {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Told {
            published: count(&self.counts.published),
            undecodable: count(&self.counts.undecodable),
            died: count(&self.counts.died),
            announced: self.announced,
            head: self.hub.head(),
        }
    }

    fn tell(&self, reason: LostReason, kind: Option<Kind>, count: u64) {
        tracing::warn!(%reason, count, "events were lost");
        let lost = Lost { reason, count, range: None, first_time: None, last_time: None, kind };
        self.hub.publish(Event { time: Timestamp::now(), body: Body::Lost(lost) });
    }
}

/// The counters that stand for events that are missing in the stream.
const fn loss(what: Counter) -> Option<(LostReason, Option<Kind>)> {
    match what {
        Counter::ViolationsLost => Some((LostReason::KernelRingFull, Some(Kind::Violation))),
        Counter::FlowsLost => Some((LostReason::KernelRingFull, Some(Kind::Flow))),
        Counter::Suppressed => Some((LostReason::Suppressed, Some(Kind::Violation))),
        Counter::NoStorage => Some((LostReason::KernelStateFull, None)),
        Counter::Violations
        | Counter::Flows
        | Counter::Unreadable
        | Counter::NoImage
        | Counter::CgroupUnread
        | Counter::CgroupUnnamed
        | Counter::NoVeth
        | Counter::StackLife => None,
    }
}

/// Waits for a violation, or for the time to look at the flows.
fn wait(ring: BorrowedFd<'_>) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    let mut fds = [PollFd::new(&ring, PollFlags::IN)];
    // An interrupted wait is a short wait.
    let _: Result<usize, rustix::io::Errno> = poll(&mut fds, Some(&timeout));
}

/// Takes up to a batch of records; true if there may be more.
fn take(
    ring: &mut RingBuf<MapData>,
    enricher: &mut Enricher,
    batch: &mut Vec<Event>,
    counts: &ReaderCounts,
    witness: Option<&Witness>,
) -> bool {
    let mut taken = 0;
    while taken < BATCH {
        let Some(record) = ring.next() else { break };
        taken += 1;
        match wire::Event::decode(&record) {
            Ok(event) => {
                if let Some(witness) = witness {
                    witness.saw(&event);
                }
                batch.push(enricher.enrich(&event));
            }
            Err(error) => {
                counts.undecodable.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "a record of the kernel does not decode");
            }
        }
    }
    counts.taken.fetch_add(taken as u64, Ordering::Relaxed);
    taken == BATCH
}
