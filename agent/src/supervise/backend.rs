//! What the gRPC services ask, answered from what is in force.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_common::flow::Direction;
use agent_common::wire::Counter;
use jiff::Timestamp;

use super::KERNEL_STOPS;
use super::engine::fence_refs;
use crate::bpf::attach::{HOOKS, HookProgram};
use crate::bpf::birth::{Birth, tracepoints};
use crate::bpf::image::MappedIndex;
use crate::bpf::load::Loaded;
use crate::config::Config;
use crate::events::enrich::{mode, place};
use crate::events::model::flow::FenceOutcome;
use crate::events::model::words::{LostReason, Mode, Reason, State, Verdict};
use crate::events::reader::ReaderCounts;
use crate::flows::Problems;
use crate::grpc::backend::{
    AgentStatus, Backend, DataSet, Document, Explanation, FenceList, FenceSummary, Finding, FindingLevel,
    LookupAnswer, LostCount, ProgramStatus, Question, StopCounts, UnknownJurisdiction, Validation,
};
use crate::hostlayer::report::Report;
use crate::places::{COUNTRY_NOTICE, Found, Groups, Layer};
use crate::policy::explain::{self, explain};
use crate::policy::host_view::HostView;
use crate::policy::in_force::{History, InForce};
use crate::policy::lacks::{Lacks, Missing};
use crate::policy::schema::Subject;
use crate::policy::source::SourceFile;
use crate::policy::target::Target;
use crate::policy::{CgroupPath, Clock, Context, Level, check};
use crate::watchdog::{Alarms, LOOK};

/// The agent, as the services see it.
pub(super) struct AgentBackend {
    history: Arc<History>,
    lacks: Arc<Lacks>,
    counts: Arc<ReaderCounts>,
    programs: Vec<Loaded>,
    birth: Birth,
    host_layer: Arc<Report>,
    root: String,
    started: Timestamp,
    builtin_db: bool,
    errno: u32,
    flows: Option<Arc<Problems>>,
    alarms: Option<Arc<Alarms>>,
}

impl AgentBackend {
    pub(super) fn new(
        config: &Config,
        root: &Path,
        history: Arc<History>,
        lacks: Arc<Lacks>,
        counts: Arc<ReaderCounts>,
        programs: Vec<Loaded>,
        birth: Birth,
    ) -> Self {
        Self {
            history,
            lacks,
            counts,
            programs,
            birth,
            host_layer: Arc::default(),
            root: root.display().to_string(),
            started: Timestamp::now(),
            builtin_db: config.data.country_db.is_none(),
            errno: config.knobs.errno,
            flows: None,
            alarms: None,
        }
    }

    /// Says in its status what keeps flows from being ended.
    pub(super) fn ending_flows(mut self, problems: Option<Arc<Problems>>) -> Self {
        self.flows = problems;
        self
    }

    /// With what the host layer says of its interfaces.
    pub(super) fn guarding(mut self, host_layer: Arc<Report>) -> Self {
        self.host_layer = host_layer;
        self
    }

    /// With what the watchdog and its like have to say.
    pub(super) fn watched_by(mut self, alarms: Arc<Alarms>) -> Self {
        self.alarms = Some(alarms);
        self
    }

    fn now(&self) -> Option<Arc<InForce>> {
        self.history.now()
    }

    fn details(&self, missing: &[Missing], now: Option<&InForce>) -> Vec<String> {
        let missing = missing.iter().map(ToString::to_string);
        let warnings = now.into_iter().flat_map(|f| f.manifest.table.warnings.iter().cloned());
        let told = self.alarms.iter().flat_map(|alarms| alarms.problems().into_iter().chain(alarms.notes()));
        missing.chain(told).chain(warnings).chain(self.flows.iter().flat_map(|f| f.now())).collect()
    }

    fn stops(&self) -> Vec<StopCounts> {
        let kernel = |c: Counter| self.counts.kernel[c as usize].load(Ordering::Relaxed);
        let asked: u64 = KERNEL_STOPS.iter().map(|(all, _)| kernel(*all)).sum();
        let lost: u64 = KERNEL_STOPS.iter().map(|(_, lost)| kernel(*lost)).sum();
        let taken = self.counts.taken.load(Ordering::Relaxed);
        let undecodable = self.counts.undecodable.load(Ordering::Relaxed);
        let published = self.counts.published.load(Ordering::Relaxed);
        let lose = |reason, count| vec![LostCount { reason, count }];
        vec![
            StopCounts {
                stop: "ring".into(),
                events_in: asked,
                events_out: asked.saturating_sub(lost),
                lost: lose(LostReason::KernelRingFull, lost),
            },
            StopCounts {
                stop: "decode".into(),
                events_in: taken,
                events_out: taken.saturating_sub(undecodable),
                lost: lose(LostReason::Decode, undecodable),
            },
            StopCounts {
                stop: "enrich".into(),
                events_in: taken.saturating_sub(undecodable),
                events_out: published,
                lost: lose(LostReason::AgentEnded, self.counts.died.load(Ordering::Relaxed)),
            },
        ]
    }
}

impl Backend for AgentBackend {
    fn generation(&self) -> u64 {
        self.now().map_or(self.history.inherited(), |f| f.manifest.generation).into()
    }

    fn status(&self) -> AgentStatus {
        let now = self.now();
        let sources = now.iter().flat_map(|f| f.manifest.table.sources.iter().zip(f.ranges.iter()));
        let data_sets = sources
            .filter(|(s, _)| s.layer != Layer::None)
            .map(|(s, ranges)| DataSet {
                name: s.name.clone(),
                data_date: s.date,
                ranges: *ranges,
                notice: (self.builtin_db && s.name == "dbip-country-lite").then(|| COUNTRY_NOTICE.to_owned()),
            })
            .collect();
        let missing = now.as_ref().map(|f| self.lacks.missing(&f.set)).unwrap_or_default();
        let inherited = match self.history.inherited() {
            0 => None,
            generation => Some(format!(
                "generation {generation} of an earlier agent is in force, because the policy files are refused: mend \
                 them (`ringfence check`)"
            )),
        };
        let state = match (&now, missing.is_empty() && self.alarms.iter().all(|a| a.problems().is_empty())) {
            (None, _) if inherited.is_some() => State::Degraded,
            (None, _) => State::Starting,
            (Some(_), true) => State::Ready,
            (Some(_), false) => State::Degraded,
        };
        AgentStatus {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            state,
            details: self.details(&missing, now.as_deref()).into_iter().chain(inherited).collect(),
            started: self.started,
            cgroup_root: self.root.clone(),
            generation: self.generation(),
            fences: now.as_deref().map_or_else(|| Arc::new([]) as Arc<[_]>, fence_refs),
            programs: HOOKS
                .iter()
                .map(|h| self.program(*h))
                .chain(self.births())
                .chain(self.watchdog())
                .collect(),
            data_sets,
            stops: self.stops(),
            interfaces: self.host_layer.interfaces(),
        }
    }

    fn fences(&self) -> FenceList {
        let Some(now) = self.now() else { return FenceList { generation: 0, fences: Vec::new() } };
        let at = Timestamp::now();
        let live = |name: &Arc<str>| {
            let exceptions = now.set.exceptions.iter().filter(|e| e.fence == *name);
            exceptions.filter(|e| e.not_before.is_none_or(|t| t <= at) && at < e.expires_at).count()
        };
        let fences = now.set.fences.iter().map(|f| FenceSummary {
            name: f.name.to_string(),
            mode: mode(f.mode),
            subjects: f.subjects.iter().map(subject).collect(),
            rules: u32::try_from(f.allow.len() + f.block.len()).unwrap_or(u32::MAX),
            exceptions: u32::try_from(live(&f.name)).unwrap_or(u32::MAX),
            source: Some(f.origin.file.to_string()),
            require: f.require.iter().map(|r| r.word().to_owned()).collect(),
        });
        FenceList { generation: now.manifest.generation.into(), fences: fences.collect() }
    }

    fn validate(&self, documents: &[Document]) -> Validation {
        let files: Vec<SourceFile> = documents.iter().map(|d| SourceFile::new(&d.file, &d.text)).collect();
        let groups = match Groups::builtin() {
            Ok(groups) => groups,
            Err(error) => {
                let finding = Finding {
                    level: FindingLevel::Error,
                    file: String::new(),
                    line: 0,
                    column: 0,
                    message: format!("the built-in jurisdiction groups: {error}"),
                };
                return Validation { accepted: false, findings: vec![finding] };
            }
        };
        let checked = check(&files, Context { now: Timestamp::now(), groups: &groups, cgroups: None });
        let findings = checked.findings.iter().map(|f| Finding {
            level: match f.level {
                Level::Error => FindingLevel::Error,
                Level::Warning => FindingLevel::Warning,
            },
            file: f.file.to_string(),
            line: f.line,
            column: f.column,
            message: match &f.mend {
                Some(mend) => format!("{}: {mend}", f.message),
                None => f.message.clone(),
            },
        });
        Validation { accepted: checked.set.is_some(), findings: findings.collect() }
    }

    fn explain(&self, question: &Question) -> Explanation {
        let Some(now) = self.now() else { return nothing_in_force() };
        let cgroup = CgroupPath::parse(&question.cgroup).unwrap_or_else(|_| CgroupPath::root());
        let port = (question.remote.port() != 0).then_some(question.remote.port());
        let target = Target { address: question.remote.address(), port, protocol: question.protocol.0 };
        let asked = explain::Question { cgroup, target, direction: Direction::Outbound };
        let Some(index) = mapped(&now) else { return nothing_in_force() };
        let view =
            HostView { policy: &now.policy, index: &index, now: Clock::read().boot_ns(Timestamp::now()) };
        let answer = explain(&view, &now.manifest, &asked);
        let outcomes: Vec<FenceOutcome> = answer
            .matched
            .iter()
            .map(|f| FenceOutcome {
                fence: Arc::from(f.fence.as_str()),
                mode: if f.mode == Mode::Enforce.as_str() { Mode::Enforce } else { Mode::Audit },
                verdict: verdict(f.verdict),
                rule: f.rule.as_deref().map(Arc::from),
                reason: reason(f.reason),
            })
            .collect();
        Explanation {
            verdict: verdict(answer.verdict),
            would_be: verdict(answer.would_be),
            reason: reason(answer.reason),
            fence: answer.fence,
            rule: answer.rule,
            outcomes: outcomes.into(),
            place: self.lookup(target.address).place,
            generation: now.manifest.generation.into(),
        }
    }

    fn lookup(&self, address: IpAddr) -> LookupAnswer {
        let nothing = || LookupAnswer { address, place: Arc::default() };
        let Some(now) = self.now() else { return nothing() };
        let Some(index) = mapped(&now) else { return nothing() };
        let id = Found::in_index(&index, address).ids().next().unwrap_or(0);
        LookupAnswer { address, place: Arc::new(place(&now.manifest, id)) }
    }

    fn check_jurisdiction(&self, code: &str) -> Result<(), UnknownJurisdiction> {
        let Some(now) = self.now() else { return Err(UnknownJurisdiction { suggestion: None }) };
        match now.set.groups.resolve(code) {
            Some(_) => Ok(()),
            None => Err(UnknownJurisdiction { suggestion: now.set.groups.suggest(code) }),
        }
    }
}

impl AgentBackend {
    fn program(&self, hook: HookProgram) -> ProgramStatus {
        let name = hook.hook.to_owned();
        if !hook.needed(self.errno) {
            let detail = "not needed: with EPERM the drop at egress is the answer".to_owned();
            return ProgramStatus { name, attached: false, detail: Some(detail) };
        }
        let loaded = self.programs.iter().find(|p| p.name == hook.program);
        let detail = loaded.and_then(|p| p.instructions).map(|n| format!("{n} instructions verified"));
        ProgramStatus { name, attached: loaded.is_some(), detail }
    }
}

impl AgentBackend {
    /// Who sees to it that programs stay attached.
    fn watchdog(&self) -> Option<ProgramStatus> {
        let detail = format!("looks every {} s; {}", LOOK.as_secs(), self.alarms.as_ref()?.summary());
        Some(ProgramStatus { name: "watchdog".to_owned(), attached: true, detail: Some(detail) })
    }

    /// The programs that know cgroups at birth.
    fn births(&self) -> impl Iterator<Item = ProgramStatus> + '_ {
        tracepoints().map(|(name, program)| {
            let loaded = self.programs.iter().find(|p| p.name == program);
            let verified = loaded.and_then(|p| p.instructions).map(|n| format!("{n} instructions verified"));
            let detail = match &self.birth {
                Birth::Kernel => verified,
                Birth::Watch { .. } | Birth::Off => Some(self.birth.to_string()),
            };
            ProgramStatus { name: name.to_owned(), attached: loaded.is_some(), detail }
        })
    }
}

/// The index in force, to ask.
fn mapped(now: &InForce) -> Option<MappedIndex> {
    now.index.map().inspect_err(|error| tracing::error!(%error, "the place index can't be mapped")).ok()
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::All => "all".to_owned(),
        Subject::Cgroups(paths) => {
            paths.iter().map(|p| p.value.as_str().to_owned()).collect::<Vec<_>>().join(", ")
        }
        Subject::Pods(_) => "pods".to_owned(),
    }
}

fn nothing_in_force() -> Explanation {
    Explanation {
        verdict: Verdict::Allow,
        would_be: Verdict::Allow,
        reason: Reason::NoFence,
        fence: None,
        rule: None,
        outcomes: Arc::new([]),
        place: Arc::default(),
        generation: 0,
    }
}

fn verdict(word: &str) -> Verdict {
    if word == Verdict::Block.as_str() { Verdict::Block } else { Verdict::Allow }
}

fn reason(word: &str) -> Reason {
    Reason::ALL.iter().copied().find(|r| r.as_str() == word).unwrap_or(Reason::Fault)
}
