//! An agent that answers nothing: the services want one behind the stream that is measured.

use std::net::IpAddr;
use std::sync::Arc;

use agent::events::model::words::{Reason, State, Verdict};
use agent::grpc::backend::{
    AgentStatus, Backend, Document, Explanation, FenceList, LookupAnswer, Question, UnknownJurisdiction,
    Validation,
};
use jiff::Timestamp;

/// Knows no policy and no place.
pub(crate) struct Nothing;

impl Backend for Nothing {
    fn generation(&self) -> u64 {
        0
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            kernel: String::new(),
            state: State::Ready,
            details: Vec::new(),
            started: Timestamp::UNIX_EPOCH,
            cgroup_root: String::new(),
            generation: 0,
            fences: Arc::new([]),
            programs: Vec::new(),
            data_sets: Vec::new(),
            stops: Vec::new(),
            interfaces: Vec::new(),
        }
    }

    fn fences(&self) -> FenceList {
        FenceList { generation: 0, fences: Vec::new() }
    }

    fn validate(&self, _: &[Document]) -> Validation {
        Validation { accepted: true, findings: Vec::new() }
    }

    fn explain(&self, _: &Question) -> Explanation {
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

    fn lookup(&self, address: IpAddr) -> LookupAnswer {
        LookupAnswer { address, place: Arc::default() }
    }

    fn check_jurisdiction(&self, _: &str) -> Result<(), UnknownJurisdiction> {
        Ok(())
    }
}
