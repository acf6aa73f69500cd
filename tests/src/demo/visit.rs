//! One program's visit to one address: what it saw, what the stream said, and whether both are as promised.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::client::{self, Answer, Program, Reply, Transport};
use super::interrupt;
use super::screen::Screen;
use super::stage::{Spot, Stage, Workload};
use crate::events::{Event, Watch};

/// How far the clock of events may be from ours.
const CLOCKS: SignedDuration = SignedDuration::from_millis(20);

/// How long the stream may take to tell of a visit.
const TOLD: Duration = Duration::from_secs(10);

/// What the fence promises for a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// It passes.
    Passes,
    /// It passes, and a fence in Audit says that it would have blocked it.
    WouldBlock,
    /// It is refused.
    Blocked,
}

/// A visit that is to be made.
pub(super) struct Visit<'a> {
    pub(super) workload: &'a Workload,
    pub(super) program: Program,
    pub(super) transport: Transport,
    pub(super) spot: Spot,
    pub(super) port: u16,
}

impl<'a> Visit<'a> {
    /// curl asks for a page.
    pub(super) fn curl(workload: &'a Workload, spot: Spot, port: u16) -> Self {
        Self { workload, program: Program::Curl, transport: Transport::Tcp, spot, port }
    }

    /// Python makes one exchange.
    pub(super) fn python(workload: &'a Workload, transport: Transport, spot: Spot, port: u16) -> Self {
        Self { workload, program: Program::Python, transport, spot, port }
    }

    /// The address as the program writes it.
    pub(super) fn to(&self) -> SocketAddr {
        self.spot.port(self.port)
    }

    /// Makes the visit, and prints what the program saw. For when no agent runs.
    pub(super) fn alone(&self, stage: &Stage, screen: &mut Screen) -> Result<Answer> {
        interrupt::check()?;
        let answer = client::run(stage, self.workload, self.program, self.transport, self.to())?;
        screen.client(self, &answer);
        Ok(answer)
    }

    /// Makes the visit, prints what the program saw and what the stream says, and holds both against the promise.
    pub(super) fn judged(
        &self,
        stage: &Stage,
        screen: &mut Screen,
        watch: &Watch,
        promise: Promise,
    ) -> Result<Event> {
        let before = last_sequence(&watch.events());
        let begin = Timestamp::now() - CLOCKS;
        let answer = self.alone(stage, screen)?;
        let told = watch.wait_for(&format!("a verdict about {}", self.to()), TOLD, |event| {
            // What waited while the agent stood still comes with new numbers and old times.
            event.number("sequence").is_some_and(|sequence| sequence > before)
                && event
                    .text("time")
                    .and_then(|time| time.parse().ok())
                    .is_some_and(|at: Timestamp| at >= begin)
                && self.is_told_by(event)
        });
        let event = match told {
            Err(_) if interrupt::asked() => return Err(interrupt::Interrupted.into()),
            told => told?,
        };
        screen.event(&event);
        let (reached, verdict, would_be) = match promise {
            Promise::Passes => (true, "Allow", "Allow"),
            Promise::WouldBlock => (true, "Allow", "Block"),
            Promise::Blocked => (false, "Block", "Block"),
        };
        let as_promised = match &answer.reply {
            Reply::Reached => reached,
            Reply::Refused(errno) => !reached && errno == "EPERM",
            Reply::Silent => false,
        };
        screen.expect(as_promised, || format!("{} should have seen: {promise:?}", self.workload.name));
        screen.expect(event.is("verdict", verdict) && event.is("would_be", would_be), || {
            format!("the stream should have said {verdict}, would be {would_be}")
        });
        Ok(event)
    }

    /// The event is the first word about this flow, not its end.
    fn is_told_by(&self, event: &Event) -> bool {
        event.is_to(self.spot.address)
            && event.is("cgroup", self.workload.cgroup.name())
            && event.is("protocol", self.transport.as_str())
            && event.number("port") == Some(u64::from(self.port))
            && (event.is("phase", "Open") || event.is("phase", "Verdict"))
    }
}

/// The number of the last event; those after it tell of what happened since.
fn last_sequence(events: &[Event]) -> u64 {
    events.iter().filter_map(|event| event.number("sequence")).max().unwrap_or(0)
}
