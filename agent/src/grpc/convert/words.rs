//! The glossary's enums as proto enums. Every match is exhaustive: a word more breaks this compile.

use agent_proto::v1;

use crate::events::model::words::{
    Direction, Guard, Hook, Kind, LostReason, Mode, Phase, PolicyOutcome, Reason, Severity, State, Verdict,
};
use crate::grpc::backend::FindingLevel;

/// A word of the glossary with a number on the wire.
pub trait Word: Sized + Copy {
    /// The proto enum's name, for messages.
    const NAME: &'static str;

    /// Its number.
    fn to_wire(self) -> i32;

    /// The word of that number; `None` for `UNSPECIFIED` and for what a newer peer knows and we don't.
    fn from_wire(number: i32) -> Option<Self>;
}

macro_rules! word {
    ($name:ident as $wire:ident { $($variant:ident),+ $(,)? }) => {
        impl Word for $name {
            const NAME: &'static str = stringify!($wire);

            fn to_wire(self) -> i32 {
                let wire = match self { $(Self::$variant => v1::$wire::$variant),+ };
                wire.into()
            }

            fn from_wire(number: i32) -> Option<Self> {
                match v1::$wire::try_from(number).ok()? {
                    v1::$wire::Unspecified => None,
                    $(v1::$wire::$variant => Some(Self::$variant)),+
                }
            }
        }
    };
}

word!(Verdict as Verdict { Allow, Block });
word!(Mode as Mode { Audit, Enforce });
word!(Reason as Reason {
    NoFence, Loopback, Inbound, Exception, BlockRule, AllowRule, Dns, Metadata, Internal, Unknown, Default, Routed,
    Fault, Protocol, Stack, Spoofed,
});
word!(Direction as Direction { Outbound, Inbound });
word!(Guard as Guard { Tcx, Clsact, Shared, None });
word!(Hook as Hook { Connect4, Connect6, Sendmsg4, Sendmsg6, Egress, Release, SockCreate, Host });
word!(Phase as Phase { Open, Verdict, Repeat, Close });
word!(Severity as Severity { Low, Medium, High, Critical });
word!(Kind as EventKind { Violation, Flow, Lost, Heartbeat, PolicyChange, NodeState, Gap, Tamper });
word!(LostReason as LostReason { KernelRingFull, KernelStateFull, Decode, SubscriberSlow, Suppressed, AgentEnded });
word!(PolicyOutcome as PolicyOutcome { Published, Refused });
word!(State as State { Starting, Ready, Degraded, Stopping });
word!(FindingLevel as FindingLevel { Error, Warning });
