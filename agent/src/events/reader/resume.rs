//! The reader's first look: what happened while nobody was reading.
//!
//! Three things are told, in this order: the gap itself; what was lost in it, by reason; and what was waiting, which
//! nobody has read before. The numbers are exact: how many records were ever written and how many were ever taken lies in
//! the rings, how many were handed on and which losses were announced in the ledger.
//!
//! What an agent had numbered and a subscriber had not yet got when it died is in nobody's hands: the gap names the stream
//! and its last number, and a subscriber that has seen another last number knows by how much it was short.

use std::sync::atomic::Ordering;

use agent_common::wire::Counter;
use jiff::Timestamp;

use super::{Reader, loss, take};
use crate::bpf::ledger::{Left, Told, own_schema};
use crate::bpf::rings::{RECORD_BYTES, Records, Rings};
use crate::events::model::notice::Gap;
use crate::events::model::words::{Kind, LostReason};
use crate::events::model::{Body, Event};

/// What became of one set of rings while nobody was reading.
#[derive(Default)]
struct Found {
    records: Records,
    /// Records that an agent had taken and not handed on when it ended.
    died: u64,
    /// Losses that were not announced yet.
    losses: Vec<(LostReason, Option<Kind>, u64)>,
}

impl Found {
    fn lost(&self) -> u64 {
        self.died + self.losses.iter().map(|(_, _, count)| count).sum::<u64>()
    }
}

impl Reader {
    /// Goes on where an earlier agent ended.
    pub(super) fn resume(&mut self) {
        let end = Timestamp::now();
        let left = self.ledger.left().cloned();
        let mut told = left.as_ref().map_or_else(Told::default, |left| left.told_of(own_schema()));
        let own = look(&self.rings, &told, RECORD_BYTES);
        told.died += own.died;
        self.announced = told.announced;
        self.undecodable = told.undecodable;
        self.counts.taken.store(own.records.taken, Ordering::Relaxed);
        self.counts.undecodable.store(told.undecodable, Ordering::Relaxed);
        self.counts.published.store(told.published, Ordering::Relaxed);
        self.counts.died.store(told.died, Ordering::Relaxed);
        if let Some(left) = &left {
            self.tell_gap(left, own, end);
        }
        // Numbers begin anew.
        told.head = self.hub.head();
        self.ledger.begin(&told, &self.hub.origin().stream_id);
    }

    fn tell_gap(&mut self, left: &Left, own: Found, end: Timestamp) {
        let mut old: Vec<Found> = Vec::new();
        for rings in &self.old {
            let mut found = look(rings, &left.told_of(rings.schema), left.record_bytes);
            if !left.readable {
                found.died += std::mem::take(&mut found.records.waiting);
            }
            old.push(found);
        }
        let all = || old.iter().chain([&own]);
        let delivered = all().map(|found| found.records.waiting).sum();
        let lost = all().map(Found::lost).sum();
        let gap = Gap { begin: left.looked.min(end), end, delivered, lost, earlier: left.stream.clone() };
        tracing::info!(begin = %gap.begin, end = %gap.end, delivered, lost, "nobody was reading for a while; the fences stood");
        self.hub.publish(Event { time: end, body: Body::Gap(gap) });

        let died: u64 = all().map(|found| found.died).sum();
        if died > 0 {
            self.tell(LostReason::AgentEnded, None, died);
        }
        // Those of our own rings are announced with all others, by the next look at the counters.
        for (reason, kind, count) in old.iter().flat_map(|found| &found.losses) {
            self.tell(*reason, *kind, *count);
        }
        for mut rings in std::mem::take(&mut self.old) {
            if left.readable {
                self.deliver(&mut rings);
            }
        }
    }

    /// What waits in rings that nobody will read again. It is not counted as ours: it was written elsewhere.
    fn deliver(&mut self, rings: &mut Rings) {
        let aside = super::ReaderCounts::default();
        for ring in [&mut rings.violations, &mut rings.flows] {
            while take(ring, &mut self.enricher, &mut self.batch, &aside, None) {
                self.hub.publish_all(self.batch.drain(..));
            }
            self.hub.publish_all(self.batch.drain(..));
        }
        let undecodable = aside.undecodable.load(Ordering::Relaxed);
        if undecodable > 0 {
            self.tell(LostReason::Decode, None, undecodable);
        }
    }
}

/// Counts what is in the rings, and holds it against what was told of them.
fn look(rings: &Rings, told: &Told, record_bytes: u64) -> Found {
    let records = rings.records(record_bytes).unwrap_or_else(|error| {
        tracing::error!(%error, "the positions of a ring can't be read: the gap's counts are too low");
        Records { taken: told.published + told.undecodable + told.died, waiting: 0 }
    });
    let mut losses = Vec::new();
    for (at, what) in Counter::ALL.into_iter().enumerate() {
        let Some((reason, kind)) = loss(what) else { continue };
        // A counter that an older layout does not have was never counted.
        let more = rings.counters.get(what).unwrap_or(0).saturating_sub(told.announced[at]);
        if more > 0 {
            losses.push((reason, kind, more));
        }
    }
    let died = records.taken.saturating_sub(told.published + told.undecodable + told.died);
    Found { records, died, losses }
}
