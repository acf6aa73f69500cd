//! Events that are not about a flow: what the agent has to say about itself.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::words::{Kind, LostReason, Mode, PolicyOutcome, State};

/// Events that a stream does not hold, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub reason: LostReason,
    /// How many, before any filter.
    pub count: u64,
    /// First and last missing sequence number, where they had one.
    pub range: Option<(u64, u64)>,
    /// When the first was lost, where known.
    pub first_time: Option<Timestamp>,
    /// When the last was lost, where known.
    pub last_time: Option<Timestamp>,
    /// Kind of the lost events; `None` where they are mixed or unknown.
    pub kind: Option<Kind>,
}

/// A sign of life, made for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The last sequence number given out.
    pub head_sequence: u64,
    /// The policy image in force; 0 = none.
    pub generation: u64,
    /// Events delivered to this subscriber.
    pub delivered: u64,
    /// Events that this subscriber missed.
    pub lost: u64,
}

/// A policy was published or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// What became of it.
    pub outcome: PolicyOutcome,
    /// The image in force after this event; 0 = none.
    pub generation: u64,
    /// The fences in force after this event.
    pub fences: Arc<[FenceRef]>,
    /// For people: what changed, or why it was refused.
    pub detail: Option<Arc<str>>,
}

/// A fence by name, and whether it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FenceRef {
    /// Name of the fence.
    pub name: Arc<str>,
    /// Its mode.
    pub mode: Mode,
}

/// For a time no agent was reading what the kernel programs wrote; the fences stayed in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When the earlier agent last looked.
    pub begin: Timestamp,
    /// When this agent first looked.
    pub end: Timestamp,
    /// Events that were waiting in the kernel; they follow.
    pub delivered: u64,
    /// Events that did not wait; they follow as [`Lost`], by reason.
    pub lost: u64,
    /// Where the earlier agent's stream ended; `None` if that is not known.
    pub earlier: Option<StreamEnd>,
}

/// The end of a stream, for who read it: what lies between the last event that it got and this number died with the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// The stream.
    pub stream_id: Arc<str>,
    /// The last number that was given out in it.
    pub sequence: u64,
}

/// Somebody changed what the agent has attached or pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tamper {
    /// What: a hook, a pin, a map.
    pub what: Arc<str>,
    /// For people: how it was found and how it should be.
    pub detail: Arc<str>,
    /// It is again as it should be.
    pub repaired: bool,
}

/// The agent changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The new state.
    pub state: State,
    /// For people: why.
    pub detail: Option<Arc<str>>,
    /// The policy image in force; 0 = none.
    pub generation: u64,
}
