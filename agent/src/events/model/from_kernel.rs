//! The kernel's words as the event's words. No `_` arm: a word more in the kernel breaks this compile.

use agent_common::flow;
use agent_common::{verdict, wire};

use super::words::{Direction, Hook, Phase, Reason, Verdict};

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
            verdict::Reason::Protocol => Self::Protocol,
            verdict::Reason::Stack => Self::Stack,
            verdict::Reason::Spoofed => Self::Spoofed,
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

impl From<wire::Phase> for Phase {
    fn from(phase: wire::Phase) -> Self {
        match phase {
            wire::Phase::Open => Self::Open,
            wire::Phase::Verdict => Self::Verdict,
            wire::Phase::Repeat => Self::Repeat,
            wire::Phase::Close => Self::Close,
        }
    }
}

impl From<wire::Hook> for Hook {
    fn from(hook: wire::Hook) -> Self {
        match hook {
            wire::Hook::Connect4 => Self::Connect4,
            wire::Hook::Connect6 => Self::Connect6,
            wire::Hook::Sendmsg4 => Self::Sendmsg4,
            wire::Hook::Sendmsg6 => Self::Sendmsg6,
            wire::Hook::Egress => Self::Egress,
            wire::Hook::Release => Self::Release,
            wire::Hook::SockCreate => Self::SockCreate,
            wire::Hook::Host => Self::Host,
        }
    }
}
