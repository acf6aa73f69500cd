//! `EventService`: one subscription of the hub for each caller, filtered before anything is converted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_proto::v1;
use agent_proto::v1::event_service_server::EventService;
use jiff::Timestamp;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::convert::event_out;
use super::error::RequestError;
use super::filter::Filter;
use crate::events::hub::{Hub, Start, Subscription};
use crate::events::model::notice::Heartbeat;
use crate::events::model::{Body, Event, Stamped};

/// Time between heartbeats where the request names none.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
/// What a request may ask for, seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<i64> = 1..=60;

pub(super) struct Events {
    pub(super) hub: Arc<Hub>,
    pub(super) backend: Arc<dyn Backend>,
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchStream = EventStream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<EventStream>, Status> {
        let request = request.into_inner();
        if self.hub.is_closed() {
            return Err(RequestError::Stopping.into());
        }
        let filter = Filter::new(&request, &*self.backend)?;
        let every = heartbeat_interval(request.heartbeat_interval)?;
        let subscription = self.hub.subscribe(start(request.from)?);
        let mut heartbeat = tokio::time::interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let feed = Feed { subscription, filter, heartbeat, backend: Arc::clone(&self.backend) };
        // The first heartbeat comes at once: the caller learns where its stream begins.
        let mut ready = vec![feed.heartbeat_event()];
        ready.retain(|stamped| feed.filter.passes(&stamped.event));
        let stream =
            EventStream { hub: Arc::clone(&self.hub), ready: ready.into_iter(), next: Some(feed.boxed()) };
        Ok(Response::new(stream))
    }
}

fn start(from: i32) -> Result<Start, RequestError> {
    match v1::WatchFrom::try_from(from) {
        Ok(v1::WatchFrom::Unspecified | v1::WatchFrom::Latest) => Ok(Start::Latest),
        Ok(v1::WatchFrom::Earliest) => Ok(Start::Earliest),
        Err(_) => Err(RequestError::field("from", format!("{from} is no value of WatchFrom"))),
    }
}

fn heartbeat_interval(asked: Option<prost_types::Duration>) -> Result<Duration, RequestError> {
    let Some(asked) = asked else { return Ok(HEARTBEAT_DEFAULT) };
    let (seconds, nanos) = (asked.seconds, asked.nanos);
    let interval = Duration::try_from(asked).ok().filter(|_| {
        HEARTBEAT_SECONDS.contains(&seconds) && (seconds < *HEARTBEAT_SECONDS.end() || nanos == 0)
    });
    interval.ok_or_else(|| {
        RequestError::field("heartbeat_interval", format!("{seconds} s: 1 s to 60 s are taken"))
    })
}

/// Where one caller's events come from.
struct Feed {
    subscription: Subscription,
    filter: Filter,
    heartbeat: Interval,
    backend: Arc<dyn Backend>,
}

/// The next events for one caller; `None` at the end of the stream.
type Next = Pin<Box<dyn Future<Output = Option<(Feed, Vec<Stamped>)>> + Send>>;

impl Feed {
    fn boxed(self) -> Next {
        Box::pin(self.next())
    }

    /// Waits for events that pass the filter: at least one, at most a batch.
    async fn next(mut self) -> Option<(Self, Vec<Stamped>)> {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                // A heartbeat that is due goes first, or a busy stream would never carry one.
                biased;
                _ = self.heartbeat.tick() => {
                    batch.clear();
                    batch.push(self.heartbeat_event());
                    batch.retain(|stamped| self.filter.passes(&stamped.event));
                }
                open = self.subscription.next_batch(&mut batch) => {
                    if !open {
                        return None;
                    }
                    let taken = batch.len();
                    batch.retain(|stamped| self.filter.passes(&stamped.event));
                    self.subscription.count_filtered(taken - batch.len());
                }
            }
            if !batch.is_empty() {
                return Some((self, batch));
            }
            // A stream that filters everything out must still let others run.
            tokio::task::yield_now().await;
        }
    }

    fn heartbeat_event(&self) -> Stamped {
        let beat = Heartbeat {
            head_sequence: self.subscription.hub().head(),
            generation: self.backend.generation(),
            delivered: self.subscription.delivered(),
            lost: self.subscription.lost(),
        };
        let event = Event { time: Timestamp::now(), body: Body::Heartbeat(beat) };
        Stamped { sequence: self.subscription.position(), event: Arc::new(event) }
    }
}

/// Messages for one caller, each made when the transport has room for it.
pub(super) struct EventStream {
    hub: Arc<Hub>,
    ready: std::vec::IntoIter<Stamped>,
    next: Option<Next>,
}

impl Stream for EventStream {
    type Item = Result<v1::Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(stamped) = self.ready.next() {
                return Poll::Ready(Some(Ok(event_out::event(self.hub.origin(), &stamped))));
            }
            let Some(next) = &mut self.next else { return Poll::Ready(None) };
            match ready!(next.as_mut().poll(cx)) {
                Some((feed, batch)) => {
                    self.ready = batch.into_iter();
                    self.next = Some(feed.boxed());
                }
                None => self.next = None,
            }
        }
    }
}
