//! The services over a real unix socket, as a client sees them.

use std::time::Duration;

use agent_proto::v1;
use agent_proto::v1::event::Event as Wire;
use agent_proto::v1::event_service_client::EventServiceClient;
use agent_proto::v1::node_service_client::NodeServiceClient;
use agent_proto::v1::place_service_client::PlaceServiceClient;
use agent_proto::v1::policy_service_client::PolicyServiceClient;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::fake_agent::{DEADLINE, FakeAgent};
use crate::cli::client::connect;
use crate::events::fixtures::{allowed, event, violation};

async fn channel(agent: &FakeAgent) -> Channel {
    connect(&agent.socket()).await.expect("the agent is there")
}

async fn watch(agent: &FakeAgent, request: v1::WatchRequest) -> Result<Streaming<v1::Event>, Status> {
    let mut client = EventServiceClient::new(channel(agent).await);
    client.watch(request).await.map(tonic::Response::into_inner)
}

/// The next event that is no heartbeat; `None` at the end of the stream.
async fn next(stream: &mut Streaming<v1::Event>) -> Option<v1::Event> {
    let wait = async {
        loop {
            let event = stream.next().await?.expect("the stream is sound");
            if !matches!(event.event, Some(Wire::Heartbeat(_))) {
                return Some(event);
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("an event in time")
}

#[tokio::test]
async fn a_violation_reaches_the_subscriber_and_a_flow_only_if_asked_for() {
    let agent = FakeAgent::start();
    let mut violations = watch(&agent, v1::WatchRequest::default()).await.expect("a stream");
    let mut all =
        watch(&agent, v1::WatchRequest { all: true, ..Default::default() }).await.expect("a stream");
    agent.hub.publish_all([event(allowed()), event(violation())]);

    let seen = next(&mut violations).await.expect("a violation");
    assert_eq!((seen.sequence, seen.node.as_str()), (2, "node-1"));
    assert_eq!(seen.stream_id, *agent.hub.origin().stream_id);
    let Some(Wire::Violation(flow)) = seen.event else { panic!("a violation: {seen:?}") };
    assert_eq!(flow.fence.as_deref(), Some("crm-stays-in-the-eea"));
    assert!(matches!(next(&mut all).await.expect("a flow").event, Some(Wire::Flow(_))));
}

#[tokio::test]
async fn the_first_message_is_a_heartbeat_that_says_where_the_stream_begins() {
    let agent = FakeAgent::start();
    agent.hub.publish(event(violation()));
    // So rarely that the second one comes after the deadline.
    let every = prost_types::Duration { seconds: 60, nanos: 0 };
    let request = v1::WatchRequest { heartbeat_interval: Some(every), ..Default::default() };
    let mut stream = watch(&agent, request).await.expect("a stream");
    let first = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
    let first = first.expect("a message").expect("sound");
    let Some(Wire::Heartbeat(beat)) = first.event else { panic!("a heartbeat: {first:?}") };
    assert_eq!((first.sequence, beat.head_sequence, beat.generation), (1, 1, 3));
}

#[tokio::test]
async fn earliest_replays_what_the_ring_holds() {
    let agent = FakeAgent::with_ring(2);
    agent.hub.publish_all([event(violation()), event(violation()), event(violation())]);
    let from = v1::WatchFrom::Earliest.into();
    let mut stream = watch(&agent, v1::WatchRequest { from, ..Default::default() }).await.expect("a stream");
    assert_eq!(next(&mut stream).await.expect("an event").sequence, 2);
}

/// The client reads nothing while more is published than ring, server and socket can hold.
#[tokio::test]
async fn a_slow_subscriber_gets_every_number_or_the_exact_range_it_missed() {
    const EVENTS: u64 = 40_000;
    let agent = FakeAgent::with_ring(1_024);
    let mut stream =
        watch(&agent, v1::WatchRequest { all: true, ..Default::default() }).await.expect("a stream");
    for _ in 0..EVENTS / 100 {
        agent.hub.publish_all((0..100).map(|_| event(allowed())));
        tokio::task::yield_now().await;
    }
    let (mut expected, mut lost) = (1, 0);
    while expected <= EVENTS {
        let event = next(&mut stream).await.expect("the stream goes on");
        if let Some(Wire::Lost(loss)) = &event.event {
            assert_eq!(loss.reason, i32::from(v1::LostReason::SubscriberSlow));
            assert_eq!((loss.from_sequence, loss.to_sequence), (Some(expected), Some(event.sequence)));
            assert_eq!(loss.count, event.sequence - expected + 1);
            lost += loss.count;
        } else {
            assert_eq!(event.sequence, expected);
        }
        expected = event.sequence + 1;
    }
    assert!(lost > 0, "the client was meant to be too slow");
    assert_eq!(agent.hub.counts().lost_slow, lost);
}

#[tokio::test]
async fn what_is_published_is_counted_as_delivered_filtered_or_lost() {
    let agent = FakeAgent::with_ring(4);
    let mut stream = watch(&agent, v1::WatchRequest::default()).await.expect("a stream");
    agent.hub.publish_all([event(allowed()), event(violation()), event(allowed()), event(violation())]);
    agent.hub.publish_all([event(violation()), event(allowed())]);
    while next(&mut stream).await.expect("an event").sequence < 5 {}
    agent.counts_become(|counts| counts.filtered == 2).await;
    let counts = agent.hub.counts();
    // Of 6 the first two left the ring; of the others two are flows, which nobody asked for.
    assert_eq!((counts.published, counts.lost_slow, counts.filtered, counts.delivered), (6, 2, 2, 2));
}

#[tokio::test]
async fn invalid_requests_are_invalid_arguments_that_name_the_field() {
    let agent = FakeAgent::start();
    let ports = v1::EventFilter { ports: vec![70_000], ..Default::default() };
    let too_often = prost_types::Duration { seconds: 0, nanos: 1 };
    let cases = [
        (v1::WatchRequest { deny_filters: vec![ports], ..Default::default() }, "deny_filters[0].ports[0]"),
        (v1::WatchRequest { from: 77, ..Default::default() }, "from: 77"),
        (
            v1::WatchRequest { heartbeat_interval: Some(too_often), ..Default::default() },
            "heartbeat_interval",
        ),
    ];
    for (request, field) in cases {
        let status = watch(&agent, request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(field), "{status:?}");
    }
}

#[tokio::test]
async fn status_tells_what_backend_and_hub_know() {
    let agent = FakeAgent::start();
    agent.hub.publish(event(violation()));
    let mut client = NodeServiceClient::new(channel(&agent).await);
    let status = client.status(v1::StatusRequest {}).await.expect("an answer").into_inner();
    assert_eq!((status.node.as_str(), status.generation, status.head_sequence), ("node-1", 3, 1));
    assert_eq!(status.stream_id, *agent.hub.origin().stream_id);
    let stops: Vec<_> = status.stops.iter().map(|stop| stop.stop.as_str()).collect();
    assert_eq!(stops, ["ring", "hub", "stream"]);
}

#[tokio::test]
async fn policy_and_place_questions_reach_the_backend_checked() {
    let agent = FakeAgent::start();
    let channel = channel(&agent).await;
    let mut policy = PolicyServiceClient::new(channel.clone());
    let mut place = PlaceServiceClient::new(channel);

    let list = policy.list(v1::ListFencesRequest {}).await.expect("an answer").into_inner();
    assert_eq!((list.generation, list.fences.len()), (3, 1));

    let documents = vec![v1::PolicyDocument { file: "a.yaml".into(), text: "kind: X".into() }];
    let validation =
        policy.validate(v1::ValidateRequest { documents }).await.expect("an answer").into_inner();
    let finding = &validation.findings[0];
    assert_eq!((finding.file.as_str(), finding.line, finding.column), ("a.yaml", 2, 7));

    let question = v1::ExplainRequest {
        cgroup: "/crm".into(),
        address: "::ffff:13.110.54.10".into(),
        port: 443,
        protocol: 6,
    };
    let answer = policy.explain(question.clone()).await.expect("an answer").into_inner();
    assert_eq!(answer.fence.as_deref(), Some("/crm 13.110.54.10:443 tcp"));
    for (bad, field) in [
        (v1::ExplainRequest { cgroup: "crm".into(), ..question.clone() }, "cgroup"),
        (v1::ExplainRequest { address: "localhost".into(), ..question.clone() }, "address"),
        (v1::ExplainRequest { port: 65_536, ..question.clone() }, "port"),
        (v1::ExplainRequest { protocol: 0, ..question }, "protocol"),
    ] {
        let status = policy.explain(bad).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status:?}");
    }

    let answer = place.lookup(v1::LookupRequest { address: "13.110.54.10".into() }).await.expect("an answer");
    assert_eq!(answer.into_inner().place.expect("a place").country.as_deref(), Some("US"));
}

#[tokio::test]
async fn a_panic_of_the_backend_is_one_failed_call_and_no_end_of_the_agent() {
    let agent = FakeAgent::start();
    let mut policy = PolicyServiceClient::new(channel(&agent).await);
    let documents = vec![v1::PolicyDocument { file: "a.yaml".into(), text: "panic".into() }];
    let status = policy.validate(v1::ValidateRequest { documents }).await.expect_err("it panics");
    assert_eq!(status.code(), Code::Internal);
    policy.list(v1::ListFencesRequest {}).await.expect("the agent lives");
}

#[tokio::test]
async fn a_request_beyond_the_size_limit_is_refused() {
    let agent = FakeAgent::start();
    let mut policy = PolicyServiceClient::new(channel(&agent).await);
    let text = "#".repeat(super::server::MAX_MESSAGE_BYTES + 1);
    let documents = vec![v1::PolicyDocument { file: "a.yaml".into(), text }];
    let status = policy.validate(v1::ValidateRequest { documents }).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[tokio::test]
async fn health_says_that_each_service_is_serving() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let agent = FakeAgent::start();
    let mut client = HealthClient::new(channel(&agent).await);
    for service in ["", "EventService", "PolicyService", "PlaceService", "NodeService"] {
        let name = if service.is_empty() { String::new() } else { format!("ringfence.v1.{service}") };
        let answer = client.check(HealthCheckRequest { service: name }).await.expect(service).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

/// The services that reflection lists, by either version of its protocol.
macro_rules! listed_services {
    ($agent:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(channel($agent).await);
        let answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("a stream");
        let answer = answers.into_inner().next().await.expect("an answer").expect("sound");
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<String>>()
            }
            other => panic!("no list: {other:?}"),
        }
    }};
}

#[tokio::test]
async fn reflection_lists_our_services_in_both_versions() {
    let agent = FakeAgent::start();
    for services in [listed_services!(&agent, v1), listed_services!(&agent, v1alpha)] {
        for service in ["EventService", "PolicyService", "PlaceService", "NodeService"] {
            assert!(services.contains(&format!("ringfence.v1.{service}")), "{services:?}");
        }
        assert!(services.contains(&"grpc.health.v1.Health".to_owned()), "{services:?}");
    }
}

#[tokio::test]
async fn a_shutdown_ends_streams_after_their_last_event_and_removes_the_socket() {
    let agent = FakeAgent::start();
    let socket = agent.socket();
    let mut stream = watch(&agent, v1::WatchRequest::default()).await.expect("a stream");
    agent.hub.publish(event(violation()));
    let reader =
        tokio::spawn(async move { (next(&mut stream).await.is_some(), next(&mut stream).await.is_none()) });
    let _dir = agent.stop().await;
    assert_eq!(reader.await.expect("no panic"), (true, true));
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_subscriber_that_goes_is_forgotten() {
    let agent = FakeAgent::start();
    let stream = watch(&agent, v1::WatchRequest::default()).await.expect("a stream");
    agent.counts_become(|counts| counts.subscribers == 1).await;
    drop(stream);
    agent.counts_become(|counts| counts.subscribers == 0).await;
}

#[tokio::test]
async fn heartbeats_come_at_the_interval_asked_for() {
    let agent = FakeAgent::start();
    let every = prost_types::Duration { seconds: 1, nanos: 0 };
    let request = v1::WatchRequest { heartbeat_interval: Some(every), ..Default::default() };
    let mut stream = watch(&agent, request).await.expect("a stream");
    let begun = std::time::Instant::now();
    for _ in 0..2 {
        let event = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
        assert!(matches!(event.expect("open").expect("sound").event, Some(Wire::Heartbeat(_))));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "the second came after {:?}", begun.elapsed());
}
