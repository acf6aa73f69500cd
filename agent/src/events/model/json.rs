//! The JSON form of one event: flat, one object a line, the same for `watch -o json` and for exports.
//!
//! The contract: snake_case keys, 64-bit numbers as numbers, RFC 3339 UTC times, enums as in the glossary,
//! IPv4-mapped addresses as IPv4. The keys of a flow are there on every line, `null` where they do not
//! apply, so that a reader needs no case for each kind; the keys of the other kinds are only on their own.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::flow::{FenceOutcome, FlowEvent, ProcessingRecord, Protocol};
use super::notice::FenceRef;
use super::words::{Direction, Hook, Kind, Phase, PolicyOutcome, Severity, State, Verdict};
use super::{Body, Origin, Stamped};

/// One line of output; serialise it with `serde_json`.
#[derive(Debug, Default, Serialize)]
pub struct Line<'a> {
    sequence: u64,
    time: Option<Timestamp>,
    kind: Option<Kind>,
    stream_id: &'a str,
    node: &'a str,
    phase: Option<Phase>,
    verdict: Option<Verdict>,
    would_be: Option<Verdict>,
    enforced: Option<bool>,
    /// The verdict's reason, or that of `lost`.
    reason: Option<&'static str>,
    fence: Option<&'a str>,
    rule: Option<&'a str>,
    outcomes: Option<&'a [FenceOutcome]>,
    generation: Option<u64>,
    country: Option<&'a str>,
    registered_country: Option<&'a str>,
    provider: Option<&'a str>,
    region: Option<&'a str>,
    asn: Option<u32>,
    anycast: Option<bool>,
    jurisdictions: Option<&'a [Arc<str>]>,
    source: Option<&'a str>,
    data_date: Option<Date>,
    remote: Option<IpAddr>,
    port: Option<u16>,
    local: Option<IpAddr>,
    local_port: Option<u16>,
    protocol: Option<Protocol>,
    direction: Option<Direction>,
    hook: Option<Hook>,
    pid: Option<u32>,
    uid: Option<u32>,
    comm: Option<&'a str>,
    cgroup: Option<&'a str>,
    cgroup_id: Option<u64>,
    workload: Option<&'a str>,
    severity: Option<Severity>,
    basis: Option<&'a str>,
    record: Option<&'a ProcessingRecord>,
    tx_bytes: Option<u64>,
    tx_packets: Option<u64>,
    rx_bytes: Option<u64>,
    rx_packets: Option<u64>,
    opened: Option<Timestamp>,
    duration_ns: Option<u64>,
    repeats: Option<u64>,
    folded: Option<u64>,
    partial: Option<bool>,
    #[serde(flatten)]
    notice: Notice<'a>,
}

/// What only one kind has; nothing at all for flows.
#[derive(Debug, Default, Serialize)]
#[serde(untagged)]
enum Notice<'a> {
    #[default]
    #[serde(serialize_with = "no_keys")]
    Flow,
    Lost {
        count: u64,
        from_sequence: Option<u64>,
        to_sequence: Option<u64>,
        first_time: Option<Timestamp>,
        last_time: Option<Timestamp>,
        lost_kind: Option<Kind>,
    },
    Heartbeat {
        head_sequence: u64,
        delivered: u64,
        lost: u64,
    },
    PolicyChange {
        outcome: PolicyOutcome,
        fences: &'a [FenceRef],
        detail: Option<&'a str>,
    },
    NodeState {
        state: State,
        detail: Option<&'a str>,
    },
    Gap {
        begin: Timestamp,
        end: Timestamp,
        delivered: u64,
        lost: u64,
        earlier_stream_id: Option<&'a str>,
        earlier_sequence: Option<u64>,
    },
    Tamper {
        what: &'a str,
        detail: &'a str,
        repaired: bool,
    },
}

/// `flatten` wants a map: an empty one.
fn no_keys<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    serializer.serialize_map(Some(0))?.end()
}

impl<'a> Line<'a> {
    /// The line for one event of the stream `origin`.
    #[must_use]
    pub fn new(origin: &'a Origin, stamped: &'a Stamped) -> Self {
        let event = &*stamped.event;
        let line = Self {
            sequence: stamped.sequence,
            time: Some(event.time),
            kind: Some(event.kind()),
            stream_id: &origin.stream_id,
            node: &origin.node,
            ..Self::default()
        };
        match &event.body {
            Body::Violation(flow) | Body::Flow(flow) => line.with_flow(flow),
            Body::Lost(lost) => Self {
                reason: Some(lost.reason.as_str()),
                notice: Notice::Lost {
                    count: lost.count,
                    from_sequence: lost.range.map(|(from, _)| from),
                    to_sequence: lost.range.map(|(_, to)| to),
                    first_time: lost.first_time,
                    last_time: lost.last_time,
                    lost_kind: lost.kind,
                },
                ..line
            },
            Body::Heartbeat(beat) => Self {
                generation: Some(beat.generation),
                notice: Notice::Heartbeat {
                    head_sequence: beat.head_sequence,
                    delivered: beat.delivered,
                    lost: beat.lost,
                },
                ..line
            },
            Body::PolicyChange(change) => Self {
                generation: Some(change.generation),
                notice: Notice::PolicyChange {
                    outcome: change.outcome,
                    fences: &change.fences,
                    detail: change.detail.as_deref(),
                },
                ..line
            },
            Body::NodeState(state) => Self {
                generation: Some(state.generation),
                notice: Notice::NodeState { state: state.state, detail: state.detail.as_deref() },
                ..line
            },
            Body::Gap(gap) => Self {
                notice: Notice::Gap {
                    begin: gap.begin,
                    end: gap.end,
                    delivered: gap.delivered,
                    lost: gap.lost,
                    earlier_stream_id: gap.earlier.as_ref().map(|end| &*end.stream_id),
                    earlier_sequence: gap.earlier.as_ref().map(|end| end.sequence),
                },
                ..line
            },
            Body::Tamper(tamper) => Self {
                notice: Notice::Tamper {
                    what: &tamper.what,
                    detail: &tamper.detail,
                    repaired: tamper.repaired,
                },
                ..line
            },
        }
    }

    fn with_flow(self, flow: &'a FlowEvent) -> Self {
        Self {
            phase: Some(flow.phase),
            verdict: Some(flow.verdict),
            would_be: Some(flow.would_be),
            enforced: Some(flow.enforced),
            reason: Some(flow.reason.as_str()),
            fence: flow.fence.as_deref(),
            rule: flow.rule.as_deref(),
            outcomes: Some(&flow.outcomes),
            generation: Some(flow.generation),
            country: flow.place.country.as_deref(),
            registered_country: flow.place.registered_country.as_deref(),
            provider: flow.place.provider.as_deref(),
            region: flow.place.region.as_deref(),
            asn: flow.place.asn,
            anycast: Some(flow.place.anycast),
            jurisdictions: Some(&flow.place.jurisdictions),
            source: flow.place.source.as_deref(),
            data_date: flow.place.data_date,
            remote: Some(flow.remote.address()),
            port: Some(flow.remote.port()),
            local: flow.local.map(|local| local.address()),
            local_port: flow.local.map(|local| local.port()),
            protocol: Some(flow.protocol),
            direction: Some(flow.direction),
            hook: Some(flow.hook),
            pid: flow.process.as_ref().map(|process| process.pid),
            uid: flow.process.as_ref().map(|process| process.uid),
            comm: flow.process.as_ref().map(|process| &*process.comm),
            cgroup: flow.cgroup.as_deref(),
            cgroup_id: Some(flow.cgroup_id),
            workload: flow.workload.as_deref(),
            severity: flow.severity,
            basis: flow.basis.as_deref(),
            record: flow.record.as_deref(),
            tx_bytes: flow.traffic.map(|traffic| traffic.tx_bytes),
            tx_packets: flow.traffic.map(|traffic| traffic.tx_packets),
            rx_bytes: flow.traffic.map(|traffic| traffic.rx_bytes),
            rx_packets: flow.traffic.map(|traffic| traffic.rx_packets),
            opened: flow.opened,
            duration_ns: flow.duration.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
            repeats: Some(flow.repeats),
            folded: Some(flow.folded),
            partial: Some(flow.partial),
            ..self
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
