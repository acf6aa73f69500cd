use std::sync::Arc;
use std::time::Duration;

use agent_proto::v1;
use jiff::Timestamp;

use super::{Word, event};
use crate::events::fixtures::{allowed, origin, remote, time, violation};
use crate::events::model::flow::{FlowEvent, Place, ProcessingRecord, Protocol, Traffic};
use crate::events::model::notice::{
    FenceRef, Gap, Heartbeat, Lost, NodeState, PolicyChange, StreamEnd, Tamper,
};
use crate::events::model::words::{
    Direction, Hook, Kind, LostReason, Mode, Phase, PolicyOutcome, Reason, Severity, State, Verdict,
};
use crate::events::model::{Body, Event, Stamped};
use crate::grpc::convert::event_out;

/// Every optional field filled, every value unlike its neighbours.
fn full_flow() -> FlowEvent {
    FlowEvent {
        rule: Some("salesforce".into()),
        place: Arc::new(Place {
            country: Some("US".into()),
            registered_country: Some("IE".into()),
            provider: Some("AWS".into()),
            region: Some("us-east-1".into()),
            asn: Some(64_500),
            source: Some("ip-ranges.json".into()),
            data_date: Some("2026-11-01".parse().expect("a date")),
            jurisdictions: Arc::new(["US".into()]),
            anycast: true,
        }),
        remote: remote("2001:db8::1", 443),
        protocol: Protocol(132),
        severity: Some(Severity::Critical),
        basis: Some("GDPR Art. 45".into()),
        record: Some(Arc::new(ProcessingRecord {
            data_categories: vec!["contact".into()],
            purpose: Some("sync".into()),
            recipients: vec!["Salesforce".into()],
        })),
        traffic: Some(Traffic { tx_bytes: 1, tx_packets: 2, rx_bytes: 3, rx_packets: 4 }),
        duration: Some(Duration::from_nanos(1_500_000_001)),
        repeats: 9,
        folded: 11,
        partial: true,
        ..violation()
    }
}

#[test]
fn every_event_comes_back_as_it_went() {
    let before_1970: Timestamp = "1969-12-31T23:59:59.25Z".parse().expect("a time");
    let bodies = [
        Body::Violation(violation()),
        Body::Violation(full_flow()),
        Body::Flow(allowed()),
        Body::Lost(Lost {
            reason: LostReason::KernelRingFull,
            count: 7,
            range: Some((1, 7)),
            first_time: Some(time()),
            last_time: Some(before_1970),
            kind: Some(Kind::Flow),
        }),
        Body::Heartbeat(Heartbeat { head_sequence: 1, generation: 2, delivered: 3, lost: 4 }),
        Body::PolicyChange(PolicyChange {
            outcome: PolicyOutcome::Refused,
            generation: 3,
            fences: Arc::new([FenceRef { name: "one".into(), mode: Mode::Audit }]),
            detail: Some("crm.yaml:3:1: no such kind".into()),
        }),
        Body::NodeState(NodeState {
            state: State::Degraded,
            detail: Some("no egress".into()),
            generation: 3,
        }),
        Body::Gap(Gap {
            begin: time(),
            end: Timestamp::UNIX_EPOCH,
            delivered: 5,
            lost: 3,
            earlier: Some(StreamEnd { stream_id: "an earlier stream".into(), sequence: 77 }),
        }),
        Body::Gap(Gap { begin: time(), end: time(), delivered: 0, lost: 0, earlier: None }),
        Body::Tamper(Tamper { what: "egress".into(), detail: "detached".into(), repaired: true }),
    ];
    for body in bodies {
        let stamped = Stamped { sequence: 5, event: Arc::new(Event { time: time(), body }) };
        let (came_from, came_back) = event(event_out::event(&origin(), &stamped)).expect("readable");
        assert_eq!((came_from, came_back), (origin(), stamped));
    }
}

#[test]
fn addresses_go_as_text_and_as_bytes() {
    let stamped =
        Stamped { sequence: 1, event: Arc::new(Event { time: time(), body: Body::Flow(full_flow()) }) };
    let Some(v1::event::Event::Flow(flow)) = event_out::event(&origin(), &stamped).event else {
        panic!("a flow")
    };
    let endpoint = flow.remote.expect("a remote");
    assert_eq!(endpoint.address, "2001:db8::1");
    assert_eq!(endpoint.address_bytes, [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_word_of_a_newer_agent_is_an_error_that_names_it() {
    let stamped =
        Stamped { sequence: 1, event: Arc::new(Event { time: time(), body: Body::Flow(allowed()) }) };
    let mut message = event_out::event(&origin(), &stamped);
    let Some(v1::event::Event::Flow(flow)) = &mut message.event else { panic!("a flow") };
    flow.reason = 999;
    let error = event(message).expect_err("unknown").to_string();
    assert!(error.contains("`reason` = 999"), "{error}");
}

/// Each word there and back; and no number of the proto is without a word, but for zero.
fn mirrors<W: Word + PartialEq + std::fmt::Debug>(all: &[W]) {
    for word in all {
        assert_eq!(W::from_wire(word.to_wire()).as_ref(), Some(word), "{}", W::NAME);
    }
    let known = (1..1_000).filter(|number| W::from_wire(*number).is_some()).count();
    assert_eq!((known, W::from_wire(0)), (all.len(), None), "{}", W::NAME);
}

#[test]
fn glossary_and_proto_have_the_same_words() {
    mirrors(Verdict::ALL);
    mirrors(Mode::ALL);
    mirrors(Reason::ALL);
    mirrors(Direction::ALL);
    mirrors(Hook::ALL);
    mirrors(Phase::ALL);
    mirrors(Severity::ALL);
    mirrors(Kind::ALL);
    mirrors(LostReason::ALL);
    mirrors(PolicyOutcome::ALL);
    mirrors(State::ALL);
}
