//! For tests: a real server on a real unix socket in a directory of its own, over a backend that knows
//! one fence and one place.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::backend::{
    AgentStatus, Backend, DataSet, Document, Explanation, FenceList, FenceSummary, Finding, FindingLevel,
    LookupAnswer, ProgramStatus, Question, StopCounts, UnknownJurisdiction, Validation,
};
use super::server::{ServeError, serve};
use super::socket::AgentSocket;
use crate::events::fixtures::{time, violation};
use crate::events::hub::{Hub, HubCounts};
use crate::events::model::notice::FenceRef;
use crate::events::model::words::{Guard, Mode, Reason, State, Verdict};
use crate::hostlayer::report::Interface;

/// Longer than any step of a test takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Answers with fixed facts.
pub(crate) struct FakeBackend {
    pub(crate) state: Mutex<State>,
    /// How often its status was asked for.
    pub(crate) asked: AtomicUsize,
}

impl FakeBackend {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State::Ready), asked: AtomicUsize::new(0) }
    }
}

impl Backend for FakeBackend {
    fn generation(&self) -> u64 {
        3
    }

    fn status(&self) -> AgentStatus {
        self.asked.fetch_add(1, Ordering::Relaxed);
        AgentStatus {
            kernel: "6.18.0".to_owned(),
            state: *self.state.lock().expect("not poisoned"),
            details: vec!["country data is 130 days old: renew it".to_owned()],
            started: time(),
            cgroup_root: "/sys/fs/cgroup/test".to_owned(),
            generation: 3,
            fences: Arc::new([FenceRef { name: "crm-stays-in-the-eea".into(), mode: Mode::Enforce }]),
            programs: vec![ProgramStatus { name: "connect4".to_owned(), attached: true, detail: None }],
            data_sets: vec![DataSet {
                name: "DB-IP Country Lite".to_owned(),
                data_date: Some("2026-11-01".parse().expect("a date")),
                ranges: 600_000,
                notice: Some("IP Geolocation by DB-IP".to_owned()),
            }],
            stops: vec![StopCounts {
                stop: "ring".to_owned(),
                events_in: 5,
                events_out: 5,
                lost: Vec::new(),
            }],
            interfaces: vec![
                Interface {
                    workload: "/crm".to_owned(),
                    name: Some("veth1a2b".to_owned()),
                    index: Some(7),
                    guard: Guard::Tcx,
                    detail: None,
                    blocked: 12,
                    would_block: 0,
                },
                Interface {
                    workload: "/llm".to_owned(),
                    name: None,
                    index: None,
                    guard: Guard::None,
                    detail: Some("no own interface: it uses the host's network".to_owned()),
                    blocked: 0,
                    would_block: 0,
                },
            ],
        }
    }

    fn fences(&self) -> FenceList {
        let fence = FenceSummary {
            name: "crm-stays-in-the-eea".to_owned(),
            mode: Mode::Enforce,
            subjects: vec!["cgroup /crm".to_owned()],
            rules: 2,
            exceptions: 0,
            source: Some("crm.yaml".to_owned()),
            require: vec!["hostLayer".to_owned()],
        };
        FenceList { generation: 3, fences: vec![fence] }
    }

    fn validate(&self, documents: &[Document]) -> Validation {
        assert!(documents.iter().all(|document| document.text != "panic"), "asked to panic");
        let findings = documents.iter().map(|document| Finding {
            level: FindingLevel::Error,
            file: document.file.clone(),
            line: 2,
            column: 7,
            message: "no such kind".to_owned(),
        });
        Validation { accepted: false, findings: findings.collect() }
    }

    fn explain(&self, question: &Question) -> Explanation {
        Explanation {
            verdict: Verdict::Block,
            would_be: Verdict::Block,
            reason: Reason::Default,
            fence: Some(format!("{} {} {}", question.cgroup, question.remote, question.protocol)),
            rule: None,
            outcomes: violation().outcomes,
            place: violation().place,
            generation: 3,
        }
    }

    fn lookup(&self, address: IpAddr) -> LookupAnswer {
        LookupAnswer { address: address.to_canonical(), place: violation().place }
    }

    fn check_jurisdiction(&self, code: &str) -> Result<(), UnknownJurisdiction> {
        match code {
            "US" | "DE" | "EEA" | "GDPR-ADEQUATE-PARTIAL" => Ok(()),
            "UK" => Err(UnknownJurisdiction { suggestion: Some("GB".to_owned()) }),
            _ => Err(UnknownJurisdiction { suggestion: None }),
        }
    }
}

/// A running server; ends when dropped, or in order by [`FakeAgent::stop`].
pub(crate) struct FakeAgent {
    dir: TempDir,
    pub(crate) hub: Arc<Hub>,
    pub(crate) backend: Arc<FakeBackend>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl FakeAgent {
    pub(crate) fn start() -> Self {
        Self::with_ring(64)
    }

    pub(crate) fn with_ring(events: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let hub = Hub::new("node-1", events.try_into().expect("not zero")).expect("a hub");
        let backend = Arc::new(FakeBackend::new());
        let socket = AgentSocket::bind(&dir.path().join("agent.sock")).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let served = tokio::spawn(serve(socket, Arc::clone(&hub), Arc::clone(&backend) as _, shutdown));
        Self { dir, hub, backend, stop, served }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Ends the server in order; the directory outlives it, so that a test can look at what is left.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.send(()).expect("the server is running");
        let served = tokio::time::timeout(DEADLINE, self.served).await.expect("ends in time");
        served.expect("no panic").expect("ends well");
        self.dir
    }

    /// Waits until the hub's counts are as `wanted` says.
    pub(crate) async fn counts_become(&self, wanted: impl Fn(HubCounts) -> bool) {
        let wait = async {
            while !wanted(self.hub.counts()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .unwrap_or_else(|_| panic!("still {:?}", self.hub.counts()));
    }
}

/// Nobody listens there.
pub(crate) fn nowhere(dir: &Path) -> PathBuf {
    dir.join("nobody.sock")
}
