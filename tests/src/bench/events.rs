//! Events: how many one gRPC subscriber gets from the hub, and whether any is lost from the kernel to the subscriber.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::cli::client::connect;
use agent::events::hub::{Hub, RING_EVENTS};
use agent::events::model::Event;
use agent::events::model::flow::{Endpoint, FenceOutcome, FlowEvent, Place, Process, Protocol};
use agent::events::model::words::{Direction, Hook, Mode, Phase, Reason, Verdict};
use agent::grpc::server::serve;
use agent::grpc::socket::AgentSocket;
use agent_proto::v1;
use agent_proto::v1::event_service_client::EventServiceClient;
use agent_tests::agent::Setup;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tonic::Streaming;

use super::backend::Nothing;
use super::bar::Bar;
use super::ground::Ground;
use super::options::Options;
use super::report::{Report, Row, Unit};
use super::stage::{SERVER_PROCESSOR, Stage};
use super::stats::Sample;
use super::sys;
use super::worker::Order;

const RATE: Bar = Bar::AtLeast { goal: 200_000.0, floor: 100_000.0 };
const LOST: Bar = Bar::AtMost { goal: 0.0, floor: 0.0 };
/// The promise: violations a second without loss.
const PROMISED: u64 = 10_000;
/// Events that the publisher hands to the hub at once, as the rings' reader does.
const BATCH: usize = 64;
/// No event is this late.
const SILENCE: Duration = Duration::from_secs(5);

/// Measures both.
///
/// # Errors
/// The agent or the stream breaks off.
pub(crate) fn measure(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    report.section("Events");
    let effort = options.effort();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(hub_to_subscriber(&runtime, effort.hub_events / 3)?);
    }
    let rates = Sample::of(&rates).context("no rates")?;
    report.row(Row::new("events to one gRPC subscriber", Unit::PerSecond, rates).bar(RATE));
    kernel_to_subscriber(&runtime, ground, effort.flood, report)
}

/// Publishes as fast as the subscriber takes them, so that none is lost and what is measured is the path.
fn hub_to_subscriber(runtime: &Runtime, events: u64) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bench.sock");
    let hub = Hub::new("bench", RING_EVENTS)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let socket = AgentSocket::bind(&path)?;
    let ended = async { stopped.await.unwrap_or(()) };
    let serving = Arc::clone(&hub);
    let served = runtime.spawn(async move { serve(socket, serving, Arc::new(Nothing), ended).await });
    let mut stream = runtime.block_on(subscribe(&path))?;

    let start = Instant::now();
    let publishing = Arc::clone(&hub);
    let publisher = std::thread::spawn(move || {
        let template = violation();
        let time = Timestamp::now();
        while publishing.head() < events && !publishing.is_closed() {
            if publishing.head() - publishing.counts().delivered < RING_EVENTS.get() as u64 / 2 {
                publishing.publish_all((0..BATCH).map(|_| Event::of_flow(time, template.clone())));
            } else {
                std::thread::yield_now();
            }
        }
    });
    let result: Result<()> = runtime.block_on(async {
        let mut seen = 0;
        while seen < events {
            let event =
                tokio::time::timeout(SILENCE, stream.next()).await.context("the stream fell silent")?;
            seen = event.context("the stream ended")??.sequence;
        }
        Ok(())
    });
    let took = start.elapsed();
    hub.close();
    ensure!(publisher.join().is_ok(), "the publisher panicked");
    drop(stream);
    stop.send(()).ok();
    runtime.block_on(served)??;
    result?;
    ensure!(hub.counts().lost_slow == 0, "the paced publisher outran the subscriber");
    Ok(events as f64 / took.as_secs_f64())
}

async fn subscribe(socket: &Path) -> Result<Streaming<v1::Event>> {
    let mut client = EventServiceClient::new(connect(socket).await?);
    Ok(client.watch(v1::WatchRequest::default()).await?.into_inner())
}

/// Refused connects at the promised rate, and what a subscriber sees of them.
fn kernel_to_subscriber(
    runtime: &Runtime,
    ground: &Ground,
    flood: Duration,
    report: &mut Report,
) -> Result<()> {
    let mut stage = Stage::new(&ground.refused_targets()?)?;
    let setup = Setup::new(&stage.root)?.policy(&stage.fence())?;
    let agent = setup.start()?;
    sys::pin_process(agent.pid(), SERVER_PROCESSOR)?;
    let mut stream = runtime.block_on(subscribe(&setup.socket()))?;
    let (told, enough) = oneshot::channel::<u64>();
    let seen = runtime.spawn(async move {
        let mut seen = Seen::default();
        let mut expected = u64::MAX;
        let mut enough = Some(enough);
        loop {
            tokio::select! {
                Ok(refused) = async { enough.as_mut().expect("invariant: guarded").await }, if enough.is_some() => {
                    (expected, enough) = (refused, None);
                }
                next = tokio::time::timeout(SILENCE, stream.next()) => match next {
                    Ok(Some(Ok(event))) => seen.take(event),
                    Ok(Some(Err(error))) => return Err(anyhow::Error::from(error)),
                    Ok(None) | Err(_) => return Ok(seen),
                },
            }
            if seen.violations + seen.lost() >= expected {
                return Ok(seen);
            }
        }
    });
    let order = Order::Paced { per_second: PROMISED, for_ms: u64::try_from(flood.as_millis())? };
    let answer = stage.worker().tell(&order)?;
    ensure!(answer.done == 0, "{} of the connects were not refused", answer.done);
    told.send(answer.refused).ok();
    let seen = runtime.block_on(seen)??;
    let rate = answer.refused as f64 * 1e9 / answer.wall_ns as f64;
    report.row(Row::new("violations made in the kernel", Unit::PerSecond, Sample::one(rate)));
    report.row(Row::new(
        "violations that the subscriber got",
        Unit::Count,
        Sample::one(seen.violations as f64),
    ));
    let missing = answer.refused.saturating_sub(seen.violations);
    let row =
        Row::new("violations lost on the way, announced or not", Unit::Count, Sample::one(missing as f64));
    report.row(row.bar(LOST));
    report.note(format!(
        "{} connects were refused, {} violations arrived; announced as lost: {:?}.",
        answer.refused, seen.violations, seen.announced
    ));
    agent.stop()?;
    Ok(())
}

/// What a subscriber has seen.
#[derive(Debug, Default)]
struct Seen {
    violations: u64,
    announced: BTreeMap<&'static str, u64>,
}

impl Seen {
    fn take(&mut self, event: v1::Event) {
        match event.event {
            Some(v1::event::Event::Violation(violation)) => self.violations += 1 + violation.repeats,
            Some(v1::event::Event::Lost(lost)) => {
                *self.announced.entry(lost.reason().as_str_name()).or_default() += lost.count;
            }
            Some(
                v1::event::Event::Flow(_)
                | v1::event::Event::Heartbeat(_)
                | v1::event::Event::PolicyChange(_)
                | v1::event::Event::NodeState(_)
                | v1::event::Event::Gap(_)
                | v1::event::Event::Tamper(_),
            )
            | None => {}
        }
    }

    fn lost(&self) -> u64 {
        self.announced.values().sum()
    }
}

/// An event as the kernel's are once they are enriched.
fn violation() -> FlowEvent {
    let fence: Arc<str> = "crm-stays-in-the-eea".into();
    FlowEvent {
        phase: Phase::Verdict,
        verdict: Verdict::Block,
        would_be: Verdict::Block,
        enforced: true,
        reason: Reason::Default,
        fence: Some(Arc::clone(&fence)),
        rule: None,
        outcomes: Arc::new([FenceOutcome {
            fence,
            mode: Mode::Enforce,
            verdict: Verdict::Block,
            rule: None,
            reason: Reason::Default,
        }]),
        generation: 3,
        place: Arc::new(Place {
            country: Some("US".into()),
            source: Some("DB-IP Country Lite".into()),
            jurisdictions: Arc::new(["US".into(), "GDPR-ADEQUATE-PARTIAL".into()]),
            ..Place::default()
        }),
        remote: Endpoint::new([13, 110, 54, 10].into(), 443),
        local: Some(Endpoint::new([10, 77, 0, 2].into(), 40_000)),
        protocol: Protocol(6),
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
        opened: Some(Timestamp::now()),
        duration: None,
        repeats: 0,
        folded: 0,
        partial: false,
    }
}
