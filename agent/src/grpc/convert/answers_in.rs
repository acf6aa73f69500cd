//! Messages as answers: what a client does with them.

use std::sync::Arc;

use agent_proto::v1;
use serde::Serialize;

use super::event_in::{ReadError, fences, outcome, place, timestamp, word};
use crate::grpc::backend::{AgentStatus, DataSet, Explanation, LostCount, ProgramStatus, StopCounts};
use crate::hostlayer::report::Interface;

/// What the agent is doing, as `NodeService.Status` tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// What the backend said; with the hub's stops.
    #[serde(flatten)]
    pub agent: AgentStatus,
    /// Names this run of the agent.
    pub stream_id: String,
    /// The last sequence number given out.
    pub head_sequence: u64,
    /// Subscribers connected now.
    pub subscribers: u32,
}

/// Reads the answer of `PolicyService.Explain`.
///
/// # Errors
/// Names the first field that is missing or not understood.
pub fn explanation(answer: v1::ExplainResponse) -> Result<Explanation, ReadError> {
    Ok(Explanation {
        verdict: word("verdict", answer.verdict)?,
        would_be: word("would_be", answer.would_be)?,
        reason: word("reason", answer.reason)?,
        fence: answer.fence,
        rule: answer.rule,
        outcomes: answer.outcomes.into_iter().map(outcome).collect::<Result<_, _>>()?,
        place: Arc::new(place(answer.place.ok_or_else(|| ReadError::missing("place"))?)?),
        generation: answer.generation,
    })
}

/// Reads the answer of `NodeService.Status`.
///
/// # Errors
/// Names the first field that is missing or not understood.
pub fn status(status: v1::StatusResponse) -> Result<StatusReport, ReadError> {
    let agent = AgentStatus {
        kernel: status.kernel,
        state: word("state", status.state)?,
        details: status.details,
        started: timestamp("started", status.started)?.ok_or_else(|| ReadError::missing("started"))?,
        cgroup_root: status.cgroup_root,
        generation: status.generation,
        fences: fences(status.fences)?,
        programs: status.programs.into_iter().map(program).collect(),
        data_sets: status.data_sets.into_iter().map(data_set).collect::<Result<_, _>>()?,
        stops: status.stops.into_iter().map(stop).collect::<Result<_, _>>()?,
        interfaces: status.interfaces.into_iter().map(interface).collect::<Result<_, _>>()?,
    };
    Ok(StatusReport {
        node: status.node,
        version: status.version,
        agent,
        stream_id: status.stream_id,
        head_sequence: status.head_sequence,
        subscribers: status.subscribers,
    })
}

fn program(program: v1::ProgramStatus) -> ProgramStatus {
    ProgramStatus { name: program.name, attached: program.attached, detail: program.detail }
}

fn interface(interface: v1::InterfaceStatus) -> Result<Interface, ReadError> {
    Ok(Interface {
        workload: interface.workload,
        name: interface.name,
        index: interface.index,
        guard: word("interfaces.guard", interface.guard)?,
        detail: interface.detail,
        blocked: interface.blocked,
        would_block: interface.would_block,
    })
}

fn data_set(set: v1::DataSet) -> Result<DataSet, ReadError> {
    let date = |text: String| text.parse().map_err(|_error| ReadError::new("data_date", text));
    let data_date = set.data_date.map(date).transpose()?;
    Ok(DataSet { name: set.name, data_date, ranges: set.ranges, notice: set.notice })
}

fn stop(stop: v1::StopCounters) -> Result<StopCounts, ReadError> {
    let lost = |lost: v1::LostCount| {
        Ok(LostCount { reason: word("stops.lost.reason", lost.reason)?, count: lost.count })
    };
    Ok(StopCounts {
        stop: stop.stop,
        events_in: stop.events_in,
        events_out: stop.events_out,
        lost: stop.lost.into_iter().map(lost).collect::<Result<_, _>>()?,
    })
}
