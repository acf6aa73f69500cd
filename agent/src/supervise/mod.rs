//! The agent as a whole: start in order, keep what is in force, stop in order.
//!
//! ```text
//! load ─▶ publish the first image ─▶ attach ─▶ serve        nothing is ever attached without an image
//! engine thread: policy files, data files, cgroups, clocks ─▶ Publisher
//! reader thread: rings ─▶ enrich ─▶ Hub
//! runtime:       gRPC, signals
//! ```

mod backend;
mod engine;
mod flows;
mod guarding;
mod readiness;
mod watcher;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use agent_common::wire::Counter;
use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use self::backend::AgentBackend;
use self::engine::{Engine, Message, state_event};
use crate::bpf::attach::{HOOKS, HookProgram, attach};
use crate::bpf::birth::{self, Birth};
use crate::bpf::identity::IdentityMaps;
use crate::bpf::image::{ImageMaps, KernelCounters, take};
use crate::bpf::load::{Loaded, kernel_log, load, seed};
use crate::bpf::object::OBJECT;
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
use crate::policy::in_force::History;
use crate::policy::lacks::Lacks;
use crate::policy::publish::Publisher;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps the agent from coming up, each with what to do. Nothing stays attached then.
pub fn run(config: &Config) -> Result<()> {
    prepare(&config.state_dir).context("preparing the state directory")?;
    if let Some(parent) = config.socket.parent() {
        prepare(parent).context("preparing the socket's directory")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Bound first: a second agent on the same socket must fail before it touches the kernel.
    let socket = AgentSocket::bind(&config.socket)?;
    let hub = Hub::new(&config.node, RING_EVENTS)?;
    let (cgroups, root) = CgroupFs::find(config.cgroup_root.as_deref())?;
    readiness::check_node(config, &root)?;
    let cgroups = Arc::new(cgroups);
    cgroups.scan(&root);

    let lacks = Arc::new(Lacks::default());
    readiness::look_for_layers(config, &lacks)?;
    let (mut ebpf, mut programs) =
        load(OBJECT).context("loading (`ringfence doctor` says what this kernel lacks)")?;
    let control = seed(&mut ebpf)?;
    let maps = ImageMaps::take(&mut ebpf, control)?;
    let counters = KernelCounters::take(&mut ebpf)?;
    let birth = birth::attach(&mut ebpf, cgroups.levels_are_depths(), &mut programs);
    log_birth(&birth);
    let top = cgroups.path(&root)?;
    let identities =
        Identities::new(IdentityMaps::take(&mut ebpf)?, Arc::clone(&cgroups), top, birth.clone());
    let history = Arc::new(History::default());
    let publisher = Publisher::new(maps, identities, Arc::clone(&history), config.data.clone(), config.knobs);
    let (flows, asker) = flows::prepare(
        config,
        &ebpf,
        (Arc::clone(&history), Arc::clone(&cgroups), Arc::clone(&lacks)),
        &root,
        Arc::clone(&hub),
    )?
    .unzip();
    let mut engine = Engine::new(
        config,
        publisher,
        Arc::clone(&hub),
        Arc::clone(&cgroups),
        root.clone(),
        Arc::clone(&lacks),
    )?
    .ending_flows(asker);
    engine.start()?;
    let missing = engine.first_missing().to_vec();
    readiness::check_requirements(&missing, config.allow_partial)?;

    let counts = Arc::new(ReaderCounts::default());
    let enricher = Enricher::new(Arc::clone(&history), Arc::clone(&cgroups), Arc::clone(&lacks));
    let reader =
        reader(&mut ebpf, counters, enricher, &hub, &counts)?.watched_by(flows.as_ref().map(Flows::witness));
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let reading = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run(&told))?;

    let hooks: Vec<HookProgram> = HOOKS.into_iter().filter(|h| h.needed(config.knobs.errno)).collect();
    attach(&mut ebpf, &root, &hooks)?;
    log_attached(&programs, &hooks, &root);
    let guarding = guarding::begin(config.host_layer, &mut ebpf, &history, &cgroups, &lacks)?;
    engine.wakes(guarding.waker());

    let (sender, receiver) = mpsc::channel();
    let watching = watcher::watch(config, &root, &sender)?;
    let engine = std::thread::Builder::new().name("engine".into()).spawn(move || engine.run(&receiver))?;

    let problems = flows.as_ref().map(Flows::problems);
    let backend = AgentBackend::new(config, &root, history, lacks, counts, programs, birth)
        .ending_flows(problems)
        .guarding(guarding.report());
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let ending = flows.map(|f| flows::start(f, Arc::clone(&hub), Arc::clone(&backend))).transpose()?;
    hub.publish(state_event(&missing, backend.generation()));
    let served = runtime.block_on(async {
        let asked = shutdown()?;
        let (told, teller) = (Arc::clone(&hub), Arc::clone(&backend));
        let ended = async move {
            asked.await;
            say_stopping(&told, &*teller);
        };
        serve(socket, Arc::clone(&hub), Arc::clone(&backend), ended).await.context("serving gRPC")
    });

    // In the order of a flow: no new verdicts, no new events, what is left in the rings, then the end.
    drop(watching);
    // The engine may have ended by itself, with an error that it logged.
    let _: Result<(), mpsc::SendError<Message>> = sender.send(Message::Stop);
    if engine.join().is_err() {
        bail!("the policy engine panicked; this is a fault of the agent, please report it");
    }
    guarding.end()?;
    flows::join(ending)?;
    drop(ebpf);
    stop.store(true, Ordering::Release);
    if reading.join().is_err() {
        bail!("the ring reader panicked; this is a fault of the agent, please report it");
    }
    tracing::info!(cgroup = %root.display(), "detached: nothing is enforced below this cgroup any more");
    served
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

fn reader(
    ebpf: &mut Ebpf,
    counters: KernelCounters,
    enricher: Enricher,
    hub: &Arc<Hub>,
    counts: &Arc<ReaderCounts>,
) -> Result<Reader> {
    let violations: RingBuf<MapData> = take(ebpf, "VIOLATIONS")?;
    let flows: RingBuf<MapData> = take(ebpf, "FLOWS")?;
    let logs = kernel_log(ebpf);
    Ok(Reader::new(violations, flows, counters, logs, enricher, Arc::clone(hub), Arc::clone(counts)))
}

fn log_attached(programs: &[Loaded], hooks: &[HookProgram], root: &Path) {
    for p in programs {
        tracing::debug!(program = p.name, instructions = p.instructions, "verified");
    }
    tracing::info!(cgroup = %root.display(), hooks = hooks.len(), "attached: verdicts are given from now on");
}

fn say_stopping(hub: &Hub, backend: &dyn Backend) {
    let (state, generation) = (State::Stopping, backend.generation());
    let body = Body::NodeState(NodeState { state, detail: None, generation });
    hub.publish(Event { time: Timestamp::now(), body });
}

fn log_birth(birth: &Birth) {
    match birth {
        Birth::Kernel => tracing::info!("{birth}"),
        Birth::Watch { .. } => tracing::warn!("{birth}"),
        Birth::Off => tracing::error!("{birth}"),
    }
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
