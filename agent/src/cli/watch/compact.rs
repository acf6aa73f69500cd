//! One event on one line for people: what happened, who, where to, why.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::output::{Colour, Style, bytes, printable};
use crate::events::model::flow::FlowEvent;
use crate::events::model::notice::{Gap, Lost, NodeState, PolicyChange, Tamper};
use crate::events::model::words::{Direction, Phase, PolicyOutcome, State, Verdict};
use crate::events::model::{Body, Stamped};

/// The line; `None` for signs of life, which say nothing to people.
pub(super) fn line(stamped: &Stamped, style: Style) -> Option<String> {
    let text = match &stamped.event.body {
        Body::Violation(flow) | Body::Flow(flow) => flow_text(flow, style),
        Body::Lost(lost) => style.paint(Colour::Warn, &lost_text(lost)),
        Body::Heartbeat(_) => return None,
        Body::PolicyChange(change) => policy_text(change, style),
        Body::NodeState(state) => state_text(state, style),
        Body::Gap(gap) => style.paint(Colour::Warn, &gap_text(gap)),
        Body::Tamper(tamper) => style.paint(Colour::Bad, &tamper_text(tamper)),
    };
    Some(format!("{} {text}", style.paint(Colour::Dim, &clock(stamped.event.time))))
}

/// Time of day, UTC, to the millisecond: the day is known to who is watching.
fn clock(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    format!("{:02}:{:02}:{:02}.{:03}Z", time.hour(), time.minute(), time.second(), time.millisecond())
}

/// The word for what happened, and its colour.
const fn happened(flow: &FlowEvent) -> (&'static str, Colour) {
    match (flow.verdict, flow.would_be) {
        (Verdict::Block, _) => ("Block", Colour::Bad),
        (Verdict::Allow, Verdict::Block) => ("WouldBlock", Colour::Warn),
        (Verdict::Allow, Verdict::Allow) => ("Allow", Colour::Good),
    }
}

fn flow_text(flow: &FlowEvent, style: Style) -> String {
    let (word, colour) = happened(flow);
    let workload = flow.workload.as_deref().or(flow.cgroup.as_deref()).unwrap_or("?");
    let process = match &flow.process {
        Some(process) => format!("{}[{}]", printable(&process.comm), process.pid),
        None => "-".to_owned(),
    };
    let arrow = match flow.direction {
        Direction::Outbound => "→",
        Direction::Inbound => "←",
    };
    let place =
        flow.place.country.as_deref().or_else(|| flow.place.jurisdictions.first().map(|code| &**code));
    let mut text = format!(
        "{} {:<7} {:<16} {:<20} {arrow} {:<32} {:<8}",
        style.paint(colour, &format!("{word:<10}")),
        flow.phase,
        printable(workload),
        process,
        format!("{}/{}", flow.remote, flow.protocol),
        printable(place.unwrap_or("?")),
    );
    // Writing to a String can't fail.
    if let Some(fence) = &flow.fence {
        let rule = flow.rule.as_deref().map(|rule| format!("/{}", printable(rule))).unwrap_or_default();
        _ = write!(text, " {}{rule}", printable(fence));
    }
    _ = write!(text, " ({})", flow.reason);
    if let (Some(traffic), Phase::Close) = (flow.traffic, flow.phase) {
        _ = write!(text, " sent {}, received {}", bytes(traffic.tx_bytes), bytes(traffic.rx_bytes));
    }
    if flow.repeats > 0 {
        _ = write!(text, ", {} times more", flow.repeats);
    }
    if flow.folded > 0 {
        _ = write!(text, ", {} more flows of this socket not shown", flow.folded);
    }
    text
}

fn lost_text(lost: &Lost) -> String {
    let range = lost.range.map(|(from, to)| format!(", numbers {from} to {to}")).unwrap_or_default();
    format!("Lost       {} events ({}){range}", lost.count, lost.reason)
}

fn gap_text(gap: &Gap) -> String {
    let (from, to) = (clock(gap.begin), clock(gap.end));
    format!(
        "Gap        nobody was reading from {from} to {to}, the fences stood: {} events were kept and follow, {} were lost",
        gap.delivered, gap.lost
    )
}

fn tamper_text(tamper: &Tamper) -> String {
    let (what, detail) = (printable(&tamper.what), printable(&tamper.detail));
    format!("Tamper     {what}: {detail}; {}", if tamper.repaired { "repaired" } else { "NOT repaired" })
}

fn policy_text(change: &PolicyChange, style: Style) -> String {
    let colour = match change.outcome {
        PolicyOutcome::Published => Colour::Good,
        PolicyOutcome::Refused => Colour::Bad,
    };
    let fences: Vec<String> =
        change.fences.iter().map(|fence| format!("{} ({})", printable(&fence.name), fence.mode)).collect();
    let fences = if fences.is_empty() { "no fences".to_owned() } else { fences.join(", ") };
    let detail =
        change.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    format!(
        "Policy     {}{detail}; generation {} with {fences}",
        style.paint(colour, change.outcome.as_str()),
        change.generation
    )
}

fn state_text(state: &NodeState, style: Style) -> String {
    let colour = match state.state {
        State::Ready => Colour::Good,
        State::Starting | State::Degraded | State::Stopping => Colour::Warn,
    };
    let detail = state.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    format!("Agent      {}{detail}", style.paint(colour, state.state.as_str()))
}
