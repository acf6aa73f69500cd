//! The kernel's words as the event's words. No `_` arm: a word more in the kernel breaks this compile.

use agent_common::flow;
use agent_common::verdict;

use super::words::{Direction, Reason, Verdict};

impl From<verdict::Verdict> for Verdict {
    fn from(verdict: verdict::Verdict) -> Self {
        match verdict {
            verdict::Verdict::Allow => Self::Allow,
            verdict::Verdict::Block => Self::Block,
        }
    }
}

impl From<verdict::Reason> for Reason {
    fn from(reason: verdict::Reason) -> Self {
        match reason {
            verdict::Reason::NoFence => Self::NoFence,
            verdict::Reason::Loopback => Self::Loopback,
            verdict::Reason::Inbound => Self::Inbound,
            verdict::Reason::Exception => Self::Exception,
            verdict::Reason::BlockRule => Self::BlockRule,
            verdict::Reason::AllowRule => Self::AllowRule,
            verdict::Reason::Dns => Self::Dns,
            verdict::Reason::Metadata => Self::Metadata,
            verdict::Reason::Internal => Self::Internal,
            verdict::Reason::Unknown => Self::Unknown,
            verdict::Reason::Default => Self::Default,
            verdict::Reason::Routed => Self::Routed,
            verdict::Reason::Fault => Self::Fault,
        }
    }
}

impl From<flow::Direction> for Direction {
    fn from(direction: flow::Direction) -> Self {
        match direction {
            flow::Direction::Outbound => Self::Outbound,
            flow::Direction::Inbound => Self::Inbound,
        }
    }
}
