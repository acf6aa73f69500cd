//! Keeps in force what the files say: one thread that owns the publisher.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::config::Config;
use crate::events::enrich::mode;
use crate::events::hub::Hub;
use crate::events::model::notice::{FenceRef, NodeState, PolicyChange};
use crate::events::model::words::{PolicyOutcome, State};
use crate::events::model::{Body, Event};
use crate::flows::Asker;
use crate::hostlayer::wait::Waker;
use crate::identity::cgroups::CgroupFs;
use crate::places::Groups;
use crate::policy::in_force::InForce;
use crate::policy::lacks::{Lacks, Missing};
use crate::policy::names;
use crate::policy::publish::Publisher;
use crate::policy::source::{SourceFile, digest};
use crate::policy::{Clock, Context, Digest, Level, PolicySet, check, last_good, load};
use crate::watchdog::alarms::Weight;
use crate::watchdog::{Alarms, Mend};

/// How often the engine looks by itself.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that was set by less is a clock that drifts.
const CLOCK_STEP_NS: i128 = 500_000_000;

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something changed in a folder of policy or data files.
    Files,
    /// Cgroups came or went.
    Cgroups(Vec<PathBuf>),
    /// Somebody else wrote to the image's maps: what the watchdog found there.
    Mend(Mend, String),
    /// End.
    Stop,
}

/// The engine.
pub(super) struct Engine {
    policy: Option<PathBuf>,
    data: Vec<PathBuf>,
    state_dir: PathBuf,
    publisher: Publisher,
    groups: Groups,
    hub: Arc<Hub>,
    cgroups: Arc<CgroupFs>,
    root: PathBuf,
    lacks: Arc<Lacks>,
    /// What was last said to be missing.
    missing: Vec<Missing>,
    /// Digest of the files that were last tried, good or not.
    tried: Option<Digest>,
    data_stamp: Vec<Option<(SystemTime, u64)>>,
    clock: Clock,
    next_boundary: Option<Timestamp>,
    looked: Instant,
    /// Ends flows that are now blocked.
    flows: Option<Asker>,
    /// Who else looks when something changed.
    host_layer: Option<Waker>,
    /// What the watchdog and its like have to say.
    alarms: Option<Arc<Alarms>>,
    /// What of it was last said to make the agent Degraded.
    troubles: Vec<String>,
}

impl Engine {
    pub(super) fn new(
        config: &Config,
        publisher: Publisher,
        hub: Arc<Hub>,
        cgroups: Arc<CgroupFs>,
        root: PathBuf,
        lacks: Arc<Lacks>,
    ) -> Result<Self> {
        let data: Vec<PathBuf> =
            config.data.country_db.iter().chain(&config.data.provider_ranges).cloned().collect();
        let data_stamp = stamps(&data);
        Ok(Self {
            policy: config.policy.clone(),
            data,
            state_dir: config.state_dir.clone(),
            publisher,
            groups: Groups::builtin()?,
            hub,
            cgroups,
            root,
            lacks,
            missing: Vec::new(),
            tried: None,
            data_stamp,
            clock: Clock::read(),
            next_boundary: None,
            looked: Instant::now(),
            flows: None,
            host_layer: None,
            alarms: None,
            troubles: Vec::new(),
        })
    }

    /// The host layer is to look whenever a policy came into force or a cgroup came or went.
    pub(super) fn wakes(&mut self, host_layer: Option<Waker>) {
        self.host_layer = host_layer;
    }

    fn wake(&self) {
        self.host_layer.iter().for_each(Waker::wake);
    }

    /// Has flows ended that a publication blocks.
    pub(super) fn ending_flows(mut self, flows: Option<Asker>) -> Self {
        self.flows = flows;
        self
    }

    /// Says in its state what these have to say.
    pub(super) fn alarmed_by(mut self, alarms: Arc<Alarms>) -> Self {
        self.alarms = Some(alarms);
        self
    }

    fn end_flows(&self) {
        self.flows.iter().for_each(Asker::ask);
    }

    /// The first image: from the files, else from the last good documents. Without either the start fails, but for an
    /// agent that took over an image: that one stays in force, and what is wrong is said.
    pub(super) fn start(&mut self) -> Result<()> {
        let inherited = self.publisher.inherited_generation();
        match self.first_image() {
            Err(error) if inherited != 0 => {
                tracing::error!(
                    error = format!("{error:#}"),
                    generation = inherited,
                    "no image of our own: that of the agent before stays in force"
                );
                self.tell(PolicyOutcome::Refused, Some(format!("{error:#}")));
                Ok(())
            }
            result => result,
        }
    }

    fn first_image(&mut self) -> Result<()> {
        let Some(path) = self.policy.clone() else {
            self.publish(PolicySet::empty(self.groups.clone()), &[], false)?;
            tracing::info!("no --policy: observing every workload, blocking nothing");
            return Ok(());
        };
        let refused = match self.try_files(&path, false) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(files) = last_good::load(&self.state_dir)? else {
            return Err(refused.context(format!("the policy {} is refused", path.display())));
        };
        tracing::error!(
            error = format!("{refused:#}"),
            "the policy is refused: the last good one stays in force"
        );
        let checked = self.check(&files);
        let Some(set) = checked else {
            bail!("the last good policy is refused by this version: mend {}", path.display())
        };
        self.publish(set, &files, false)?;
        self.tell(PolicyOutcome::Refused, Some(format!("{refused:#}")));
        Ok(())
    }

    /// What the fences in force need and this node lacks, as the first event about the node's state will say it: from
    /// then on only changes are told.
    pub(super) fn first_missing(&mut self) -> &[Missing] {
        self.missing = self.missing();
        &self.missing
    }

    fn missing(&self) -> Vec<Missing> {
        self.publisher.in_force().map(|f| self.lacks.missing(&f.set)).unwrap_or_default()
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(LOOK) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Files) => self.look_at_files(),
                Ok(Message::Cgroups(paths)) => {
                    self.look_at_cgroups(&paths);
                    self.wake();
                }
                Ok(Message::Mend(mend, found)) => self.mend(mend, &found),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                self.look();
            }
            self.look_at_lacks();
        }
    }

    /// What no notification tells.
    fn look(&mut self) {
        self.look_at_files();
        self.look_at_cgroups(&[]);
        self.publisher.prune();
        let clock = Clock::read();
        let step = (clock.wall_minus_boot - self.clock.wall_minus_boot).abs() > CLOCK_STEP_NS;
        let boundary = self.next_boundary.is_some_and(|b| Timestamp::now() >= b);
        if step || boundary {
            let why =
                if step { "the wall clock was set" } else { "a jurisdiction group changed with the date" };
            tracing::info!(why, "publishing again");
            self.republish(false);
        }
    }

    fn look_at_files(&mut self) {
        if let Some(path) = self.policy.clone()
            && let Err(error) = self.try_files(&path, false)
        {
            tracing::error!(
                error = format!("{error:#}"),
                "the policy is refused as a whole: the last good one stays in force"
            );
            self.tell(PolicyOutcome::Refused, Some(format!("{error:#}")));
        }
        let stamp = stamps(&self.data);
        if stamp != self.data_stamp {
            self.data_stamp = stamp;
            tracing::info!("a data file changed: reading places anew");
            self.republish(true);
        }
    }

    /// Publishes the files if they are not those that were tried last.
    fn try_files(&mut self, path: &std::path::Path, reread: bool) -> Result<()> {
        let files = match load(path) {
            Ok(files) => files,
            // Said once: a folder that is away stays away for many looks.
            Err(_) if self.tried == Some(Digest::default()) => return Ok(()),
            Err(error) => {
                self.tried = Some(Digest::default());
                return Err(error.into());
            }
        };
        let now = digest(&files);
        if self.tried == Some(now) && !reread {
            return Ok(());
        }
        self.tried = Some(now);
        let set = match self.check(&files) {
            Some(set) => set,
            None => bail!("documents with errors: run `ringfence check {}`", path.display()),
        };
        self.publish(set, &files, reread)
    }

    fn check(&self, files: &[SourceFile]) -> Option<PolicySet> {
        let checked = check(files, Context { now: Timestamp::now(), groups: &self.groups, cgroups: None });
        for finding in &checked.findings {
            match finding.level {
                Level::Error => tracing::error!("{finding}"),
                Level::Warning => tracing::warn!("{finding}"),
            }
        }
        checked.set
    }

    fn publish(&mut self, set: PolicySet, files: &[SourceFile], reread: bool) -> Result<()> {
        let begin = Instant::now();
        let inherited = self.publisher.inherited_generation();
        let in_force = self.publisher.publish(set, reread).context("publishing the policy")?;
        self.keep_names(inherited, &in_force);
        self.clock = Clock::read();
        self.next_boundary = in_force.manifest.next_boundary;
        let took_ms = begin.elapsed().as_millis();
        let generation = in_force.manifest.generation;
        self.wake();
        tracing::info!(generation, fences = in_force.set.fences.len(), took_ms, "in force");
        for warning in &in_force.manifest.table.warnings {
            tracing::warn!("{warning}");
        }
        self.tell(PolicyOutcome::Published, self.keep(files));
        self.end_flows();
        Ok(())
    }

    /// Keeps what the numbers of the image mean, as far as the next agent must know it. If they mean what those of an
    /// earlier agent's image meant, its events have names.
    fn keep_names(&self, inherited: u32, now: &InForce) {
        let digest = names::digest(&now.manifest);
        if inherited != 0 && names::had(&self.state_dir, inherited, &digest) {
            self.publisher.same_as_inherited();
        }
        if let Err(error) = names::keep(&self.state_dir, now.manifest.generation, &digest) {
            tracing::warn!(%error, "after a restart, events of the time between will have no names");
        }
    }

    /// Keeps the documents for a restart. If that fails they are in force all the same, and it is said.
    fn keep(&self, files: &[SourceFile]) -> Option<String> {
        if files.is_empty() {
            return None;
        }
        let error = last_good::store(&self.state_dir, files).err()?;
        tracing::error!(%error, "in force, but not kept for a restart");
        Some(format!("in force, but not kept for a restart: {error}"))
    }

    /// The documents in force once more: with new data, a new date or a new clock.
    fn republish(&mut self, reread: bool) {
        if let Err(error) = self.publish_again(reread) {
            tracing::error!(error = format!("{error:#}"), "refused: what was in force stays in force");
            self.tell(PolicyOutcome::Refused, Some(format!("{error:#}")));
        }
    }

    fn publish_again(&mut self, reread: bool) -> Result<()> {
        let Some(now) = self.publisher.in_force() else { return Ok(()) };
        let set = PolicySet::clone(&now.set);
        self.clock = Clock::read();
        self.publish(set, &[], reread)
    }

    /// Writes anew what somebody else has written over.
    fn mend(&mut self, mend: Mend, found: &str) {
        let mended = match mend {
            Mend::Control => self.publisher.restore_control().map_err(Into::into),
            Mend::Image { index } => self.publish_again(index),
        };
        let Some(alarms) = &self.alarms else { return };
        match mended {
            Ok(()) => alarms.repaired("image", &format!("{found}; published again")),
            Err(error) => {
                let detail = format!("{found}; publishing again failed: {error:#}");
                alarms.stands("image", "image", &detail, Weight::Degrades);
            }
        }
    }

    fn look_at_cgroups(&mut self, paths: &[PathBuf]) {
        for path in paths {
            self.cgroups.scan(path);
        }
        match self.publisher.follow_cgroups(paths) {
            // Its programs may have opened flows before it was known.
            Ok(true) => self.end_flows(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, cgroup = %self.root.display(), "following cgroups"),
        }
    }

    /// Says what became missing, or is there again.
    fn look_at_lacks(&mut self) {
        let missing = self.missing();
        let troubles = self.alarms.as_ref().map(|alarms| alarms.problems()).unwrap_or_default();
        if missing == self.missing && troubles == self.troubles {
            return;
        }
        self.troubles = troubles;
        for new in missing.iter().filter(|m| !self.missing.contains(m)) {
            tracing::error!("{new}");
        }
        if missing.is_empty() && !self.missing.is_empty() {
            tracing::info!("nothing that a fence requires is missing any more");
        }
        self.missing = missing;
        let generation = self.publisher.in_force().map_or(0, |f| f.manifest.generation.into());
        self.hub.publish(state_event(&self.missing, &self.troubles, generation));
    }

    fn tell(&self, outcome: PolicyOutcome, detail: Option<String>) {
        let now = self.publisher.in_force();
        let change = PolicyChange {
            outcome,
            generation: now
                .as_ref()
                .map_or(self.publisher.inherited_generation(), |f| f.manifest.generation)
                .into(),
            fences: now.map_or_else(|| Arc::new([]) as Arc<[FenceRef]>, |f| fence_refs(&f)),
            detail: detail.map(Arc::from),
        };
        self.hub.publish(Event { time: Timestamp::now(), body: Body::PolicyChange(change) });
    }
}

/// Ready, or Degraded with what is missing or wrong.
pub(super) fn state_event(missing: &[Missing], troubles: &[String], generation: u64) -> Event {
    let (state, detail) = if missing.is_empty() && troubles.is_empty() {
        (State::Ready, None)
    } else {
        let missing = missing.iter().map(ToString::to_string);
        let lines: Vec<String> = missing.chain(troubles.iter().cloned()).collect();
        (State::Degraded, Some(Arc::from(lines.join("\n"))))
    };
    Event { time: Timestamp::now(), body: Body::NodeState(NodeState { state, detail, generation }) }
}

/// The fences of a generation, by name.
pub(super) fn fence_refs(in_force: &InForce) -> Arc<[FenceRef]> {
    let fences = in_force.set.fences.iter();
    fences.map(|f| FenceRef { name: Arc::clone(&f.name), mode: mode(f.mode) }).collect()
}

fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &PathBuf| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.modified().ok()?, m.len()))
    };
    files.iter().map(stamp).collect()
}
