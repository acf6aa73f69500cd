//! One record for each flow that is ended, no more and no less.
//!
//! Mostly the kernel writes it: a packet that egress stops, the reset of an ended TCP connection among them, is the
//! violation's first. A connected UDP socket that is ended while it is idle sends nothing, and so does TCP in some
//! states; for these the agent writes the record that egress would have written, *after* it has made sure that the
//! kernel has not.
//!
//! Made sure how: the [`Witness`], which the ring reader shows every violation, remembers which flows the kernel has told
//! of since the last pass. After its end a socket sends nothing more to that remote, so when the reader has emptied the
//! ring once more, all is known. For TCP the kernel programs' own memory of the socket says so too, however long ago
//! ([`is_told`](super::judge::is_told)); the kernel does not hand it out for UDP (`inet_sk_diag_fill` gives storage of
//! connection sockets only), which is also why such a record names no process.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_common::address::Address;
use agent_common::wire::{self, Hook, Phase, event_flags};
use rustix::time::{ClockId, clock_gettime};

use super::diag::Socket;
use super::judge::Blocked;

/// How long the reader may take to empty the ring: beyond that a flow may get two records rather than none.
const EMPTIED: Duration = Duration::from_secs(2);

/// A flow, as the ring names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    cookie: u64,
    remote: Address,
    port: u16,
    protocol: u8,
    /// A UDP flow has a record in each generation that blocks it.
    generation: u32,
}

impl Key {
    const fn of(e: &wire::Event) -> Self {
        let (cookie, remote, port, protocol, generation) =
            (e.cookie, e.remote, e.port, e.protocol, e.generation);
        Self { cookie, remote, port, protocol, generation }
    }
}

/// The newest flows, in two halves: when one is full, the older one goes. What is forgotten under a flood may get a second
/// record, never none.
#[derive(Default)]
struct Seen {
    recent: HashSet<Key>,
    older: HashSet<Key>,
    /// How often the violation ring was empty.
    emptied: u64,
}

/// Flows in a half of [`Seen`]: 1 MiB.
const HALF: usize = 16_384;

impl Seen {
    fn note(&mut self, key: Key) {
        if self.recent.len() >= HALF {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key);
    }

    fn has(&self, key: &Key) -> bool {
        self.recent.contains(key) || self.older.contains(key)
    }
}

/// Which violations the ring reader has seen since the last pass.
#[derive(Default)]
pub struct Witness {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Witness {
    /// The reader took this event from a ring.
    pub fn saw(&self, event: &wire::Event) {
        if event.flags & event_flags::BLOCKED != 0 {
            self.seen().note(Key::of(event));
        }
    }

    /// The reader found the violation ring empty, after it had shown all that was in it.
    pub fn emptied(&self) {
        self.seen().emptied += 1;
        self.changed.notify_all();
    }

    /// Waits until all that was in the ring at the time of the call has been seen, then keeps of `records` those whose
    /// flow the kernel has not told of, and forgets.
    pub(super) fn untold(&self, records: Vec<wire::Event>) -> Vec<wire::Event> {
        let limit = Instant::now() + EMPTIED;
        let mut seen = self.seen();
        // The first time may have begun before this call, the second has not.
        let enough = seen.emptied + 2;
        while seen.emptied < enough && !records.is_empty() {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    "the ring could not be emptied in time: a flow that was ended may have two records"
                );
                break;
            }
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let told = std::mem::take(&mut *seen);
        seen.emptied = told.emptied;
        records.into_iter().filter(|r| !told.has(&Key::of(r))).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record of an ended flow, as egress would have written it for a first packet.
pub(super) fn record(socket: &Socket, blocked: &Blocked, generation: u32) -> wire::Event {
    let state = socket.state.as_deref().filter(|s| s.cookie == socket.cookie);
    let flow = &blocked.flow;
    let slot = state.map(|s| &s.slots[agent_common::sock::position(flow)]);
    let slot = slot.filter(|s| s.opened != 0 && s.remote == flow.remote && s.port == flow.port);
    let early = if slot.is_some() { 0 } else { event_flags::EARLY };
    wire::Event {
        time: boot_ns(),
        opened: slot.map_or(0, |s| s.opened),
        cookie: socket.cookie,
        cgroup: socket.cgroup.unwrap_or(0),
        remote: flow.remote,
        local: socket.local.0,
        tx_bytes: slot.map_or(0, |s| s.tx_bytes),
        tx_packets: slot.map_or(0, |s| s.tx_packets),
        rx_bytes: slot.map_or(0, |s| s.rx_bytes),
        rx_packets: slot.map_or(0, |s| s.rx_packets),
        repeats: 0,
        folded: state.map_or(0, |s| s.folded),
        generation,
        workload: blocked.workload,
        pid: state.map_or(0, |s| s.pid),
        uid: state.map_or(0, |s| s.uid),
        outcome: blocked.decision.outcome.0,
        port: flow.port,
        local_port: socket.local.1,
        place: blocked.decision.place,
        phase: Phase::Verdict as u8,
        hook: Hook::Egress as u8,
        protocol: flow.protocol,
        direction: flow.direction as u8,
        flags: event_flags::BLOCKED | event_flags::VIOLATION | event_flags::LOCAL | early,
        _pad: 0,
        comm: state.map_or([0; 16], |s| s.comm),
        set: u16::try_from(blocked.set).unwrap_or(u16::MAX),
        blocking: blocked.decision.blocking,
        flow_flags: flow.flags,
    }
}

/// Boot-time nanoseconds now.
pub(super) fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ns = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use agent_common::address::Address;
    use agent_common::flow::{Direction, Flow, protocol};
    use agent_common::verdict::{Decision, Outcome, Reason, Verdict};
    use agent_common::wire;

    use super::{Blocked, HALF, Key, Witness, record};
    use crate::flows::diag::{ENDABLE, Socket};

    fn blocked(cookie: u64) -> wire::Event {
        let remote = Address::v4(1);
        let decision = Decision {
            enforced: Verdict::Block,
            would_be: Verdict::Block,
            outcome: Outcome::unfenced(Verdict::Block, Reason::Default),
            place: 3,
            blocking: 1,
            until: u64::MAX,
        };
        let flow =
            Flow { remote, port: 443, protocol: protocol::UDP, direction: Direction::Outbound, flags: 0 };
        let socket = Socket::made_up(ENDABLE[2], cookie, None);
        record(&socket, &Blocked { flow, decision, workload: 7, set: 1 }, 4)
    }

    #[test]
    fn a_record_reads_like_one_of_the_kernels() {
        let event = blocked(9);
        assert_eq!((event.cookie, event.workload, event.set, event.generation), (9, 7, 1, 4));
        assert!(event.time > 0);
        // Field by field, as the ring reader takes it.
        assert!(wire::Phase::try_from(event.phase).is_ok() && wire::Hook::try_from(event.hook).is_ok());
    }

    /// Asks while a reader empties the ring, after it has shown `late`.
    fn untold(witness: &Arc<Witness>, records: &[wire::Event], late: Option<wire::Event>) -> Vec<u64> {
        let (reader, done) = (Arc::clone(witness), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&done);
        let reading = thread::spawn(move || {
            late.iter().for_each(|event| reader.saw(event));
            while !told.load(Ordering::Acquire) {
                reader.emptied();
                thread::yield_now();
            }
        });
        let kept = witness.untold(records.to_vec()).iter().map(|r| r.cookie).collect();
        done.store(true, Ordering::Release);
        reading.join().unwrap();
        kept
    }

    #[test]
    fn a_flow_that_the_kernel_told_of_gets_no_second_record() {
        let witness = Arc::new(Witness::default());
        witness.saw(&blocked(1));
        witness.saw(&wire::Event { flags: 0, ..blocked(2) });
        witness.saw(&wire::Event { port: 9, ..blocked(3) });
        witness.saw(&wire::Event { generation: 3, ..blocked(4) });
        assert_eq!(untold(&witness, &[1, 2, 3, 4].map(blocked), None), [2, 3, 4]);
    }

    #[test]
    fn what_the_reader_finds_after_the_end_of_the_socket_counts_too() {
        let witness = Arc::new(Witness::default());
        assert_eq!(untold(&witness, &[1, 2].map(blocked), Some(blocked(2))), [1]);
    }

    #[test]
    fn nothing_of_one_pass_is_left_for_the_next() {
        let witness = Arc::new(Witness::default());
        witness.saw(&blocked(1));
        assert!(untold(&witness, &[blocked(1)], None).is_empty());
        assert_eq!(untold(&witness, &[blocked(1)], None), [1]);
    }

    #[test]
    fn a_flood_pushes_out_the_oldest_and_no_more_is_kept_than_two_halves() {
        let witness = Arc::new(Witness::default());
        let all = 3 * HALF as u64;
        (0..all).for_each(|cookie| witness.saw(&blocked(cookie)));
        let seen = witness.seen();
        assert_eq!((seen.recent.len(), seen.older.len()), (HALF, HALF));
        assert!(seen.has(&Key::of(&blocked(all - 1))) && !seen.has(&Key::of(&blocked(0))));
    }
}
