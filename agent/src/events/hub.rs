//! Stop 7: numbers events, keeps the recent ones, wakes subscribers.
//!
//! One bounded ring holds the last events; an event's number is its place in the ring, so nothing is
//! stored per event but an `Arc`. A subscriber is a position in that ring: it *pulls* whole batches when
//! it has time. Nobody queues anything for anybody, so a slow subscriber costs the others nothing: the
//! ring moves on without it, and when it comes back it is told exactly which numbers it missed.
//!
//! What is no flow (a loss, a gap, a change of policy) is kept longer than flows are: it is rare, and an announcement that
//! a flood of flows pushes out would be a loss that nobody announces.
//!
//! The lock is held for a few pointer moves a batch, never across an await, an allocation of an event or
//! the end of one.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use self::ring::Ring;
use super::model::{Event, Origin, Stamped};

mod ring;

/// Events that the ring holds by default: 1.6 s at 10,000 a second. Full of distinct events it takes
/// about 10 MiB, a quarter of the memory that the agent may use in all.
pub const RING_EVENTS: NonZeroUsize = NonZeroUsize::new(16_384).expect("invariant: not zero");

/// Events that a subscriber takes at once: enough that the lock is rare, few enough that it is short.
const BATCH_EVENTS: usize = 512;

/// Why a hub could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The kernel gave no random bytes.
    #[error("making a stream id: the kernel gave no random bytes: {0}")]
    Random(#[from] rustix::io::Errno),
}

/// Numbers, keeps and hands out events. Shared by `Arc`.
#[derive(Debug)]
pub struct Hub {
    origin: Origin,
    ring: Mutex<Ring>,
    signal: watch::Sender<Signal>,
    counters: Counters,
}

/// What subscribers wait for.
#[derive(Debug, Clone, Copy, Default)]
struct Signal {
    /// The last number given out; 0 = none.
    head: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    filtered: AtomicU64,
    lost_slow: AtomicU64,
}

/// What the hub has counted since it was made, over all subscribers.
/// For each subscriber: events since it came = delivered + filtered + lost + still to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubCounts {
    /// Events that came in, which is the last number given out.
    pub published: u64,
    /// Events taken and passed on.
    pub delivered: u64,
    /// Events taken that a subscriber's filter left out.
    pub filtered: u64,
    /// Events that left the ring before a subscriber took them.
    pub lost_slow: u64,
    /// Subscribers now.
    pub subscribers: usize,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Latest,
    /// With the oldest event that is still there: a notice is there for longer than the flows around it, and these are
    /// announced as missed.
    Earliest,
}

impl Hub {
    /// A hub under a new stream id, holding the last `capacity` events.
    ///
    /// # Errors
    /// When the kernel gives no random bytes for the id.
    pub fn new(node: &str, capacity: NonZeroUsize) -> Result<Arc<Self>, HubError> {
        let capacity = capacity.get();
        Ok(Arc::new(Self {
            origin: Origin { stream_id: new_stream_id()?.into(), node: node.into() },
            ring: Mutex::new(Ring::new(capacity)),
            signal: watch::Sender::new(Signal::default()),
            counters: Counters::default(),
        }))
    }

    /// The stream's id and the node's name.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Publishes one event; returns its number.
    pub fn publish(&self, event: Event) -> u64 {
        self.publish_all([event])
    }

    /// Publishes events in order, at the cost of one; returns the last number given out.
    pub fn publish_all(&self, events: impl IntoIterator<Item = Event>) -> u64 {
        let events: Vec<Arc<Event>> = events.into_iter().map(Arc::new).collect();
        let mut ring = self.ring();
        // Ended after the lock: the last owner of an event frees all its texts.
        let mut evicted = Vec::with_capacity(events.len());
        for event in events {
            evicted.extend(ring.push(event));
        }
        let head = ring.head();
        // Still under the lock, so that the head that subscribers see never goes back.
        self.signal.send_modify(|signal| signal.head = head);
        drop(ring);
        head
    }

    /// A new subscriber.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, start: Start) -> Subscription {
        let ring = self.ring();
        let next = match start {
            Start::Latest => ring.head() + 1,
            Start::Earliest => ring.oldest(),
        };
        let signal = self.signal.subscribe();
        drop(ring);
        Subscription { hub: Arc::clone(self), signal, next, taken: 0, delivered: 0, lost: 0 }
    }

    /// Ends every subscription once it has taken what is there. What is published later reaches nobody.
    pub fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.signal.borrow().closed
    }

    /// The last number given out; 0 = none.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.signal.borrow().head
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        HubCounts {
            published: self.head(),
            delivered: self.counters.delivered.load(Ordering::Relaxed),
            filtered: self.counters.filtered.load(Ordering::Relaxed),
            lost_slow: self.counters.lost_slow.load(Ordering::Relaxed),
            subscribers: self.signal.receiver_count(),
        }
    }

    /// A panic of another thread can't leave the ring half changed in a way that matters: take it.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber: a position in the hub's ring.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    signal: watch::Receiver<Signal>,
    /// Number of the next event to take.
    next: u64,
    /// Events in the last batch.
    taken: u64,
    delivered: u64,
    lost: u64,
}

impl Subscription {
    /// Waits for events and puts them into `batch`, in order, replacing what was there. Events that left the ring
    /// meanwhile are announced first, as a `Lost` with their exact range; notices among them are there all the same.
    ///
    /// Returns false, with an empty batch, when the hub is closed and everything has been taken.
    /// Cancel safe: a wait that is dropped takes nothing.
    pub async fn next_batch(&mut self, batch: &mut Vec<Stamped>) -> bool {
        batch.clear();
        let next = self.next;
        // An error means that the hub is gone, but `self.hub` keeps it.
        let ready = self.signal.wait_for(|signal| signal.head >= next || signal.closed).await;
        let has_events = ready.is_ok_and(|signal| signal.head >= next);
        if has_events {
            self.take(batch);
        }
        has_events
    }

    /// Number of the last event that was taken or announced as lost; 0 = none.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next - 1
    }

    /// Events passed on to this subscriber.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Events that this subscriber missed.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// The stream's id, the node's name and the head.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Counts what became of the last batch: `filtered` of its events were left out, the others passed on.
    /// The announcement of a loss is no event that was ever published: it counts as neither.
    pub fn count_filtered(&mut self, filtered: usize) {
        let filtered = filtered as u64;
        let delivered = std::mem::take(&mut self.taken).saturating_sub(filtered);
        self.delivered += delivered;
        self.hub.counters.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.hub.counters.filtered.fetch_add(filtered, Ordering::Relaxed);
    }

    fn take(&mut self, batch: &mut Vec<Stamped>) {
        batch.reserve(BATCH_EVENTS + 1);
        let ring = self.hub.ring();
        let (kept, lost) = if self.next < ring.first { ring.behind(self.next, batch) } else { (0, 0) };
        let first = self.next.max(ring.first);
        let skip = usize::try_from(first - ring.first).unwrap_or(usize::MAX).min(ring.events.len());
        let end = ring.events.len().min(skip + BATCH_EVENTS);
        let events = ring.events.range(skip..end);
        batch.extend(
            (first..).zip(events).map(|(sequence, event)| Stamped { sequence, event: Arc::clone(event) }),
        );
        drop(ring);

        let taken = (end - skip) as u64;
        self.taken = kept + taken;
        self.next = first + taken;
        self.lost += lost;
        self.hub.counters.lost_slow.fetch_add(lost, Ordering::Relaxed);
    }
}

/// 128 random bits in the form of a UUID, version 4 (RFC 9562 §5.4).
fn new_stream_id() -> Result<String, HubError> {
    let mut bytes = [0_u8; 16];
    // Up to 256 bytes come whole or not at all (getrandom(2)).
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
