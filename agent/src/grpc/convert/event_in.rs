//! Messages as events: what a client does. An answer that it can't read is an error with the field's
//! name, never half an event.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_proto::v1;
use jiff::Timestamp;

use super::words::Word;
use crate::events::model::flow::{
    Endpoint, FenceOutcome, FlowEvent, Place, Process, ProcessingRecord, Protocol, Traffic,
};
use crate::events::model::notice::{
    FenceRef, Gap, Heartbeat, Lost, NodeState, PolicyChange, StreamEnd, Tamper,
};
use crate::events::model::{Body, Event, Origin, Stamped};

/// A field that this client can't read, most often because the agent is newer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent sent `{field}` = {value}, which this client does not know: use the agent's own version")]
pub struct ReadError {
    field: &'static str,
    value: String,
}

impl ReadError {
    pub(super) fn new(field: &'static str, value: impl ToString) -> Self {
        Self { field, value: value.to_string() }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(field, "nothing")
    }
}

/// An event and the stream that it belongs to.
///
/// # Errors
/// Names the first field that is missing or not understood.
pub fn event(event: v1::Event) -> Result<(Origin, Stamped), ReadError> {
    use v1::event::Event as Wire;
    let body = match event.event.ok_or_else(|| ReadError::missing("event"))? {
        Wire::Violation(of) => Body::Violation(flow(of)?),
        Wire::Flow(of) => Body::Flow(flow(of)?),
        Wire::Lost(of) => Body::Lost(lost(of)?),
        Wire::Heartbeat(of) => Body::Heartbeat(Heartbeat {
            head_sequence: of.head_sequence,
            generation: of.generation,
            delivered: of.delivered,
            lost: of.lost,
        }),
        Wire::PolicyChange(of) => Body::PolicyChange(PolicyChange {
            outcome: word("outcome", of.outcome)?,
            generation: of.generation,
            fences: fences(of.fences)?,
            detail: of.detail.map(Arc::from),
        }),
        Wire::NodeState(of) => Body::NodeState(NodeState {
            state: word("state", of.state)?,
            detail: of.detail.map(Arc::from),
            generation: of.generation,
        }),
        Wire::Gap(of) => Body::Gap(Gap {
            begin: timestamp("begin", of.begin)?.ok_or_else(|| ReadError::missing("begin"))?,
            end: timestamp("end", of.end)?.ok_or_else(|| ReadError::missing("end"))?,
            delivered: of.delivered,
            lost: of.lost,
            earlier: of
                .earlier_stream_id
                .zip(of.earlier_sequence)
                .map(|(id, sequence)| StreamEnd { stream_id: id.into(), sequence }),
        }),
        Wire::Tamper(of) => {
            Body::Tamper(Tamper { what: of.what.into(), detail: of.detail.into(), repaired: of.repaired })
        }
    };
    let time = timestamp("time", event.time)?.ok_or_else(|| ReadError::missing("time"))?;
    let origin = Origin { stream_id: event.stream_id.into(), node: event.node.into() };
    Ok((origin, Stamped { sequence: event.sequence, event: Arc::new(Event { time, body }) }))
}

fn flow(flow: v1::FlowEvent) -> Result<FlowEvent, ReadError> {
    let remote = endpoint("remote", flow.remote)?.ok_or_else(|| ReadError::missing("remote"))?;
    Ok(FlowEvent {
        phase: word("phase", flow.phase)?,
        verdict: word("verdict", flow.verdict)?,
        would_be: word("would_be", flow.would_be)?,
        enforced: flow.enforced,
        reason: word("reason", flow.reason)?,
        fence: flow.fence.map(Arc::from),
        rule: flow.rule.map(Arc::from),
        outcomes: flow.outcomes.into_iter().map(outcome).collect::<Result<_, _>>()?,
        generation: flow.generation,
        place: Arc::new(place(flow.place.ok_or_else(|| ReadError::missing("place"))?)?),
        remote,
        local: endpoint("local", flow.local)?,
        protocol: Protocol(
            flow.protocol.try_into().map_err(|_error| ReadError::new("protocol", flow.protocol))?,
        ),
        direction: word("direction", flow.direction)?,
        hook: word("hook", flow.hook)?,
        process: flow.process.map(|process| Process {
            pid: process.pid,
            uid: process.uid,
            comm: process.comm.into(),
        }),
        cgroup: flow.cgroup.map(Arc::from),
        cgroup_id: flow.cgroup_id,
        workload: flow.workload.map(Arc::from),
        severity: optional_word("severity", flow.severity)?,
        basis: flow.basis.map(Arc::from),
        record: flow.record.map(|record| {
            Arc::new(ProcessingRecord {
                data_categories: record.data_categories,
                purpose: record.purpose,
                recipients: record.recipients,
            })
        }),
        traffic: flow.traffic.map(|traffic| Traffic {
            tx_bytes: traffic.tx_bytes,
            tx_packets: traffic.tx_packets,
            rx_bytes: traffic.rx_bytes,
            rx_packets: traffic.rx_packets,
        }),
        opened: timestamp("opened", flow.opened)?,
        duration: flow.duration.map(duration).transpose()?,
        repeats: flow.repeats,
        folded: flow.folded,
        partial: flow.partial,
    })
}

fn lost(lost: v1::Lost) -> Result<Lost, ReadError> {
    Ok(Lost {
        reason: word("reason", lost.reason)?,
        count: lost.count,
        range: lost.from_sequence.zip(lost.to_sequence),
        first_time: timestamp("first_time", lost.first_time)?,
        last_time: timestamp("last_time", lost.last_time)?,
        kind: optional_word("lost_kind", lost.lost_kind)?,
    })
}

/// What one fence said.
///
/// # Errors
/// Names the first field that is not understood.
pub fn outcome(outcome: v1::FenceOutcome) -> Result<FenceOutcome, ReadError> {
    Ok(FenceOutcome {
        fence: outcome.fence.into(),
        mode: word("outcomes.mode", outcome.mode)?,
        verdict: word("outcomes.verdict", outcome.verdict)?,
        rule: outcome.rule.map(Arc::from),
        reason: word("outcomes.reason", outcome.reason)?,
    })
}

/// What an address is known to be.
///
/// # Errors
/// When the data date is none.
pub fn place(place: v1::Place) -> Result<Place, ReadError> {
    let date = |text: String| text.parse().map_err(|_error| ReadError::new("data_date", text));
    Ok(Place {
        country: place.country.map(Arc::from),
        registered_country: place.registered_country.map(Arc::from),
        provider: place.provider.map(Arc::from),
        region: place.region.map(Arc::from),
        asn: place.asn,
        source: place.source.map(Arc::from),
        data_date: place.data_date.map(date).transpose()?,
        jurisdictions: place.jurisdictions.into_iter().map(Arc::from).collect(),
        anycast: place.anycast,
    })
}

/// Fences by name and mode.
pub(super) fn fences(fences: Vec<v1::FenceRef>) -> Result<Arc<[FenceRef]>, ReadError> {
    let one = |fence: v1::FenceRef| {
        Ok(FenceRef { name: fence.name.into(), mode: word("fences.mode", fence.mode)? })
    };
    fences.into_iter().map(one).collect()
}

/// The text counts; the bytes are for those who would rather not parse.
fn endpoint(field: &'static str, endpoint: Option<v1::Endpoint>) -> Result<Option<Endpoint>, ReadError> {
    let Some(endpoint) = endpoint else { return Ok(None) };
    let address: IpAddr =
        endpoint.address.parse().map_err(|_error| ReadError::new(field, endpoint.address))?;
    let port = endpoint.port.try_into().map_err(|_error| ReadError::new(field, endpoint.port))?;
    Ok(Some(Endpoint::new(address, port)))
}

/// A word that must be there.
pub(super) fn word<W: Word>(field: &'static str, number: i32) -> Result<W, ReadError> {
    W::from_wire(number).ok_or_else(|| ReadError::new(field, number))
}

fn optional_word<W: Word>(field: &'static str, number: i32) -> Result<Option<W>, ReadError> {
    if number == 0 { Ok(None) } else { word(field, number).map(Some) }
}

/// A point in time, within the years -9999 to 9999.
pub(super) fn timestamp(
    field: &'static str,
    time: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, ReadError> {
    let read = |time: prost_types::Timestamp| {
        Timestamp::new(time.seconds, time.nanos).map_err(|_error| ReadError::new(field, time.seconds))
    };
    time.map(read).transpose()
}

fn duration(duration: prost_types::Duration) -> Result<Duration, ReadError> {
    duration.try_into().map_err(|_error| ReadError::new("duration", "a negative or too long time"))
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
