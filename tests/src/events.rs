//! The event stream of an agent under test, as `ringfence watch -o json` prints it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// One event. Fields by the names of the command-line contract; absent ones are JSON `null`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event(pub Value);

impl Event {
    /// A field that is text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// A field that is a non-negative number.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    /// A field that is true or false.
    pub fn flag(&self, field: &str) -> Option<bool> {
        self.0.get(field)?.as_bool()
    }

    /// The field is exactly this text.
    pub fn is(&self, field: &str, value: &str) -> bool {
        self.text(field) == Some(value)
    }

    /// A decision about a flow, as opposed to news of the stream or the node.
    pub fn is_decision(&self) -> bool {
        self.is("kind", "violation") || self.is("kind", "flow")
    }

    /// A decision about a flow to this remote address (v4-mapped ones are printed as IPv4).
    pub fn is_to(&self, remote: std::net::IpAddr) -> bool {
        self.is_decision() && self.is("remote", &remote.to_canonical().to_string())
    }
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    ended: bool,
    bad_line: Option<String>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running `ringfence watch`. Ended when dropped.
pub struct Watch {
    process: Child,
    shared: Arc<Shared>,
}

impl Watch {
    /// Starts `ringfence watch` on the agent's socket with `args` added, and collects in the background.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub(crate) fn start(binary: &Path, socket: &Path, args: &[&str]) -> Result<Self> {
        let mut process = Command::new(binary)
            .args(["watch", "-o", "json", "--socket"])
            .arg(socket)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {} watch", binary.display()))?;
        let output = BufReader::new(process.stdout.take().context("watch without standard output")?);
        let shared = Arc::new(Shared::default());
        let collector = Arc::clone(&shared);
        thread::Builder::new().name("watch".into()).spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut log = collector.log();
                match serde_json::from_str(&line) {
                    Ok(value) => log.events.push(Event(value)),
                    Err(error) => log.bad_line = Some(format!("{error}: {line}")),
                }
                drop(log);
                collector.changed.notify_all();
            }
            collector.log().ended = true;
            collector.changed.notify_all();
        })?;
        Ok(Self { process, shared })
    }

    /// Waits until some event, past or coming, satisfies `wanted`, and returns it.
    ///
    /// # Errors
    /// None did within `limit`, the stream ended, or a line was not JSON. The error shows the last events.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        self.wait_until(what, limit, |events| events.iter().find(|event| wanted(event)).cloned())
    }

    /// Waits until `judge` finds what it wants in all events so far.
    ///
    /// # Errors
    /// See [`Watch::wait_for`].
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        judge: impl Fn(&[Event]) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut log = self.shared.log();
        loop {
            if let Some(line) = &log.bad_line {
                bail!("ringfence watch -o json printed a line that is not JSON: {line}");
            }
            if let Some(found) = judge(&log.events) {
                return Ok(found);
            }
            ensure!(!log.ended, "the event stream ended before: {what}; last events:\n{}", tail(&log));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no event within {limit:?}: {what}; last of {}:\n{}", log.events.len(), tail(&log));
            }
            log = self.shared.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the stream has ended, as it does with its agent, and returns all events.
    ///
    /// # Errors
    /// It did not end within `limit`, or a line was not JSON.
    pub fn until_the_end(&self, limit: Duration) -> Result<Vec<Event>> {
        let end = Instant::now() + limit;
        let mut log = self.shared.log();
        while !log.ended {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the event stream did not end within {limit:?}");
            log = self.shared.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(line) = &log.bad_line {
            bail!("ringfence watch -o json printed a line that is not JSON: {line}");
        }
        Ok(log.events.clone())
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.log().events.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn tail(log: &Log) -> String {
    let from = log.events.len().saturating_sub(5);
    let lines: Vec<_> = log.events.iter().skip(from).map(|event| format!("  {}", event.0)).collect();
    lines.join("\n")
}

/// Checks that no event is missing without notice: sequence numbers go up by one, or the gap lies inside
/// ranges that `lost` events announce. What is made for one subscriber (heartbeats, and the announcements
/// themselves) has no place in the numbering.
///
/// # Errors
/// The first gap that nothing announces, or a number that goes back.
pub fn no_unannounced_loss(events: &[Event]) -> Result<()> {
    let announced: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event.is("kind", "lost"))
        .filter_map(|event| Some((event.number("from_sequence")?, event.number("to_sequence")?)))
        .collect();
    let mut expected = None;
    for event in events {
        let made_for_us = event.is("kind", "heartbeat") || event.number("from_sequence").is_some();
        let Some(sequence) = event.number("sequence").filter(|_| !made_for_us) else { continue };
        let from = expected.unwrap_or(sequence);
        ensure!(sequence >= from, "sequence {sequence} came after {}", from - 1);
        for missing in from..sequence {
            ensure!(
                announced.iter().any(|(first, last)| (*first..=*last).contains(&missing)),
                "event {missing} is missing and no `lost` event announces it (next is {sequence})"
            );
        }
        expected = Some(sequence + 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Event, no_unannounced_loss};

    fn numbered(numbers: &[u64]) -> Vec<Event> {
        numbers.iter().map(|n| Event(json!({"kind": "flow", "sequence": n}))).collect()
    }

    #[test]
    fn a_gap_needs_an_announcement() {
        assert!(no_unannounced_loss(&numbered(&[4, 5, 6])).is_ok());
        let mut events = numbered(&[4, 5, 9]);
        assert!(no_unannounced_loss(&events).unwrap_err().to_string().contains("event 6 is missing"));
        events.push(Event(json!({"kind": "lost", "from_sequence": 6, "to_sequence": 7})));
        assert!(no_unannounced_loss(&events).unwrap_err().to_string().contains("event 8 is missing"));
        events.push(Event(json!({"kind": "lost", "from_sequence": 8, "to_sequence": 8})));
        assert!(no_unannounced_loss(&events).is_ok());
    }

    #[test]
    fn numbers_must_not_go_back() {
        assert!(no_unannounced_loss(&numbered(&[4, 5, 5])).is_err());
    }
}
