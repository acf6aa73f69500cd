//! Events for tests: one violation that looks like the real thing, and small changes to it.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::model::flow::{Endpoint, FenceOutcome, FlowEvent, Place, Process, Protocol};
use super::model::words::{Direction, Hook, Mode, Phase, Reason, Verdict};
use super::model::{Event, Origin, Stamped};

pub(crate) fn origin() -> Origin {
    Origin { stream_id: "0123456789abcdef0123456789abcdef".into(), node: "node-1".into() }
}

pub(crate) fn time() -> Timestamp {
    "2026-11-20T10:00:00.25Z".parse().expect("a time")
}

/// `curl` in `/crm` towards a US address, blocked by the fence's default.
pub(crate) fn violation() -> FlowEvent {
    FlowEvent {
        phase: Phase::Verdict,
        verdict: Verdict::Block,
        would_be: Verdict::Block,
        enforced: true,
        reason: Reason::Default,
        fence: Some("crm-stays-in-the-eea".into()),
        rule: None,
        outcomes: Arc::new([FenceOutcome {
            fence: "crm-stays-in-the-eea".into(),
            mode: Mode::Enforce,
            verdict: Verdict::Block,
            rule: None,
            reason: Reason::Default,
        }]),
        generation: 3,
        place: Arc::new(Place {
            country: Some("US".into()),
            source: Some("DB-IP Country Lite".into()),
            data_date: Some("2026-11-01".parse().expect("a date")),
            jurisdictions: Arc::new(["US".into(), "GDPR-ADEQUATE-PARTIAL".into()]),
            ..Place::default()
        }),
        remote: remote("13.110.54.10", 443),
        local: Some(remote("10.0.0.2", 40_000)),
        protocol: Protocol::TCP,
        direction: Direction::Outbound,
        hook: Hook::Connect4,
        process: Some(Process { pid: 4242, uid: 1000, comm: "curl".into() }),
        cgroup: Some("/crm".into()),
        cgroup_id: 77,
        workload: Some("crm".into()),
        severity: None,
        basis: None,
        record: None,
        traffic: None,
        opened: Some(time()),
        duration: None,
        repeats: 0,
        folded: 0,
        partial: false,
    }
}

/// The same flow, let through.
pub(crate) fn allowed() -> FlowEvent {
    FlowEvent {
        verdict: Verdict::Allow,
        would_be: Verdict::Allow,
        enforced: false,
        reason: Reason::AllowRule,
        rule: Some("eea".into()),
        ..violation()
    }
}

pub(crate) fn remote(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse::<IpAddr>().expect("an address"), port)
}

pub(crate) fn event(flow: FlowEvent) -> Event {
    Event::of_flow(time(), flow)
}

pub(crate) fn stamped(sequence: u64, flow: FlowEvent) -> Stamped {
    Stamped { sequence, event: Arc::new(event(flow)) }
}
