use agent_proto::v1;
use std::sync::Arc;

use super::Filter;
use crate::events::fixtures::{allowed, event, remote, time, violation};
use crate::events::model::flow::FlowEvent;
use crate::events::model::notice::{Lost, NodeState};
use crate::events::model::words::{LostReason, State};
use crate::events::model::{Body, Event};
use crate::grpc::fake_agent::FakeBackend;

fn filter(allow: Vec<v1::EventFilter>, deny: Vec<v1::EventFilter>, all: bool) -> Result<Filter, String> {
    let request = v1::WatchRequest { allow_filters: allow, deny_filters: deny, all, ..Default::default() };
    Filter::new(&request, &FakeBackend::new()).map_err(|error| error.to_string())
}

fn allowing(allow: v1::EventFilter) -> Filter {
    filter(vec![allow], vec![], true).expect("a filter")
}

fn list(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

/// An otherwise ordinary violation.
fn with(change: impl FnOnce(&mut FlowEvent)) -> Event {
    let mut flow = violation();
    change(&mut flow);
    event(flow)
}

#[test]
fn without_filters_violations_pass_and_flows_only_if_all_are_wanted() {
    let usual = filter(vec![], vec![], false).expect("a filter");
    let all = filter(vec![], vec![], true).expect("a filter");
    assert!(usual.passes(&event(violation())));
    assert!(!usual.passes(&event(allowed())));
    assert!(all.passes(&event(allowed())));
}

/// For each field: the filter, an event that it matches, and one that it does not.
#[test]
fn each_field_matches_what_it_says_and_nothing_else() {
    use v1::EventFilter as F;
    let cases: Vec<(&str, F, Event, Event)> = vec![
        (
            "cgroup below",
            F { cgroups: list("/crm"), ..F::default() },
            with(|flow| flow.cgroup = Some("/crm/job".into())),
            with(|flow| flow.cgroup = Some("/crm2".into())),
        ),
        (
            "cgroup itself",
            F { cgroups: list("/crm/"), ..F::default() },
            with(|flow| flow.cgroup = Some("/crm".into())),
            with(|flow| flow.cgroup = None),
        ),
        (
            "cgroup root",
            F { cgroups: list("/"), ..F::default() },
            with(|flow| flow.cgroup = Some("/llm".into())),
            with(|flow| flow.cgroup = None),
        ),
        (
            "workload",
            F { workloads: list("crm"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.workload = Some("crm2".into())),
        ),
        (
            "verdict",
            F { verdicts: vec![v1::Verdict::Block.into()], ..F::default() },
            event(violation()),
            event(allowed()),
        ),
        (
            "would be",
            F { would_be: vec![v1::Verdict::Allow.into()], ..F::default() },
            event(allowed()),
            event(violation()),
        ),
        (
            "kind",
            F { kinds: vec![v1::EventKind::Flow.into()], ..F::default() },
            event(allowed()),
            event(violation()),
        ),
        (
            "group",
            F { jurisdictions: list("GDPR-ADEQUATE-PARTIAL"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.place = Arc::default()),
        ),
        (
            "address",
            F { cidrs: list("13.110.54.10"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.remote = remote("13.110.54.11", 443)),
        ),
        (
            "block",
            F { cidrs: list("13.110.0.0/16"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.remote = remote("13.111.0.0", 443)),
        ),
        (
            "mapped block",
            F { cidrs: list("::ffff:13.110.0.0/112"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.remote = remote("13.111.0.0", 443)),
        ),
        (
            "v6 block",
            F { cidrs: list("2001:db8::/32"), ..F::default() },
            with(|flow| flow.remote = remote("2001:db8::1", 443)),
            with(|_| ()),
        ),
        (
            "port",
            F { ports: vec![443], ..F::default() },
            with(|_| ()),
            with(|flow| flow.remote = remote("13.110.54.10", 80)),
        ),
        (
            "fence",
            F { fences: list("crm-stays-in-the-eea"), ..F::default() },
            with(|_| ()),
            with(|flow| flow.outcomes = Arc::new([])),
        ),
    ];
    for (name, clause, matching, other) in cases {
        let filter = allowing(clause);
        assert!(filter.passes(&matching), "{name}: {matching:?}");
        assert!(!filter.passes(&other), "{name}: {other:?}");
    }
}

#[test]
fn fields_of_a_filter_are_and_filters_are_or_and_deny_wins() {
    let us = v1::EventFilter { jurisdictions: list("US"), ..Default::default() };
    let us_on_80 = v1::EventFilter { ports: vec![80], ..us.clone() };
    let on_443 = v1::EventFilter { ports: vec![443], ..Default::default() };
    let seen = event(violation());

    assert!(!filter(vec![us_on_80.clone()], vec![], false).expect("a filter").passes(&seen));
    assert!(filter(vec![us_on_80, us.clone()], vec![], false).expect("a filter").passes(&seen));
    assert!(!filter(vec![us], vec![on_443], false).expect("a filter").passes(&seen));
}

#[test]
fn a_filter_that_could_never_match_is_refused_with_its_field() {
    use v1::EventFilter as F;
    let cases = [
        (
            F { cidrs: vec!["10.0.0.0/8".into(), "10.0.0.0/33".into()], ..F::default() },
            "allow_filters[0].cidrs[1]: \"10.0.0.0/33\" is no address or CIDR block",
        ),
        (F { ports: vec![70_000], ..F::default() }, "allow_filters[0].ports[0]: 70000 is no port"),
        (F { ports: vec![0], ..F::default() }, "allow_filters[0].ports[0]: 0 is no port"),
        (F { jurisdictions: list("UK"), ..F::default() }, "names no jurisdiction; did you mean \"GB\"?"),
        (F { verdicts: vec![9], ..F::default() }, "allow_filters[0].verdicts[0]: 9 is no value of Verdict"),
        (F { kinds: vec![0], ..F::default() }, "allow_filters[0].kinds[0]: 0 is no value of EventKind"),
        (F { cgroups: list("crm"), ..F::default() }, "allow_filters[0].cgroups[0]: \"crm\" is no path"),
        (F { fences: list(""), ..F::default() }, "allow_filters[0].fences[0]: an empty name"),
        (F::default(), "allow_filters[0]: a filter without any field"),
        (F { ports: vec![1; 257], ..F::default() }, "allow_filters[0].ports: 257 entries, at most 256"),
    ];
    for (clause, wanted) in cases {
        let error = filter(vec![clause], vec![], false).expect_err(wanted);
        assert!(error.contains(wanted), "{error:?} should say {wanted:?}");
    }
}

#[test]
fn a_loss_always_passes() {
    let body = Body::Lost(Lost {
        reason: LostReason::Decode,
        count: 1,
        range: None,
        first_time: None,
        last_time: None,
        kind: None,
    });
    let kinds = vec![v1::EventKind::Lost.into()];
    let deny = vec![v1::EventFilter { kinds, ..Default::default() }];
    let allow = vec![v1::EventFilter { ports: vec![1], ..Default::default() }];
    assert!(filter(allow, deny, false).expect("a filter").passes(&Event { time: time(), body }));
}

#[test]
fn the_agents_own_events_pass_flow_filters_but_not_a_choice_of_kinds() {
    let body = Body::NodeState(NodeState { state: State::Ready, detail: None, generation: 3 });
    let event = Event { time: time(), body };
    let by_port = allowing(v1::EventFilter { ports: vec![1], ..Default::default() });
    let by_kind =
        allowing(v1::EventFilter { kinds: vec![v1::EventKind::Violation.into()], ..Default::default() });
    assert!(by_port.passes(&event));
    assert!(!by_kind.passes(&event));
}
