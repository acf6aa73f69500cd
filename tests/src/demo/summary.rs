//! The table at the end: who sent what where, from the event stream alone; and the judge's word on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use agent::cli::output::bytes;
use anyhow::{Context, Result};

use super::screen::{Screen, place};
use super::stage::Stage;
use crate::events::{Event, Watch, no_unannounced_loss};
use crate::frame;

/// Workload and place: one line of the table.
type Row = (String, String);

/// What tells frames apart at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    protocol: u8,
    to: SocketAddr,
}

/// What the stream said of one row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Tally {
    allowed: u64,
    would_block: u64,
    blocked: u64,
    sent: u64,
    received: u64,
    targets: BTreeSet<Target>,
}

/// The stream, summed up.
#[derive(Debug, Default)]
struct Sums {
    rows: BTreeMap<Row, Tally>,
    /// Targets of which at least one flow was let through, and in which row.
    opened: BTreeMap<Target, BTreeSet<Row>>,
}

impl Sums {
    fn of(events: &[Event]) -> Result<Self> {
        let mut sums = Self::default();
        // Counters of a flow only go up; its last event has the final ones.
        let mut traffic: BTreeMap<(Row, String), (u64, u64)> = BTreeMap::new();
        for event in events.iter().filter(|event| event.is_decision()) {
            let row = (workload(event), place(event));
            let target = target(event)?;
            let tally = sums.rows.entry(row.clone()).or_default();
            tally.targets.insert(target);
            if event.is("phase", "Open") || event.is("phase", "Verdict") {
                match (event.text("verdict"), event.text("would_be")) {
                    (Some("Block"), _) => tally.blocked += 1,
                    (_, Some("Block")) => tally.would_block += 1,
                    (_, _) => tally.allowed += 1,
                }
            }
            if event.is("verdict", "Allow") {
                sums.opened.entry(target).or_default().insert(row.clone());
            }
            if let (Some(sent), Some(received)) = (event.number("tx_bytes"), event.number("rx_bytes")) {
                let flow = format!("{:?} {:?} {target:?}", event.text("opened"), event.number("local_port"));
                let last = traffic.entry((row, flow)).or_default();
                *last = (last.0.max(sent), last.1.max(received));
            }
        }
        for ((row, _), (sent, received)) in traffic {
            let tally = sums.rows.entry(row).or_default();
            tally.sent += sent;
            tally.received += received;
        }
        Ok(sums)
    }

    /// The targets whose frames belong to this row: those that it opened, and those that nobody did.
    fn own_targets<'a>(&'a self, row: &'a Row, tally: &'a Tally) -> impl Iterator<Item = Target> + 'a {
        tally
            .targets
            .iter()
            .copied()
            .filter(move |target| self.opened.get(target).is_none_or(|rows| rows.contains(row)))
    }
}

/// Shows the table and holds it against what the sniffer counted.
pub(super) fn show(stage: &Stage, screen: &mut Screen, watch: &Watch) -> Result<()> {
    screen.act(
        "What happened, by workload and place",
        &[
            "Flows and bytes as the event stream told them (a flow that is judged anew counts again); the last column",
            "is what the sniffer at the far end counted, which knows nothing of the agent.",
        ],
    );
    let events = watch.events();
    let sums = Sums::of(&events)?;
    screen.say(&format!(
        "{:<9} {:<9} {:>8} {:>12} {:>8} {:>10} {:>10} {:>10}",
        "workload", "place", "allowed", "would block", "blocked", "sent", "received", "frames"
    ));
    let (mut never, mut leaked) = (0, 0);
    for (row, tally) in &sums.rows {
        let mut frames = 0;
        for target in sums.own_targets(row, tally) {
            let seen = stage.sniffer.frames_of(target.protocol, target.to)?.frames;
            frames += seen;
            if !sums.opened.contains_key(&target) {
                never += 1;
                leaked += seen;
            }
        }
        screen.say(&format!(
            "{:<9} {:<9} {:>8} {:>12} {:>8} {:>10} {:>10} {frames:>10}",
            row.0,
            row.1,
            tally.allowed,
            tally.would_block,
            tally.blocked,
            bytes(tally.sent),
            bytes(tally.received),
        ));
    }
    println!();
    screen.promise(
        never > 0 && leaked == 0,
        &format!("{never} targets were never allowed; the sniffer counted {leaked} frames to them"),
    );
    let nameless = events.iter().filter(|event| event.is_decision() && !is_explained(event)).count();
    screen.promise(
        nameless == 0,
        &match nameless {
            0 => "every decision names its fence, its reason, the place and who says so".to_owned(),
            some => {
                format!("{some} decisions do not name their fence, reason, place or source (place `?` above)")
            }
        },
    );
    let whole = no_unannounced_loss(&events);
    let loss = whole.as_ref().err().map(|error| format!(": {error:#}")).unwrap_or_default();
    screen.promise(whole.is_ok(), &format!("{} events, none missing without notice{loss}", events.len()));
    Ok(())
}

/// An event must say who decided, about which place, and who says that it is there.
fn is_explained(event: &Event) -> bool {
    ["fence", "reason", "source", "workload"].iter().all(|field| event.text(field).is_some())
        && place(event) != "?"
}

/// The last part of the cgroup's path.
fn workload(event: &Event) -> String {
    let path = event.text("cgroup").unwrap_or("?");
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn target(event: &Event) -> Result<Target> {
    let read = || {
        let protocol = match event.text("protocol")? {
            "tcp" => frame::TCP,
            "udp" => frame::UDP,
            _ => return None,
        };
        let port = u16::try_from(event.number("port")?).ok()?;
        Some(Target { protocol, to: SocketAddr::new(event.text("remote")?.parse().ok()?, port) })
    };
    read().with_context(|| format!("an event without a target that this demo knows: {}", event.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Sums;
    use crate::events::Event;

    fn event(phase: &str, verdict: &str, would_be: &str, country: &str, sent: Value) -> Event {
        Event(json!({
            "kind": "violation", "phase": phase, "verdict": verdict, "would_be": would_be, "country": country,
            "jurisdictions": [country], "cgroup": "/ringfence-demo/crm", "protocol": "tcp", "remote": "192.0.2.1",
            "port": 443, "local_port": 7, "opened": "2026-11-20T00:00:00Z", "tx_bytes": sent, "rx_bytes": sent,
        }))
    }

    #[test]
    fn a_flow_counts_once_and_its_last_counters_are_the_ones() {
        let events = [
            event("Open", "Allow", "Block", "US", Value::Null),
            event("Verdict", "Block", "Block", "US", json!(100)),
            event("Close", "Block", "Block", "US", json!(120)),
        ];
        let sums = Sums::of(&events).unwrap();
        let tally = &sums.rows[&("crm".to_owned(), "US".to_owned())];
        assert_eq!((tally.allowed, tally.would_block, tally.blocked), (0, 1, 1));
        assert_eq!((tally.sent, tally.received), (120, 120));
    }

    #[test]
    fn frames_belong_to_the_row_that_let_them_through() {
        let events = [
            event("Open", "Block", "Block", "US", Value::Null),
            event("Open", "Allow", "Allow", "IE", Value::Null),
        ];
        let sums = Sums::of(&events).unwrap();
        let own = |place: &str| {
            let row = ("crm".to_owned(), place.to_owned());
            sums.own_targets(&row, &sums.rows[&row]).count()
        };
        assert_eq!((own("US"), own("IE")), (0, 1));
        // Where nothing was let through, the row that was refused has to answer for the frames.
        let sums = Sums::of(&events[..1]).unwrap();
        let row = ("crm".to_owned(), "US".to_owned());
        assert_eq!(sums.own_targets(&row, &sums.rows[&row]).count(), 1);
    }
}
