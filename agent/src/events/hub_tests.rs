use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Hub, Start, Subscription};
use crate::events::fixtures::{allowed, event, time};
use crate::events::model::notice::{Gap, Lost};
use crate::events::model::words::{Kind, LostReason};
use crate::events::model::{Body, Event, Stamped};

/// Longer than any wait takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn hub(capacity: usize) -> Arc<Hub> {
    Hub::new("node-1", NonZeroUsize::new(capacity).expect("not zero")).expect("a hub")
}

fn events(count: usize) -> impl Iterator<Item = Event> {
    (0..count).map(|_| event(allowed()))
}

async fn batch(subscription: &mut Subscription) -> Option<Vec<Stamped>> {
    let mut batch = Vec::new();
    let open =
        timeout(DEADLINE, subscription.next_batch(&mut batch)).await.expect("events or the end in time");
    open.then_some(batch)
}

fn sequences(batch: &[Stamped]) -> Vec<u64> {
    batch.iter().map(|stamped| stamped.sequence).collect()
}

#[tokio::test]
async fn numbers_start_at_one_and_have_no_gaps() {
    let hub = hub(8);
    let mut subscription = hub.subscribe(Start::Latest);
    assert_eq!(hub.publish(event(allowed())), 1);
    assert_eq!(hub.publish_all(events(3)), 4);
    assert_eq!(sequences(&batch(&mut subscription).await.expect("events")), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_the_exact_range_and_goes_on() {
    let hub = hub(4);
    let mut subscription = hub.subscribe(Start::Latest);
    hub.publish_all(events(10));

    let batch = batch(&mut subscription).await.expect("events");
    let Body::Lost(lost) = &batch[0].event.body else { panic!("first comes the loss: {batch:?}") };
    assert_eq!((lost.reason, lost.count, lost.range), (LostReason::SubscriberSlow, 6, Some((1, 6))));
    assert_eq!(sequences(&batch), [6, 7, 8, 9, 10]);
    assert_eq!((subscription.lost(), hub.counts().lost_slow), (6, 6));
}

#[tokio::test]
async fn a_flood_does_not_push_out_the_announcement_of_what_was_lost_in_it() {
    let hub = hub(4);
    let mut subscription = hub.subscribe(Start::Latest);
    hub.publish_all(events(3));
    let lost = Lost {
        reason: LostReason::KernelRingFull,
        count: 7,
        range: None,
        first_time: None,
        last_time: None,
        kind: Some(Kind::Violation),
    };
    let announcement = Event { body: Body::Lost(lost), ..event(allowed()) };
    hub.publish(announcement.clone());
    hub.publish_all(events(6));

    let taken = batch(&mut subscription).await.expect("events");
    assert_eq!(sequences(&taken), [3, 4, 6, 7, 8, 9, 10]);
    let ranges: Vec<_> = taken.iter().filter_map(range).collect();
    assert_eq!(ranges, [(1, 3), (5, 6)]);
    assert_eq!(*taken[1].event, announcement);
    assert_eq!((subscription.lost(), hub.counts().lost_slow), (5, 5));
    subscription.count_filtered(0);
    assert_eq!(hub.counts().delivered, 5, "four events of the ring, and the announcement");
}

/// The gap is the first event of an agent that takes over, and a backlog longer than the ring follows it at once.
#[tokio::test]
async fn earliest_begins_with_a_notice_that_a_backlog_has_pushed_out() {
    let hub = hub(4);
    let gap = Gap { begin: time(), end: time(), delivered: 10, lost: 0, earlier: None };
    hub.publish(Event { body: Body::Gap(gap), time: time() });
    hub.publish_all(events(10));
    let mut subscription = hub.subscribe(Start::Earliest);
    let taken = batch(&mut subscription).await.expect("events");
    assert_eq!(sequences(&taken), [1, 7, 8, 9, 10, 11]);
    assert!(matches!(taken[0].event.body, Body::Gap(_)));
    assert_eq!(range(&taken[1]), Some((2, 7)));
}

fn range(stamped: &Stamped) -> Option<(u64, u64)> {
    let Body::Lost(lost) = &stamped.event.body else { return None };
    lost.range
}

#[tokio::test]
async fn a_slow_subscriber_holds_nobody_up() {
    let hub = hub(4);
    let _asleep = hub.subscribe(Start::Latest);
    let mut awake = hub.subscribe(Start::Latest);
    for round in 0..100_u64 {
        hub.publish_all(events(4));
        let taken = batch(&mut awake).await.expect("events");
        assert_eq!(sequences(&taken), [4 * round + 1, 4 * round + 2, 4 * round + 3, 4 * round + 4]);
    }
    assert_eq!(awake.lost(), 0);
}

#[tokio::test]
async fn earliest_begins_with_the_oldest_event_in_the_ring_and_is_no_loss() {
    let hub = hub(4);
    hub.publish_all(events(10));
    let mut subscription = hub.subscribe(Start::Earliest);
    assert_eq!(sequences(&batch(&mut subscription).await.expect("events")), [7, 8, 9, 10]);
    assert_eq!(subscription.lost(), 0);
}

#[tokio::test]
async fn a_closed_hub_ends_a_subscription_after_its_last_event() {
    let hub = hub(4);
    let mut subscription = hub.subscribe(Start::Latest);
    hub.publish_all(events(2));
    hub.close();
    assert_eq!(sequences(&batch(&mut subscription).await.expect("events")), [1, 2]);
    assert!(batch(&mut subscription).await.is_none());
}

#[tokio::test]
async fn a_backlog_longer_than_a_batch_comes_whole() {
    let hub = hub(2_000);
    let mut subscription = hub.subscribe(Start::Latest);
    hub.publish_all(events(2_000));
    hub.close();
    let mut seen = Vec::new();
    while let Some(batch) = batch(&mut subscription).await {
        seen.extend(sequences(&batch));
    }
    assert!(seen.iter().copied().eq(1..=2_000));
}

/// Threads publish while a subscriber reads: every number arrives once, or lies in an announced range.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_number_is_delivered_or_announced() {
    const PER_THREAD: u64 = 5_000;
    let hub = hub(64);
    let mut subscription = hub.subscribe(Start::Latest);
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || {
                for _ in 0..PER_THREAD / 10 {
                    hub.publish_all(events(10));
                }
            })
        })
        .collect();
    let mut expected = 1;
    while expected <= 2 * PER_THREAD {
        for stamped in batch(&mut subscription).await.expect("the hub is open") {
            if let Body::Lost(lost) = &stamped.event.body {
                let (from, to) = lost.range.expect("a range");
                assert_eq!((from, to, lost.count), (expected, stamped.sequence, to - from + 1));
            } else {
                assert_eq!(stamped.sequence, expected);
            }
            expected = stamped.sequence + 1;
        }
    }
    for publisher in publishers {
        publisher.join().expect("the publisher ends well");
    }
}

#[test]
fn each_start_has_its_own_stream_id_in_the_form_of_a_uuid() {
    let (one, other) = (hub(1), hub(1));
    assert_ne!(one.origin().stream_id, other.origin().stream_id);
    let shape: Vec<usize> = one.origin().stream_id.split('-').map(str::len).collect();
    assert_eq!(shape, [8, 4, 4, 4, 12]);
}
