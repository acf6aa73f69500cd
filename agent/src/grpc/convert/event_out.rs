//! Events as messages: called once an event has passed a subscriber's filter.

use std::net::IpAddr;
use std::sync::Arc;

use agent_proto::v1;
use jiff::Timestamp;

use super::words::Word;
use crate::events::model::flow::{Endpoint, FenceOutcome, FlowEvent, Place};
use crate::events::model::notice::{FenceRef, Lost};
use crate::events::model::{Body, Origin, Stamped};

/// An event of the stream `origin` as a message.
#[must_use]
pub fn event(origin: &Origin, stamped: &Stamped) -> v1::Event {
    use v1::event::Event as Wire;
    let event = match &stamped.event.body {
        Body::Violation(of) => Wire::Violation(flow(of)),
        Body::Flow(of) => Wire::Flow(flow(of)),
        Body::Lost(of) => Wire::Lost(lost(of)),
        Body::Heartbeat(of) => Wire::Heartbeat(v1::Heartbeat {
            head_sequence: of.head_sequence,
            generation: of.generation,
            delivered: of.delivered,
            lost: of.lost,
        }),
        Body::PolicyChange(of) => Wire::PolicyChange(v1::PolicyChange {
            outcome: of.outcome.to_wire(),
            generation: of.generation,
            fences: fences(&of.fences),
            detail: text(of.detail.as_ref()),
        }),
        Body::NodeState(of) => Wire::NodeState(v1::NodeState {
            state: of.state.to_wire(),
            detail: text(of.detail.as_ref()),
            generation: of.generation,
        }),
        Body::Gap(of) => Wire::Gap(v1::Gap {
            begin: Some(timestamp(of.begin)),
            end: Some(timestamp(of.end)),
            delivered: of.delivered,
            lost: of.lost,
            earlier_stream_id: of.earlier.as_ref().map(|end| end.stream_id.to_string()),
            earlier_sequence: of.earlier.as_ref().map(|end| end.sequence),
        }),
        Body::Tamper(of) => Wire::Tamper(v1::Tamper {
            what: of.what.to_string(),
            detail: of.detail.to_string(),
            repaired: of.repaired,
        }),
    };
    v1::Event {
        stream_id: origin.stream_id.to_string(),
        sequence: stamped.sequence,
        time: Some(timestamp(stamped.event.time)),
        node: origin.node.to_string(),
        event: Some(event),
    }
}

fn flow(flow: &FlowEvent) -> v1::FlowEvent {
    v1::FlowEvent {
        phase: flow.phase.to_wire(),
        verdict: flow.verdict.to_wire(),
        would_be: flow.would_be.to_wire(),
        enforced: flow.enforced,
        reason: flow.reason.to_wire(),
        fence: text(flow.fence.as_ref()),
        rule: text(flow.rule.as_ref()),
        outcomes: outcomes(&flow.outcomes),
        generation: flow.generation,
        place: Some(place(&flow.place)),
        remote: Some(endpoint(flow.remote)),
        local: flow.local.map(endpoint),
        protocol: flow.protocol.0.into(),
        direction: flow.direction.to_wire(),
        hook: flow.hook.to_wire(),
        process: flow.process.as_ref().map(|process| v1::Process {
            pid: process.pid,
            uid: process.uid,
            comm: process.comm.to_string(),
        }),
        cgroup: text(flow.cgroup.as_ref()),
        cgroup_id: flow.cgroup_id,
        workload: text(flow.workload.as_ref()),
        severity: flow.severity.map_or(v1::Severity::Unspecified.into(), Word::to_wire),
        basis: text(flow.basis.as_ref()),
        record: flow.record.as_ref().map(|record| v1::ProcessingRecord {
            data_categories: record.data_categories.clone(),
            purpose: record.purpose.clone(),
            recipients: record.recipients.clone(),
        }),
        traffic: flow.traffic.map(|traffic| v1::Traffic {
            tx_bytes: traffic.tx_bytes,
            tx_packets: traffic.tx_packets,
            rx_bytes: traffic.rx_bytes,
            rx_packets: traffic.rx_packets,
        }),
        opened: flow.opened.map(timestamp),
        duration: flow.duration.map(duration),
        repeats: flow.repeats,
        folded: flow.folded,
        partial: flow.partial,
    }
}

fn lost(lost: &Lost) -> v1::Lost {
    v1::Lost {
        reason: lost.reason.to_wire(),
        count: lost.count,
        from_sequence: lost.range.map(|(from, _)| from),
        to_sequence: lost.range.map(|(_, to)| to),
        first_time: lost.first_time.map(timestamp),
        last_time: lost.last_time.map(timestamp),
        lost_kind: lost.kind.map_or(v1::EventKind::Unspecified.into(), Word::to_wire),
    }
}

/// What each fence said.
pub(super) fn outcomes(outcomes: &[FenceOutcome]) -> Vec<v1::FenceOutcome> {
    let one = |outcome: &FenceOutcome| v1::FenceOutcome {
        fence: outcome.fence.to_string(),
        mode: outcome.mode.to_wire(),
        verdict: outcome.verdict.to_wire(),
        rule: text(outcome.rule.as_ref()),
        reason: outcome.reason.to_wire(),
    };
    outcomes.iter().map(one).collect()
}

/// What an address is known to be.
pub(super) fn place(place: &Place) -> v1::Place {
    v1::Place {
        country: text(place.country.as_ref()),
        registered_country: text(place.registered_country.as_ref()),
        provider: text(place.provider.as_ref()),
        region: text(place.region.as_ref()),
        asn: place.asn,
        source: text(place.source.as_ref()),
        data_date: place.data_date.map(|date| date.to_string()),
        jurisdictions: place.jurisdictions.iter().map(ToString::to_string).collect(),
        anycast: place.anycast,
    }
}

/// Fences by name and mode.
pub(super) fn fences(fences: &[FenceRef]) -> Vec<v1::FenceRef> {
    let one = |fence: &FenceRef| v1::FenceRef { name: fence.name.to_string(), mode: fence.mode.to_wire() };
    fences.iter().map(one).collect()
}

fn endpoint(endpoint: Endpoint) -> v1::Endpoint {
    let address_bytes = match endpoint.address() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    v1::Endpoint { address: endpoint.address().to_string(), address_bytes, port: endpoint.port().into() }
}

fn text(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

/// A point in time; nanoseconds count forward from the second also before 1970, as the proto asks.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.as_nanosecond();
    let second = i128::from(1_000_000_000);
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(second))
            .expect("invariant: jiff's range fits in i64 seconds"),
        nanos: i32::try_from(nanos.rem_euclid(second)).expect("invariant: a remainder of 10^9 fits in i32"),
    }
}

/// A length of time; beyond what the proto can say (10,000 years), its most.
fn duration(duration: std::time::Duration) -> prost_types::Duration {
    const MOST_SECONDS: i64 = 315_576_000_000;
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(MOST_SECONDS).min(MOST_SECONDS),
        nanos: duration.subsec_nanos().try_into().expect("invariant: below 10^9"),
    }
}
