use std::sync::Arc;

use serde_json::{Value, json};

use super::Line;
use crate::events::fixtures::{origin, stamped, time, violation};
use crate::events::model::flow::Endpoint;
use crate::events::model::notice::{Gap, Heartbeat, Lost, NodeState, PolicyChange, StreamEnd, Tamper};
use crate::events::model::words::{LostReason, PolicyOutcome, State};
use crate::events::model::{Body, Event, Stamped};

/// What issue 2 fixes by name, because people and scripts read it.
const CONTRACT: &[&str] = &[
    "sequence",
    "time",
    "kind",
    "verdict",
    "would_be",
    "enforced",
    "fence",
    "rule",
    "reason",
    "country",
    "jurisdictions",
    "source",
    "data_date",
    "remote",
    "port",
    "protocol",
    "direction",
    "pid",
    "comm",
    "cgroup",
    "generation",
    "phase",
    "tx_bytes",
    "rx_bytes",
    "tx_packets",
    "rx_packets",
    "duration_ns",
];

fn value(stamped: &Stamped) -> Value {
    serde_json::to_value(Line::new(&origin(), stamped)).expect("a line is always JSON")
}

fn notice(body: Body) -> Stamped {
    Stamped { sequence: 9, event: Arc::new(Event { time: time(), body }) }
}

#[test]
fn a_violation_line_says_what_the_contract_promises() {
    let line = value(&stamped(7, violation()));
    let expected = json!({
        "sequence": 7, "time": "2026-11-20T10:00:00.25Z", "kind": "violation",
        "verdict": "Block", "would_be": "Block", "enforced": true, "phase": "Verdict",
        "fence": "crm-stays-in-the-eea", "rule": null, "reason": "Default", "generation": 3,
        "country": "US", "jurisdictions": ["US", "GDPR-ADEQUATE-PARTIAL"],
        "source": "DB-IP Country Lite", "data_date": "2026-11-01",
        "remote": "13.110.54.10", "port": 443, "protocol": "tcp", "direction": "Outbound",
        "pid": 4242, "comm": "curl", "cgroup": "/crm",
        "tx_bytes": null, "rx_bytes": null, "tx_packets": null, "rx_packets": null, "duration_ns": null,
    });
    for (key, wanted) in expected.as_object().expect("an object") {
        assert_eq!(&line[key], wanted, "{key}");
    }
}

#[test]
fn every_kind_has_every_contract_key() {
    let notices = [
        Body::Lost(Lost {
            reason: LostReason::SubscriberSlow,
            count: 3,
            range: Some((4, 6)),
            first_time: None,
            last_time: None,
            kind: None,
        }),
        Body::Heartbeat(Heartbeat { head_sequence: 9, generation: 3, delivered: 5, lost: 3 }),
        Body::PolicyChange(PolicyChange {
            outcome: PolicyOutcome::Refused,
            generation: 3,
            fences: Arc::new([]),
            detail: None,
        }),
        Body::NodeState(NodeState { state: State::Ready, detail: None, generation: 3 }),
        Body::Gap(Gap { begin: time(), end: time(), delivered: 5, lost: 3, earlier: None }),
        Body::Tamper(Tamper { what: "egress".into(), detail: "detached".into(), repaired: true }),
    ];
    for line in notices.into_iter().map(|body| value(&notice(body))).chain([value(&stamped(1, violation()))])
    {
        let keys = line.as_object().expect("an object");
        for key in CONTRACT {
            assert!(keys.contains_key(*key), "{} has no {key}", line["kind"]);
        }
    }
}

#[test]
fn a_lost_line_names_the_missing_range() {
    let line = value(&notice(Body::Lost(Lost {
        reason: LostReason::SubscriberSlow,
        count: 3,
        range: Some((4, 6)),
        first_time: None,
        last_time: None,
        kind: None,
    })));
    assert_eq!(
        (&line["kind"], &line["reason"], &line["count"], &line["from_sequence"], &line["to_sequence"]),
        (&json!("lost"), &json!("SubscriberSlow"), &json!(3), &json!(4), &json!(6))
    );
}

#[test]
fn a_gap_line_has_its_ends_and_its_counts() {
    let earlier = Some(StreamEnd { stream_id: "an earlier stream".into(), sequence: 77 });
    let line = value(&notice(Body::Gap(Gap { begin: time(), end: time(), delivered: 5, lost: 3, earlier })));
    let expected = json!({"kind": "gap", "begin": "2026-11-20T10:00:00.25Z", "end": "2026-11-20T10:00:00.25Z",
        "delivered": 5, "lost": 3, "earlier_stream_id": "an earlier stream", "earlier_sequence": 77});
    for (key, wanted) in expected.as_object().expect("an object") {
        assert_eq!(&line[key], wanted, "{key}");
    }
}

#[test]
fn a_flow_line_has_no_keys_of_other_kinds() {
    let line = value(&stamped(1, violation()));
    for key in ["count", "from_sequence", "head_sequence", "outcome", "state", "detail"] {
        assert!(line.get(key).is_none(), "{key}");
    }
}

#[test]
fn an_ipv4_mapped_remote_is_printed_as_ipv4() {
    let mut flow = violation();
    flow.remote = Endpoint::new("::ffff:13.110.54.10".parse().expect("an address"), 443);
    assert_eq!(value(&stamped(1, flow))["remote"], "13.110.54.10");
}
