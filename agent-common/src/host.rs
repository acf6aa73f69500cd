//! What the host layer keeps: whose interface is this, and which exchanges did egress vouch for.
//!
//! The host layer sees a packet on the host's side of a workload's interface, where no socket is known any more. It
//! judges by address. What egress let pass for a reason that the address does not show, egress notes here as a
//! 5-tuple; everything else that the fences refuse was sent around the socket layer (AF_PACKET, AF_XDP, TUN, a
//! rewritten packet, a reply of the kernel's own) and is stopped.

use crate::address::Address;
use crate::flow::{Flow, flags, protocol};
use crate::parse::ip::Packet;
use crate::sock::Cached;
use crate::verdict::Reason;

/// Source addresses that one interface may have. A pod has two to four: one a family, and its link-local ones.
pub const OWN_ADDRESSES: usize = 8;

/// How long a note of the generation in force holds (coarse clock, ns). Every packet of a flow passes egress before it
/// gets here and renews it; the time is for what the kernel sends for a socket that is gone (`TIME_WAIT` lasts 60 s).
pub const VOUCH_LIFE: u64 = 120_000_000_000;

/// How long a note outlives its generation: packets that egress let pass under the last policy and that are still
/// queued in the workload's namespace.
pub const VOUCH_LINGER: u64 = 1_000_000_000;

/// A note is renewed at most this often.
pub const VOUCH_RENEW: u64 = 250_000_000;

/// Datagrams up to this length are not cut in pieces on the way to the host: the least MTU that IPv6 allows (RFC 8200
/// section 5).
pub const LEAST_MTU: u32 = 1280;

/// The host side of one interface of a fenced workload, by interface index; written by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Id of the cgroup that events name.
    pub cgroup: u64,
    /// Workload id.
    pub workload: u32,
    /// [`veth_flags`].
    pub flags: u32,
    /// The addresses that the workload's side has, unused ones all zeros.
    pub own: [Address; OWN_ADDRESSES],
}

/// Bits of [`Veth::flags`].
pub mod veth_flags {
    /// The workload's side has more than [`OWN_ADDRESSES`](super::OWN_ADDRESSES): sources are not checked, which
    /// `ringfence status` says.
    pub const ANY_SOURCE: u32 = 1;
}

impl Veth {
    /// Whether packets of the workload may carry this source.
    #[inline(always)]
    #[must_use]
    pub fn owns(&self, source: Address) -> bool {
        // The unspecified address looks like an unused entry, and is nobody's.
        if source.hi == 0 && (source.lo == 0 || source.lo == V4_UNSPECIFIED) {
            return false;
        }
        if self.flags & veth_flags::ANY_SOURCE != 0 {
            return true;
        }
        let mut i = 0;
        while i < OWN_ADDRESSES {
            if self.own[i].hi == source.hi && self.own[i].lo == source.lo {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Whether a source is what a host has before it has an address: unspecified or link-local. For what a network stack
/// needs to live, and for nothing else.
#[inline(always)]
#[must_use]
pub const fn is_before_an_address(source: Address) -> bool {
    source.hi == 0 && (source.lo == 0 || source.lo == V4_UNSPECIFIED) || source.hi >> 54 == 0xfe80 >> 6
}

/// Whether a destination is one that no packet on a wire has (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5): inside a
/// host it is LOOPBACK, which is never judged.
#[inline(always)]
#[must_use]
pub const fn is_never_sent_to(destination: Address) -> bool {
    let v4 = destination.lo as u32;
    destination.hi == 0
        && (destination.lo <= 1 || destination.lo >> 32 == 0xffff && (v4 == 0 || v4 >> 24 == 127))
}

const V4_UNSPECIFIED: u64 = 0xffff_0000_0000;

/// What was stopped on an interface, by interface index; made by the agent, counted by the kernel side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VethCounts {
    /// Packets that were stopped.
    pub blocked: u64,
    /// Packets that an audit fence would have stopped.
    pub would_block: u64,
}

/// An exchange that egress vouches for. Words only: map keys are compared byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port in bits 0..16, destination port 16..32, protocol 32..40, workload id from 40 on.
    pub rest: u64,
}

impl Tuple {
    /// The tuple of a packet of `workload`; `portless` for all pieces of a datagram, whatever its ports.
    #[inline(always)]
    #[must_use]
    pub const fn of(packet: &Packet, workload: u32, portless: bool) -> Self {
        let ports =
            if portless { 0 } else { packet.source_port as u64 | (packet.destination_port as u64) << 16 };
        Self {
            source: packet.source,
            destination: packet.destination,
            rest: ports | (packet.protocol as u64) << 32 | (workload as u64) << 40,
        }
    }
}

/// Egress's note on a [`Tuple`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// When (coarse clock, ns).
    pub at: u64,
    /// Under which generation of the policy.
    pub generation: u64,
}

impl Vouch {
    /// Whether a packet may pass for it.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, now: u64, generation: u32) -> bool {
        let life = if self.generation == generation as u64 { VOUCH_LIFE } else { VOUCH_LINGER };
        now.saturating_sub(self.at) < life
    }

    /// Whether it need not be written again yet.
    #[inline(always)]
    #[must_use]
    pub const fn is_fresh(&self, now: u64, generation: u32) -> bool {
        self.generation == generation as u64 && now.saturating_sub(self.at) < VOUCH_RENEW
    }
}

/// What egress notes of a packet that it let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing: by its address the host layer comes to the same verdict.
    None,
    /// Its exact tuple.
    Exact,
    /// The tuple without ports: the datagram will be cut in pieces, and only the first of them shows the ports that
    /// the verdict may rest on.
    Portless,
}

/// What to note of a packet of `flow` that was let pass with `verdict`; `length` is the whole IP packet's, `segments`
/// how many the card will make of it.
#[inline(always)]
#[must_use]
pub const fn note(verdict: Cached, flow: &Flow, length: u32, segments: u32) -> Note {
    // The end of a connection that is blocked: a note would let everything of its tuple pass the host layer, payload
    // that was sent around the socket layer among it.
    if verdict.blocked() {
        return Note::None;
    }
    // Would be blocked: egress has recorded it, and a second record would be one too many.
    if verdict.violation() || (verdict.outcome() >> 16) as u8 == Reason::Inbound as u8 {
        return Note::Exact;
    }
    let ports = flow.protocol != protocol::TCP && flow.flags & flags::NO_PORT == 0;
    if ports && length > LEAST_MTU && segments <= 1 { Note::Portless } else { Note::None }
}

/// What a refused packet is remembered by, so that repeats are folded: the key of the host layer's stand-in for a
/// socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where it was sent.
    pub remote: Address,
    /// Remote port in bits 0..16, protocol 16..24, the flow's flags 24..32, interface index from 32 on.
    pub rest: u64,
}

impl Trace {
    /// The key of a flow on an interface.
    #[inline(always)]
    #[must_use]
    pub const fn of(ifindex: u32, flow: &Flow) -> Self {
        Self {
            remote: flow.remote,
            rest: flow.port as u64
                | (flow.protocol as u64) << 16
                | (flow.flags as u64 & 0xff) << 24
                | (ifindex as u64) << 32,
        }
    }
}

const _: () = assert!(size_of::<Veth>() == 144);
const _: () = assert!(size_of::<VethCounts>() == 16);
const _: () = assert!(size_of::<Tuple>() == 40);
const _: () = assert!(size_of::<Vouch>() == 16);
const _: () = assert!(size_of::<Trace>() == 24);

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::IpAddr;

    use super::{Note, OWN_ADDRESSES, VOUCH_LIFE, VOUCH_LINGER, VOUCH_RENEW, Veth, Vouch, note, veth_flags};
    use super::{is_before_an_address, is_never_sent_to};
    use crate::address::Address;
    use crate::flow::{Direction, Flow, flags, protocol};
    use crate::sock::Cached;
    use crate::verdict::{Decision, Outcome, Reason, Verdict};

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    fn veth(own: &[&str], flags: u32) -> Veth {
        let mut veth = Veth { cgroup: 1, workload: 1, flags, own: [Address { hi: 0, lo: 0 }; OWN_ADDRESSES] };
        for (slot, text) in veth.own.iter_mut().zip(own) {
            *slot = address(text);
        }
        veth
    }

    #[test]
    fn only_an_interfaces_own_addresses_are_its_sources() {
        let veth = veth(&["10.0.0.2", "fd77::2", "fe80::1"], 0);
        for own in ["10.0.0.2", "::ffff:10.0.0.2", "fd77::2", "fe80::1"] {
            assert!(veth.owns(address(own)), "{own}");
        }
        for other in ["10.0.0.3", "fd77::3", "0.0.0.0", "::", "fe80::2"] {
            assert!(!veth.owns(address(other)), "{other}");
        }
    }

    #[test]
    fn the_unspecified_address_is_nobodys_even_where_sources_are_not_checked() {
        let veth = veth(&["10.0.0.2"], veth_flags::ANY_SOURCE);
        assert!(veth.owns(address("192.0.2.1")));
        assert!(!veth.owns(address("0.0.0.0")) && !veth.owns(address("::")));
    }

    #[test]
    fn a_host_without_an_address_yet_is_told_from_others() {
        for before in ["0.0.0.0", "::", "fe80::1", "febf::1"] {
            assert!(is_before_an_address(address(before)), "{before}");
        }
        for other in ["10.0.0.1", "fec0::1", "fd77::1", "::1", "169.254.1.1"] {
            assert!(!is_before_an_address(address(other)), "{other}");
        }
    }

    #[test]
    fn what_no_wire_carries_is_known() {
        for never in ["0.0.0.0", "127.0.0.1", "127.255.255.254", "::", "::1"] {
            assert!(is_never_sent_to(address(never)), "{never}");
        }
        for wire in
            ["126.255.255.255", "128.0.0.1", "0.0.0.1", "::2", "::1.2.3.4", "fe80::1", "255.255.255.255"]
        {
            assert!(!is_never_sent_to(address(wire)), "{wire}");
        }
    }

    #[test]
    fn a_note_outlives_its_generation_by_no_more_than_what_is_queued() {
        let vouch = Vouch { at: 1_000, generation: 7 };
        assert!(vouch.holds(1_000 + VOUCH_LIFE - 1, 7) && !vouch.holds(1_000 + VOUCH_LIFE, 7));
        assert!(vouch.holds(1_000 + VOUCH_LINGER - 1, 8) && !vouch.holds(1_000 + VOUCH_LINGER, 8));
        assert!(vouch.is_fresh(1_000 + VOUCH_RENEW - 1, 7));
        assert!(!vouch.is_fresh(1_000 + VOUCH_RENEW, 7) && !vouch.is_fresh(1_000, 8));
        // Written on another CPU, a tick ahead.
        assert!(vouch.holds(999, 7));
    }

    #[test]
    fn egress_notes_what_the_address_does_not_show_and_nothing_else() {
        let decision = |reason, would_be| {
            Cached::new(&Decision {
                enforced: Verdict::Allow,
                would_be,
                outcome: Outcome::unfenced(would_be, reason),
                place: 1,
                blocking: 0,
                until: u64::MAX,
            })
        };
        let flow = |protocol, flags| Flow {
            remote: address("192.0.2.1"),
            port: 443,
            protocol,
            direction: Direction::Outbound,
            flags,
        };
        let allowed = decision(Reason::AllowRule, Verdict::Allow);
        assert_eq!(
            note(decision(Reason::Inbound, Verdict::Allow), &flow(protocol::TCP, 0), 60, 0),
            Note::Exact
        );
        assert_eq!(
            note(decision(Reason::Default, Verdict::Block), &flow(protocol::UDP, 0), 60, 0),
            Note::Exact
        );
        let goodbye = Cached(decision(Reason::Default, Verdict::Block).0 | 1 << 63);
        assert!(goodbye.blocked());
        assert_eq!(note(goodbye, &flow(protocol::TCP, 0), 60, 0), Note::None);
        assert_eq!(note(allowed, &flow(protocol::TCP, 0), 9_000, 7), Note::None);
        assert_eq!(note(allowed, &flow(protocol::UDP, 0), 1_280, 0), Note::None);
        assert_eq!(note(allowed, &flow(protocol::UDP, 0), 1_281, 0), Note::Portless);
        // The card cuts it in datagrams, each with its ports.
        assert_eq!(note(allowed, &flow(protocol::UDP, 0), 9_000, 7), Note::None);
        assert_eq!(note(allowed, &flow(protocol::ICMP, flags::NO_PORT), 9_000, 0), Note::None);
    }
}
