//! The last events, and for longer what is no flow.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use crate::events::model::notice::Lost;
use crate::events::model::words::LostReason;
use crate::events::model::{Body, Event, Stamped};

/// Notices that outlive their place in the ring. Losses are told twice a second at most, by reason: these are those of half
/// a minute, for a subscriber that did not look for so long.
const KEPT_NOTICES: usize = 256;

/// The last events; the first one's number gives all others'.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) events: VecDeque<Arc<Event>>,
    /// Number of `events[0]`, or of the next event while there is none.
    pub(super) first: u64,
    capacity: usize,
    /// Notices that have left `events`, with their numbers.
    notices: VecDeque<(u64, Arc<Event>)>,
}

impl Ring {
    /// An empty ring for `capacity` events.
    pub(super) const fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), first: 1, capacity, notices: VecDeque::new() }
    }

    /// Adds an event; returns what nobody holds any more, to be ended after the lock.
    pub(super) fn push(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        let evicted = if self.events.len() == self.capacity { self.evict() } else { None };
        self.events.push_back(event);
        evicted
    }

    /// Number of the last event.
    pub(super) fn head(&self) -> u64 {
        self.first + self.events.len() as u64 - 1
    }

    /// Number of the oldest event that is still there.
    pub(super) fn oldest(&self) -> u64 {
        self.notices.front().map_or(self.first, |(sequence, _)| *sequence)
    }

    /// Makes room.
    fn evict(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        let number = self.first;
        self.first += 1;
        if event.flow().is_some() {
            return Some(event);
        }
        self.notices.push_back((number, event));
        if self.notices.len() > KEPT_NOTICES {
            self.notices.pop_front().map(|(_, event)| event)
        } else {
            None
        }
    }

    /// What a subscriber gets that wants `next`, which has left the ring: the notices that are kept, and for all between
    /// them an announcement each; and how many events it got and how many it missed.
    pub(super) fn behind(&self, next: u64, batch: &mut Vec<Stamped>) -> (u64, u64) {
        let (mut from, mut kept, mut lost) = (next, 0, 0);
        let mut miss = |from: u64, to: u64, batch: &mut Vec<Stamped>| {
            if from <= to {
                lost += to - from + 1;
                batch.push(Stamped { sequence: to, event: Arc::new(slow((from, to))) });
            }
        };
        for (sequence, event) in self.notices.iter().filter(|(sequence, _)| *sequence >= next) {
            miss(from, sequence - 1, batch);
            batch.push(Stamped { sequence: *sequence, event: Arc::clone(event) });
            kept += 1;
            from = sequence + 1;
        }
        miss(from, self.first - 1, batch);
        (kept, lost)
    }
}

/// What a subscriber is told that missed the numbers `from..=to`.
fn slow((from, to): (u64, u64)) -> Event {
    let lost = Lost {
        reason: LostReason::SubscriberSlow,
        count: to - from + 1,
        range: Some((from, to)),
        first_time: None,
        last_time: None,
        kind: None,
    };
    Event { time: Timestamp::now(), body: Body::Lost(lost) }
}
