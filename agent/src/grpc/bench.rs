//! How many events a second one gRPC subscriber gets, over a real unix socket:
//! `cargo test --release -p agent --lib -- --ignored --nocapture events_per_second`.

use std::sync::Arc;
use std::time::Instant;

use agent_proto::v1;
use agent_proto::v1::event_service_client::EventServiceClient;
use tokio_stream::StreamExt;

use super::fake_agent::FakeAgent;
use crate::cli::client::connect;
use crate::events::fixtures::{event, violation};
use crate::events::hub::RING_EVENTS;

/// Events to send: long enough that starting up does not show.
const EVENTS: u64 = 1_000_000;

/// Events that the publisher hands to the hub at once, as the ring's reader does.
const PUBLISH: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, and only meaningful with --release"]
async fn events_per_second_to_one_subscriber() {
    let agent = FakeAgent::with_ring(RING_EVENTS.get());
    let mut client = EventServiceClient::new(connect(&agent.socket()).await.expect("the agent is there"));
    let mut stream = client.watch(v1::WatchRequest::default()).await.expect("a stream").into_inner();

    let begun = Instant::now();
    let hub = Arc::clone(&agent.hub);
    let publisher = std::thread::spawn(move || {
        let template = violation();
        while hub.head() < EVENTS {
            // As fast as the subscriber takes them, so that none is lost and what is measured is the path.
            if hub.head() - hub.counts().delivered < RING_EVENTS.get() as u64 / 2 {
                hub.publish_all((0..PUBLISH).map(|_| event(template.clone())));
            } else {
                std::thread::yield_now();
            }
        }
    });
    let mut seen = 0;
    while seen < EVENTS {
        seen = stream.next().await.expect("the stream goes on").expect("sound").sequence;
    }
    let elapsed = begun.elapsed();
    publisher.join().expect("the publisher ends well");
    assert_eq!(agent.hub.counts().lost_slow, 0);
    println!("{:.0} events/s to one subscriber", EVENTS as f64 / elapsed.as_secs_f64());
}
