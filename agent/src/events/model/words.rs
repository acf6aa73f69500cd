//! The glossary as enums. Their JSON form is the variant's name; the names are those of the proto.

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares an enum of the glossary: each variant with the word that JSON and people see.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the proto.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it, in JSON and for people.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// Kind of event.
    Kind {
        /// A flow that some fence blocks or would block.
        Violation = "violation",
        /// Any other flow.
        Flow = "flow",
        /// Events that never reached the stream.
        Lost = "lost",
        /// A sign of life.
        Heartbeat = "heartbeat",
        /// A policy was published or refused.
        PolicyChange = "policy_change",
        /// The agent changed its state.
        NodeState = "node_state",
        /// For a time no agent was reading events.
        Gap = "gap",
        /// Somebody changed what the agent has attached.
        Tamper = "tamper",
    }
}

words! {
    /// How an interface is guarded.
    Guard {
        /// By a tcx link.
        Tcx = "tcx",
        /// By a filter of the clsact qdisc.
        Clsact = "clsact",
        /// Not: others live in the workload's network namespace.
        Shared = "shared",
        /// Not, for another reason.
        None = "none",
    }
}

words! {
    /// What happens, or would happen, to the bytes of a flow.
    Verdict {
        /// The bytes pass.
        Allow = "Allow",
        /// The bytes do not leave the host.
        Block = "Block",
    }
}

words! {
    /// Whether a fence acts on its verdict.
    Mode {
        /// The verdict is recorded; the bytes pass.
        Audit = "Audit",
        /// The verdict decides what happens to the bytes.
        Enforce = "Enforce",
    }
}

words! {
    /// Why a verdict is what it is: the step of the evaluation that gave it.
    Reason {
        /// No fence matches the workload: it is observed, not judged.
        NoFence = "NoFence",
        /// The destination is this host itself.
        Loopback = "Loopback",
        /// An accepted socket answers, and the fence says `inbound: Allow`.
        Inbound = "Inbound",
        /// A live exception of the fence matches.
        Exception = "Exception",
        /// A `block` rule matches.
        BlockRule = "BlockRule",
        /// An `allow` rule matches.
        AllowRule = "AllowRule",
        /// DNS to a trusted resolver.
        Dns = "Dns",
        /// A cloud metadata service, which only a rule can open.
        Metadata = "Metadata",
        /// CLUSTER, PRIVATE or LINK-LOCAL: the fence's `internal`.
        Internal = "Internal",
        /// UNKNOWN, ANYCAST, MULTICAST or RESERVED: the fence's `unknown`.
        Unknown = "Unknown",
        /// Any other place: the fence's `default`.
        Default = "Default",
        /// The packet names its own route.
        Routed = "Routed",
        /// Something could not be read or found.
        Fault = "Fault",
        /// A protocol that the fence does not open.
        Protocol = "Protocol",
        /// What a network stack needs to live, in its narrow form.
        Stack = "Stack",
        /// Host layer: the source is not the workload's.
        Spoofed = "Spoofed",
    }
}

words! {
    /// Who opened the exchange.
    Direction {
        /// The workload did.
        Outbound = "Outbound",
        /// The other side did: what an accepted socket sends back.
        Inbound = "Inbound",
    }
}

words! {
    /// Where in the kernel a verdict was given.
    Hook {
        /// cgroup/connect4.
        Connect4 = "Connect4",
        /// cgroup/connect6.
        Connect6 = "Connect6",
        /// cgroup/sendmsg4.
        Sendmsg4 = "Sendmsg4",
        /// cgroup/sendmsg6.
        Sendmsg6 = "Sendmsg6",
        /// cgroup_skb/egress.
        Egress = "Egress",
        /// cgroup/sock_release.
        Release = "Release",
        /// cgroup/sock_create.
        SockCreate = "SockCreate",
        /// The host side of the workload's interface.
        Host = "Host",
    }
}

words! {
    /// Where in its life a flow is.
    Phase {
        /// Its first packet or call.
        Open = "Open",
        /// The verdict changed: a new policy, or an exception began or ended.
        Verdict = "Verdict",
        /// The same violation again, at most once a second.
        Repeat = "Repeat",
        /// It ended; its counters are final.
        Close = "Close",
    }
}

words! {
    /// How bad a violation of a rule is.
    Severity {
        /// Worth knowing.
        Low = "Low",
        /// Worth looking at.
        Medium = "Medium",
        /// Worth acting on.
        High = "High",
        /// Worth waking somebody.
        Critical = "Critical",
    }
}

words! {
    /// Why events are missing.
    LostReason {
        /// A kernel ring buffer was full.
        KernelRingFull = "KernelRingFull",
        /// A kernel table of flows was full.
        KernelStateFull = "KernelStateFull",
        /// A record from the kernel did not decode.
        Decode = "Decode",
        /// This subscriber was too slow.
        SubscriberSlow = "SubscriberSlow",
        /// Repeats beyond a workload's cap.
        Suppressed = "Suppressed",
        /// An agent ended with them in hand, or left them in a layout that its successor can't read.
        AgentEnded = "AgentEnded",
    }
}

words! {
    /// What became of a policy.
    PolicyOutcome {
        /// It is in force.
        Published = "Published",
        /// It was refused as a whole.
        Refused = "Refused",
    }
}

words! {
    /// What the agent as a whole is doing.
    State {
        /// Loading; not in force yet.
        Starting = "Starting",
        /// In force.
        Ready = "Ready",
        /// In force without a layer that a fence needs.
        Degraded = "Degraded",
        /// Detaching.
        Stopping = "Stopping",
    }
}
