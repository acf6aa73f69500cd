//! Answers of the backend as messages.

use agent_proto::v1;

use super::event_out::{fences, outcomes, place, timestamp};
use super::words::Word;
use crate::events::hub::Hub;
use crate::events::model::words::LostReason;
use crate::grpc::backend::{
    AgentStatus, DataSet, Explanation, FenceList, FenceSummary, Finding, LookupAnswer, LostCount,
    ProgramStatus, StopCounts, Validation,
};
use crate::hostlayer::report::Interface;

/// What the agent is doing, with what the hub knows.
pub(crate) fn status(status: AgentStatus, hub: &Hub) -> v1::StatusResponse {
    let stops = status.stops.into_iter().chain(hub_stops(hub));
    v1::StatusResponse {
        node: hub.origin().node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: status.kernel,
        state: status.state.to_wire(),
        details: status.details,
        started: Some(timestamp(status.started)),
        cgroup_root: status.cgroup_root,
        generation: status.generation,
        fences: fences(&status.fences),
        programs: status.programs.into_iter().map(program).collect(),
        data_sets: status.data_sets.into_iter().map(data_set).collect(),
        stops: stops.map(stop).collect(),
        stream_id: hub.origin().stream_id.to_string(),
        head_sequence: hub.head(),
        subscribers: u32::try_from(hub.counts().subscribers).unwrap_or(u32::MAX),
        interfaces: status.interfaces.into_iter().map(interface).collect(),
    }
}

/// Stops 7 and 8. The stream's figures are sums over all subscribers that there ever were.
fn hub_stops(hub: &Hub) -> [StopCounts; 2] {
    let counts = hub.counts();
    let slow = LostCount { reason: LostReason::SubscriberSlow, count: counts.lost_slow };
    [
        StopCounts {
            stop: "hub".to_owned(),
            events_in: counts.published,
            events_out: counts.published,
            lost: Vec::new(),
        },
        StopCounts {
            stop: "stream".to_owned(),
            events_in: counts.delivered + counts.filtered + counts.lost_slow,
            events_out: counts.delivered + counts.filtered,
            lost: vec![slow],
        },
    ]
}

fn program(program: ProgramStatus) -> v1::ProgramStatus {
    v1::ProgramStatus { name: program.name, attached: program.attached, detail: program.detail }
}

fn interface(interface: Interface) -> v1::InterfaceStatus {
    v1::InterfaceStatus {
        workload: interface.workload,
        name: interface.name,
        index: interface.index,
        guard: interface.guard.to_wire(),
        detail: interface.detail,
        blocked: interface.blocked,
        would_block: interface.would_block,
    }
}

fn data_set(set: DataSet) -> v1::DataSet {
    v1::DataSet {
        name: set.name,
        data_date: set.data_date.map(|date| date.to_string()),
        ranges: set.ranges,
        notice: set.notice,
    }
}

fn stop(stop: StopCounts) -> v1::StopCounters {
    let lost = stop.lost.into_iter();
    v1::StopCounters {
        stop: stop.stop,
        events_in: stop.events_in,
        events_out: stop.events_out,
        lost: lost.map(|lost| v1::LostCount { reason: lost.reason.to_wire(), count: lost.count }).collect(),
    }
}

/// The policy in force.
pub(crate) fn fence_list(list: FenceList) -> v1::ListFencesResponse {
    let fences = list.fences.into_iter().map(fence_summary).collect();
    v1::ListFencesResponse { generation: list.generation, fences }
}

fn fence_summary(fence: FenceSummary) -> v1::FenceSummary {
    v1::FenceSummary {
        name: fence.name,
        mode: fence.mode.to_wire(),
        subjects: fence.subjects,
        rules: fence.rules,
        exceptions: fence.exceptions,
        source: fence.source,
        require: fence.require,
    }
}

/// What a check found.
pub(crate) fn validation(validation: Validation) -> v1::ValidateResponse {
    let finding = |finding: Finding| v1::Finding {
        level: finding.level.to_wire(),
        file: finding.file,
        line: finding.line,
        column: finding.column,
        message: finding.message,
    };
    v1::ValidateResponse {
        accepted: validation.accepted,
        findings: validation.findings.into_iter().map(finding).collect(),
    }
}

/// A verdict and why.
pub(crate) fn explanation(of: Explanation) -> v1::ExplainResponse {
    v1::ExplainResponse {
        verdict: of.verdict.to_wire(),
        would_be: of.would_be.to_wire(),
        reason: of.reason.to_wire(),
        fence: of.fence,
        rule: of.rule,
        outcomes: outcomes(&of.outcomes),
        place: Some(place(&of.place)),
        generation: of.generation,
    }
}

/// What is known of an address.
pub(crate) fn lookup(answer: &LookupAnswer) -> v1::LookupResponse {
    v1::LookupResponse { address: answer.address.to_string(), place: Some(place(&answer.place)) }
}
