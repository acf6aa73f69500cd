//! The agent as a whole: start in order, keep what is in force, stop in order.
//!
//! ```text
//! what is pinned? ─▶ load ─▶ publish the first image ─▶ attach ─▶ serve     nothing is ever attached without an image
//! engine thread: policy files, data files, cgroups, clocks ─▶ Publisher
//! reader thread: rings ─▶ enrich ─▶ Hub
//! watchdog:      what is attached, pinned and in the maps ─▶ put right
//! runtime:       gRPC, signals
//! ```
//!
//! What is enforced does not depend on this process: it lies pinned ([`crate::bpf::pin`]), and goes on when the agent ends,
//! crashes or is replaced.

mod backend;
mod engine;
mod flows;
mod guarding;
mod kernel;
mod privileges;
mod readiness;
mod watchdog;
mod watcher;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use agent_common::wire::Counter;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::backend::AgentBackend;
use self::engine::{Engine, Message, state_event};
use self::kernel::{Kernel, Sources};
use self::readiness::Start;
use crate::bpf::identity::IdentityMaps;
use crate::bpf::load::kernel_log;
use crate::config::Config;
use crate::events::enrich::Enricher;
use crate::events::hub::{Hub, RING_EVENTS};
use crate::events::model::notice::NodeState;
use crate::events::model::words::State;
use crate::events::model::{Body, Event};
use crate::events::reader::{Reader, ReaderCounts};
use crate::flows::Flows;
use crate::grpc::backend::Backend;
use crate::grpc::server::serve;
use crate::grpc::socket::AgentSocket;
use crate::identity::cgroups::CgroupFs;
use crate::policy::identify::Identities;
use crate::policy::ids::WorkloadIds;
use crate::policy::in_force::History;
use crate::policy::lacks::Lacks;
use crate::policy::publish::Publisher;
use crate::watchdog::Alarms;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps the agent from coming up, each with what to do. What was enforced before still is; nothing else is.
pub fn run(config: &Config) -> Result<()> {
    // Before anything else: threads inherit what the first one has.
    privileges::restrict(config.netns_entry)?;
    prepare(&config.state_dir).context("preparing the state directory")?;
    if let Some(parent) = config.socket.parent() {
        prepare(parent).context("preparing the socket's directory")?;
    }
    // Bound first: a second agent on the same socket must fail before it touches the kernel.
    let socket = AgentSocket::bind(&config.socket)?;
    let (cgroups, root) = CgroupFs::find(config.cgroup_root.as_deref())?;
    let cgroups = Arc::new(cgroups);
    cgroups.scan(&root);

    let lacks = Arc::new(Lacks::default());
    readiness::look_for_layers(config, &lacks)?;
    let mut kernel = Kernel::load(config, &root, &cgroups)?;
    privileges::loaded()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match live(config, &runtime, socket, &cgroups, &root, &lacks, &mut kernel) {
        Ok(reading) => {
            kernel.end(config.on_exit)?;
            reading.finish()
        }
        Err(error) => {
            kernel.give_up(config.on_exit);
            Err(error)
        }
    }
}

/// From the loaded programs to the moment when somebody asks the agent to end.
fn live(
    config: &Config,
    runtime: &Runtime,
    socket: AgentSocket,
    cgroups: &Arc<CgroupFs>,
    root: &Path,
    lacks: &Arc<Lacks>,
    kernel: &mut Kernel,
) -> Result<Reading> {
    let start = if kernel.took_over { Start::Again } else { Start::First };
    readiness::check_node(config, root, start)?;
    let hub = Hub::new(&config.node, RING_EVENTS)?;
    let alarms = Arc::new(Alarms::new(Arc::clone(&hub)));
    let history = Arc::new(History::default());
    let maps = kernel.image_maps()?;
    let identity = IdentityMaps::take(&mut kernel.ebpf)?;
    let identities =
        Identities::new(identity, Arc::clone(cgroups), cgroups.path(root)?, kernel.birth.clone());
    let mut publisher =
        Publisher::new(maps, identities, Arc::clone(&history), config.data.clone(), config.knobs);
    let inherited = kernel.inherited.as_ref();
    publisher.resume(WorkloadIds::kept(&config.state_dir, inherited, cgroups), inherited);
    if let Some(inherited) = inherited {
        tracing::info!(generation = inherited.generation, "an image is in force: taking it over");
        history.inherit(inherited.generation);
    }
    let shared = (Arc::clone(&history), Arc::clone(cgroups), Arc::clone(lacks));
    let (flows, asker) = flows::prepare(config, &kernel.ebpf, shared, root, Arc::clone(&hub))?.unzip();
    let mark = publisher.mark();
    let mut engine = Engine::new(
        config,
        publisher,
        Arc::clone(&hub),
        Arc::clone(cgroups),
        root.to_owned(),
        Arc::clone(lacks),
    )?
    .ending_flows(asker)
    .alarmed_by(Arc::clone(&alarms));
    engine.start()?;
    let missing = engine.first_missing().to_vec();
    readiness::check_requirements(&missing, config.allow_partial, start)?;

    kernel.attach(config.knobs.errno)?;

    let counts = Arc::new(ReaderCounts::default());
    let Sources { rings, old, ledger } = kernel.sources()?;
    let logs = kernel_log(&mut kernel.ebpf);
    let enricher = Enricher::new(Arc::clone(&history), Arc::clone(cgroups), Arc::clone(lacks));
    let reader = Reader::new(rings, old, ledger, logs, enricher, Arc::clone(&hub), Arc::clone(&counts))
        .watched_by(flows.as_ref().map(Flows::witness));
    let reading = Reading::start(reader)?;
    let guarding = guarding::begin(config, kernel, &history, cgroups, lacks, &alarms)?;
    engine.wakes(guarding.waker());
    kernel.settle()?;

    let (sender, receiver) = mpsc::channel();
    let watching = watcher::watch(config, root, &sender)?;
    let shared = (Arc::clone(&history), cgroups.as_ref(), Arc::clone(&alarms));
    let watchdog = watchdog::begin(config, root, kernel, shared, mark, sender.clone())?;
    let engine = std::thread::Builder::new().name("engine".into()).spawn(move || engine.run(&receiver))?;

    let (programs, birth) = (kernel.programs.clone(), kernel.birth.clone());
    let problems = flows.as_ref().map(Flows::problems);
    let lacks = Arc::clone(lacks);
    let backend = AgentBackend::new(config, root, history, lacks, counts, programs, birth)
        .ending_flows(problems)
        .guarding(guarding.report())
        .watched_by(Arc::clone(&alarms));
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let ending = flows.map(|f| flows::start(f, Arc::clone(&hub), Arc::clone(&backend))).transpose()?;
    hub.publish(state_event(&missing, &alarms.problems(), backend.generation()));
    runtime.block_on(async {
        let asked = shutdown()?;
        let (told, teller) = (Arc::clone(&hub), Arc::clone(&backend));
        let ended = async move {
            asked.await;
            say_stopping(&told, &*teller);
        };
        serve(socket, Arc::clone(&hub), Arc::clone(&backend), ended).await.context("serving gRPC")
    })?;

    // First, or it would put right what is let go.
    drop(watchdog);
    // In the order of a flow: no new images, no new verdicts (if the hooks go), what is left in the rings, the end.
    drop(watching);
    // The engine may have ended by itself, with an error that it logged.
    let _: Result<(), mpsc::SendError<Message>> = sender.send(Message::Stop);
    if engine.join().is_err() {
        bail!("the policy engine panicked; this is a fault of the agent, please report it");
    }
    guarding.end()?;
    flows::join(ending)?;
    Ok(reading)
}

/// The reader's thread.
struct Reading {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reading {
    fn start(reader: Reader) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run(&told))?;
        Ok(Self { stop, thread })
    }

    /// Reads what is left in the rings, and ends.
    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            bail!("the ring reader panicked; this is a fault of the agent, please report it");
        }
        Ok(())
    }
}

fn prepare(directory: &Path) -> Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .with_context(|| format!("can't make {}", directory.display()))
}

fn say_stopping(hub: &Hub, backend: &dyn Backend) {
    let (state, generation) = (State::Stopping, backend.generation());
    let body = Body::NodeState(NodeState { state, detail: None, generation });
    hub.publish(Event { time: Timestamp::now(), body });
}

/// Done when somebody asks the agent to end.
fn shutdown() -> Result<impl Future<Output = ()> + Send> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = int.recv() => tracing::info!("SIGINT: stopping"),
        }
    })
}

/// Kernel counters that stand for the stops in front of the reader.
const KERNEL_STOPS: [(Counter, Counter); 2] =
    [(Counter::Violations, Counter::ViolationsLost), (Counter::Flows, Counter::FlowsLost)];
