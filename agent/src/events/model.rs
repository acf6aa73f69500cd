//! The enriched event: what the hub numbers, the stream carries and the exports print.
//!
//! Plain domain types, free of proto and of kernel layouts. `enrich` builds them (stop 6), `hub` stamps
//! and keeps them, `grpc::convert` turns them into `ringfence.v1` messages and back, [`json`] fixes their
//! one-line JSON form. Texts and lists that many events share are `Arc`s: cloning an event's parts is
//! cheap, and a hundred thousand events of one fence hold its name once.

pub mod flow;
mod from_kernel;
pub mod json;
pub mod notice;
pub mod words;

use std::sync::Arc;

use jiff::Timestamp;

use self::flow::FlowEvent;
use self::notice::{Gap, Heartbeat, Lost, NodeState, PolicyChange, Tamper};
use self::words::Kind;

/// What happened, and when, before the hub gives it a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When it happened, by the node's wall clock.
    pub time: Timestamp,
    /// What happened.
    pub body: Body,
}

/// One kind of event with its facts; the members of the proto's `oneof`.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A flow that some fence blocks or would block.
    Violation(FlowEvent),
    /// Any other flow.
    Flow(FlowEvent),
    /// Events that never reached the stream.
    Lost(Lost),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// A policy was published or refused.
    PolicyChange(PolicyChange),
    /// The agent changed its state.
    NodeState(NodeState),
    /// For a time no agent was reading events.
    Gap(Gap),
    /// Somebody changed what the agent has attached.
    Tamper(Tamper),
}

impl Event {
    /// An event of a flow: a violation when some fence blocks or would block it.
    #[must_use]
    pub fn of_flow(time: Timestamp, flow: FlowEvent) -> Self {
        let body = if flow.is_violation() { Body::Violation(flow) } else { Body::Flow(flow) };
        Self { time, body }
    }

    /// Which kind of event this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.body {
            Body::Violation(_) => Kind::Violation,
            Body::Flow(_) => Kind::Flow,
            Body::Lost(_) => Kind::Lost,
            Body::Heartbeat(_) => Kind::Heartbeat,
            Body::PolicyChange(_) => Kind::PolicyChange,
            Body::NodeState(_) => Kind::NodeState,
            Body::Gap(_) => Kind::Gap,
            Body::Tamper(_) => Kind::Tamper,
        }
    }

    /// The flow, for the two kinds that are about one.
    #[must_use]
    pub const fn flow(&self) -> Option<&FlowEvent> {
        match &self.body {
            Body::Violation(flow) | Body::Flow(flow) => Some(flow),
            Body::Lost(_)
            | Body::Heartbeat(_)
            | Body::PolicyChange(_)
            | Body::NodeState(_)
            | Body::Gap(_)
            | Body::Tamper(_) => None,
        }
    }
}

/// An event in its place of a stream: what a subscriber gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Its number, from 1; see `Event.sequence` in the proto for what is made for one subscriber.
    pub sequence: u64,
    /// The event.
    pub event: Arc<Event>,
}

/// Who says it: the same for every event of one run of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Names this run of the agent.
    pub stream_id: Arc<str>,
    /// Name of the node.
    pub node: Arc<str>,
}
