//! Is this socket's flow blocked? Asked of the image in force with the kernel's own `decide`: what is ended here is what
//! egress would stop, and nothing else.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use agent_common::flow::{Direction, Flow, protocol};
use agent_common::sock::{SockState, position, sock_flags};
use agent_common::verdict::{Decision, Verdict, decide};

use super::diag::Socket;
use crate::bpf::image::MappedIndex;
use crate::identity::cgroups::CgroupFs;
use crate::policy::CgroupPath;
use crate::policy::host_view::HostView;
use crate::policy::in_force::InForce;
use crate::policy::schema::Mode;

/// A socket whose flow is blocked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// What was asked.
    pub(super) flow: Flow,
    /// What the image said.
    pub(super) decision: Decision,
    /// Workload id.
    pub(super) workload: u32,
    /// Its set of fences.
    pub(super) set: u32,
}

/// What is known of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finding {
    /// No fence is around its cgroup.
    Unfenced,
    /// Its cgroup has no name that the agent knows: left to egress.
    Unknown,
    /// It stays.
    Allowed,
    /// It is blocked.
    Blocked(Blocked),
    /// It is blocked unless it came out of accept, which nobody can tell.
    BlockedIfOutbound(Blocked),
}

/// One image and moment, to ask about many sockets.
pub(super) struct Judge<'a> {
    in_force: &'a InForce,
    cgroups: &'a CgroupFs,
    index: MappedIndex,
    now: u64,
    /// Workload and set by cgroup id.
    known: HashMap<u64, Option<(u32, u32)>>,
}

impl<'a> Judge<'a> {
    /// `now` is in boot-time nanoseconds.
    pub(super) fn new(in_force: &'a InForce, cgroups: &'a CgroupFs, now: u64) -> io::Result<Self> {
        Ok(Self { index: in_force.index.map()?, in_force, cgroups, now, known: HashMap::new() })
    }

    /// The cgroup directories of workloads that some fence could block.
    pub(super) fn directories(in_force: &InForce, cgroups: &CgroupFs) -> Vec<PathBuf> {
        let manifest = &in_force.manifest;
        let enforces =
            |at: &u16| manifest.fences.get(usize::from(*at)).is_some_and(|f| f.mode == Mode::Enforce);
        let fenced = manifest
            .workloads
            .iter()
            .filter(|w| manifest.sets.get(w.set as usize).is_some_and(|set| set.iter().any(enforces)));
        fenced.map(|w| cgroups.directory(&w.path)).collect()
    }

    fn workload(&mut self, cgroup: u64) -> Option<Option<(u32, u32)>> {
        if let Some(known) = self.known.get(&cgroup) {
            return Some(*known);
        }
        let path = CgroupPath::parse(&self.cgroups.path_of(cgroup)?).ok()?;
        let workload = self.in_force.manifest.workload_of(&path).map(|w| (w.id, w.set));
        self.known.insert(cgroup, workload);
        Some(workload)
    }

    /// Judges one socket. The cgroup is the one that the socket was made in, whoever holds it now: as at egress.
    pub(super) fn judge(&mut self, socket: &Socket) -> Finding {
        // A connection that is not accepted yet: its answers are judged as the listener's.
        let Some(cgroup) = socket.cgroup else { return Finding::Unfenced };
        let Some(workload) = self.workload(cgroup) else { return Finding::Unknown };
        let Some((workload, set)) = workload else { return Finding::Unfenced };
        let view = HostView { policy: &self.in_force.policy, index: &self.index, now: self.now };
        let ask = |direction| {
            let (remote, port) = socket.remote;
            let flow = Flow { remote, port, protocol: socket.kind.protocol, direction, flags: 0 };
            let decision = decide(&view, set, &flow);
            (decision.enforced == Verdict::Block).then_some(Blocked { flow, decision, workload, set })
        };
        let of = |blocked: Option<Blocked>| blocked.map_or(Finding::Allowed, Finding::Blocked);
        match direction(socket) {
            Some(direction) => of(ask(direction)),
            None => match (ask(Direction::Outbound), ask(Direction::Inbound)) {
                (Some(outbound), None) => Finding::BlockedIfOutbound(outbound),
                (outbound, _) => of(outbound),
            },
        }
    }
}

/// Who opened the exchange, as egress takes it: by what the kernel programs remember. `None` for a TCP socket that is
/// older than the agent, or that they have never seen.
fn direction(socket: &Socket) -> Option<Direction> {
    if socket.kind.protocol != protocol::TCP {
        return Some(Direction::Outbound);
    }
    let state = socket.state.as_deref()?;
    // A copy of the listener's: the connection itself has not sent anything yet.
    if state.cookie != socket.cookie || state.flags & sock_flags::ACCEPTED != 0 {
        return Some(Direction::Inbound);
    }
    (state.flags & sock_flags::CONNECTED != 0).then_some(Direction::Outbound)
}

/// Whether the kernel has already told that this flow is blocked: its record is in the stream.
pub(super) fn is_told(state: &SockState, cookie: u64, flow: &Flow) -> bool {
    let slot = &state.slots[position(flow)];
    let same = slot.opened != 0
        && slot.remote == flow.remote
        && slot.port == flow.port
        && slot.protocol == flow.protocol;
    state.cookie == cookie && same && agent_common::sock::Cached(slot.decision).blocked()
}

#[cfg(test)]
mod tests {
    use agent_common::address::Address;
    use agent_common::flow::{Direction, Flow, protocol};
    use agent_common::sock::{SockState, position, sock_flags};

    use super::{direction, is_told};
    use crate::bpf::storage::sock_state;
    use crate::flows::diag::{ENDABLE, Socket};

    const COOKIE: u64 = 5;

    fn state(flags: u32) -> Box<SockState> {
        let mut state = sock_state(&[0; size_of::<SockState>()]).unwrap();
        (state.cookie, state.flags) = (COOKIE, flags);
        state
    }

    fn socket(kind: usize, state: Option<Box<SockState>>) -> Socket {
        Socket::made_up(ENDABLE[kind], COOKIE, state)
    }

    #[test]
    fn the_direction_is_the_one_that_egress_takes() {
        let tcp = |state| direction(&socket(0, state));
        assert_eq!(tcp(Some(state(sock_flags::CONNECTED))), Some(Direction::Outbound));
        assert_eq!(tcp(Some(state(sock_flags::ACCEPTED))), Some(Direction::Inbound));
        let mut listeners = state(sock_flags::CONNECTED);
        listeners.cookie = COOKIE + 1;
        assert_eq!(tcp(Some(listeners)), Some(Direction::Inbound), "a copy of the listener's storage");
        assert_eq!(tcp(Some(state(sock_flags::EARLY))), None, "older than the agent");
        assert_eq!(tcp(None), None, "never seen");
        assert_eq!(direction(&socket(2, None)), Some(Direction::Outbound), "UDP has no direction but out");
    }

    #[test]
    fn a_flow_is_told_if_its_own_slot_says_blocked() {
        let remote = Address::v4(0x0d6e_360a);
        let flow =
            Flow { remote, port: 443, protocol: protocol::UDP, direction: Direction::Outbound, flags: 0 };
        let with = |port, decision, cookie| {
            let mut state = state(0);
            state.cookie = cookie;
            let slot = &mut state.slots[position(&flow)];
            (slot.opened, slot.remote, slot.port, slot.protocol) = (1, remote, port, protocol::UDP);
            slot.decision = decision;
            is_told(&state, COOKIE, &flow)
        };
        const BLOCKED: u64 = 1 << 63;
        assert!(with(443, BLOCKED, COOKIE));
        assert!(!with(443, 0, COOKIE), "it was allowed when last seen");
        assert!(!with(80, BLOCKED, COOKIE), "the slot holds another flow");
        assert!(!with(443, BLOCKED, COOKIE + 1), "the state is a copy of another socket's");
    }
}
