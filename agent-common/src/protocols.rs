//! Protocols that a fence opens by name (`protocols: [icmp]`): one table for policies, kernel programs and events.
//!
//! TCP and UDP are always judged by where they go. Whatever else leaves a fenced workload carries bytes that no rule
//! about addresses and ports was written for (a tunnel's real destination is inside), so it is refused until a fence
//! opens it by name; then it is judged by its destination like the rest.
//!
//! MPTCP has no name: its sockets send TCP, which is judged by the socket's own workload.

use crate::flow::{Flow, flags, protocol};

/// A name of `protocols`, and a bit of [`Fence::protocols`](crate::image::Fence::protocols).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// ICMP and ICMPv6.
    Icmp = 0,
    /// UDP-Lite (RFC 3828).
    UdpLite = 1,
    /// SCTP (RFC 9260).
    Sctp = 2,
    /// DCCP (RFC 4340).
    Dccp = 3,
    /// IGMP, and by its purpose only that: MLD is ICMPv6.
    Igmp = 4,
    /// GRE (RFC 2784).
    Gre = 5,
    /// IPv4 in IP (RFC 2003).
    Ipip = 6,
    /// IPv6 in IP (RFC 4213), as Linux names its device.
    Sit = 7,
    /// IPsec ESP (RFC 4303).
    Esp = 8,
    /// IPsec AH (RFC 4302) over IPv4. Over IPv6 it is an extension header: what follows it is judged.
    Ah = 9,
    /// L2TP over IP (RFC 3931).
    L2tp = 10,
    /// Any other protocol, and raw sockets themselves, whatever they carry.
    Raw = 11,
}

/// What is judged without being opened, and what a name stands for.
const NUMBERS: [(u8, &str, Option<Class>); 15] = [
    (protocol::TCP, "tcp", None),
    (protocol::UDP, "udp", None),
    (protocol::ICMP, "icmp", Some(Class::Icmp)),
    (protocol::ICMPV6, "icmpv6", Some(Class::Icmp)),
    (protocol::UDPLITE, "udplite", Some(Class::UdpLite)),
    (protocol::SCTP, "sctp", Some(Class::Sctp)),
    (protocol::DCCP, "dccp", Some(Class::Dccp)),
    (protocol::IGMP, "igmp", Some(Class::Igmp)),
    (protocol::GRE, "gre", Some(Class::Gre)),
    (protocol::IPIP, "ipip", Some(Class::Ipip)),
    (protocol::SIT, "sit", Some(Class::Sit)),
    (protocol::ESP, "esp", Some(Class::Esp)),
    (protocol::AH, "ah", Some(Class::Ah)),
    (protocol::L2TP, "l2tp", Some(Class::L2tp)),
    // RFC 3692: for experiments. Stands for "none that has a name", as what a raw socket of all protocols has.
    (255, "raw", Some(Class::Raw)),
];

impl Class {
    /// All classes, by their number.
    pub const ALL: [Self; 12] = [
        Self::Icmp,
        Self::UdpLite,
        Self::Sctp,
        Self::Dccp,
        Self::Igmp,
        Self::Gre,
        Self::Ipip,
        Self::Sit,
        Self::Esp,
        Self::Ah,
        Self::L2tp,
        Self::Raw,
    ];

    /// As policies and events name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::UdpLite => "udplite",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
            Self::Igmp => "igmp",
            Self::Gre => "gre",
            Self::Ipip => "ipip",
            Self::Sit => "sit",
            Self::Esp => "esp",
            Self::Ah => "ah",
            Self::L2tp => "l2tp",
            Self::Raw => "raw",
        }
    }

    /// Its bit.
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What a flow needs a fence to open; `None` for TCP and UDP.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow: &Flow) -> Option<Self> {
        if flow.flags & flags::RAW != 0 {
            return Some(Self::Raw);
        }
        Self::of_number(flow.protocol)
    }

    /// The class of a protocol number; `None` for TCP and UDP. A `match` and not the table: the kernel side would
    /// have to load the table from a map of its own.
    #[inline(always)]
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            protocol::TCP | protocol::UDP => return None,
            protocol::ICMP | protocol::ICMPV6 => Self::Icmp,
            protocol::UDPLITE => Self::UdpLite,
            protocol::SCTP => Self::Sctp,
            protocol::DCCP => Self::Dccp,
            protocol::IGMP => Self::Igmp,
            protocol::GRE => Self::Gre,
            protocol::IPIP => Self::Ipip,
            protocol::SIT => Self::Sit,
            protocol::ESP => Self::Esp,
            protocol::AH => Self::Ah,
            protocol::L2TP => Self::L2tp,
            _ => Self::Raw,
        })
    }
}

/// The word for a protocol number, where there is one.
#[must_use]
pub fn name_of(number: u8) -> Option<&'static str> {
    NUMBERS.iter().find(|(known, ..)| *known == number && *known != 255).map(|(_, name, _)| *name)
}

/// The protocol number of a word, in any case of letters. `raw` is none: it has no number of its own.
#[must_use]
pub fn number_of(name: &str) -> Option<u8> {
    let known = NUMBERS.iter().find(|(number, known, _)| known.eq_ignore_ascii_case(name) && *number != 255);
    known.map(|(number, ..)| *number)
}

/// Socket types (`include/linux/net.h`) that matter here.
mod kind {
    pub(super) const RAW: u32 = 3;
}

/// MPTCP's number is above what fits into an IP header (RFC 8684 uses TCP's on the wire).
const MPTCP: u32 = 262;

/// What a new socket asks for: a flow without a remote, to be judged by its protocol alone. `None` if it asks for
/// nothing that a fence must open: TCP, UDP, MPTCP.
///
/// `kind` and `number` are the socket's type and protocol as `socket(2)` resolved them. A number that no IP header
/// can hold (SMC is 256) is told as 255 and needs `raw`.
#[inline(always)]
#[must_use]
pub fn of_socket(kind: u32, number: u32) -> Option<(u8, u32)> {
    let wire = if number > 0xff { 0xff } else { number as u8 };
    if kind == kind::RAW {
        return Some((wire, flags::SOCKET | flags::NO_PORT | flags::RAW));
    }
    if number == MPTCP || Class::of_number(wire).is_none() {
        return None;
    }
    Some((wire, flags::SOCKET | flags::NO_PORT))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Class, NUMBERS, name_of, number_of, of_socket};
    use crate::flow::flags::{NO_PORT, RAW, SOCKET};
    use crate::flow::protocol;

    #[test]
    fn the_table_and_the_match_say_the_same_of_every_number() {
        for number in 0..=255 {
            let listed = NUMBERS.iter().find(|(known, ..)| *known == number);
            let expected = listed.map_or(Some(Class::Raw), |(_, _, class)| *class);
            assert_eq!(Class::of_number(number), expected, "{number}");
        }
    }

    #[test]
    fn every_class_has_its_own_name_and_bit_and_is_in_the_table() {
        let mut bits = 0;
        for (at, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, at);
            assert_eq!(bits & class.bit(), 0);
            bits |= class.bit();
            assert!(
                NUMBERS.iter().any(|(_, name, of)| *of == Some(class) && *name == class.name()),
                "{class:?}"
            );
        }
    }

    #[test]
    fn names_and_numbers_lead_back_to_each_other() {
        for (number, name, _) in NUMBERS.iter().filter(|(number, ..)| *number != 255) {
            assert_eq!((name_of(*number), number_of(name)), (Some(*name), Some(*number)));
        }
        assert_eq!((name_of(255), number_of("raw"), number_of("GRE")), (None, None, Some(47)));
    }

    #[test]
    fn only_tcp_udp_and_mptcp_sockets_ask_for_nothing() {
        const STREAM: u32 = 1;
        const DGRAM: u32 = 2;
        for (kind, number) in [(STREAM, 6), (DGRAM, 17), (STREAM, 262)] {
            assert_eq!(of_socket(kind, number), None, "{kind} {number}");
        }
        for (kind, number, expected) in [
            (DGRAM, 1, (protocol::ICMP, SOCKET | NO_PORT)),
            (DGRAM, 58, (protocol::ICMPV6, SOCKET | NO_PORT)),
            (DGRAM, 136, (protocol::UDPLITE, SOCKET | NO_PORT)),
            (STREAM, 132, (protocol::SCTP, SOCKET | NO_PORT)),
            (5, 132, (protocol::SCTP, SOCKET | NO_PORT)),
            (6, 33, (protocol::DCCP, SOCKET | NO_PORT)),
            (DGRAM, 115, (protocol::L2TP, SOCKET | NO_PORT)),
            (STREAM, 256, (255, SOCKET | NO_PORT)),
            (3, 6, (protocol::TCP, SOCKET | NO_PORT | RAW)),
            (3, 255, (255, SOCKET | NO_PORT | RAW)),
            (3, 262, (255, SOCKET | NO_PORT | RAW)),
        ] {
            assert_eq!(of_socket(kind, number), Some(expected), "{kind} {number}");
        }
    }
}
