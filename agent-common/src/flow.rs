//! The input of a verdict: one socket's exchange with one remote address and port.

use crate::address::Address;

/// Who opened the exchange.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The workload's own socket connected or sent.
    Outbound = 0,
    /// What an accepted socket sends back.
    Inbound = 1,
}

/// IP protocol numbers that the code tells apart (IANA, assigned internet protocol numbers).
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP.
    pub const SIT: u8 = 41;
    /// GRE.
    pub const GRE: u8 = 47;
    /// IPsec ESP.
    pub const ESP: u8 = 50;
    /// IPsec AH.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// L2TP over IP.
    pub const L2TP: u8 = 115;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite: the header begins like UDP's.
    pub const UDPLITE: u8 = 136;
}

/// A flow, as a hook saw it. Laid out without padding: in the kernel it is handed on by pointer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Where the bytes go.
    pub remote: Address,
    /// The remote port in host order; 0 with [`flags::NO_PORT`].
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Who opened it.
    pub direction: Direction,
    /// [`flags`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Flow>() == 24);

/// Bits of [`Flow::flags`].
pub mod flags {
    /// The port is unknown: a later fragment, or a protocol without ports. A block rule that names ports then
    /// matches, an allow rule that names ports does not: what can't be seen is never allowed by a guess.
    pub const NO_PORT: u32 = 1;
    /// The packet names its own route (IPv4 options, IPv6 routing header): the address seen may not be where it ends.
    pub const ROUTED: u32 = 2;
    /// The packet could not be read: remote and port are not known.
    pub const UNREADABLE: u32 = 4;
    /// The packet has the form of what a network stack needs to live ([`parse::stack`](crate::parse::stack)).
    pub const STACK: u32 = 8;
    /// No packet and no remote yet: a socket is made, and judged by its protocol alone.
    pub const SOCKET: u32 = 16;
    /// The socket is raw: it can write any header, so it needs `raw` whatever its protocol.
    pub const RAW: u32 = 32;
    /// Host layer: the source is none of the workload's addresses.
    pub const SPOOFED: u32 = 64;
    /// All of them: the proof of a cached verdict has room for seven bits, an event for eight.
    pub const ALL: u32 = NO_PORT | ROUTED | UNREADABLE | STACK | SOCKET | RAW | SPOOFED;
    const _: () = assert!(ALL < 1 << 7);
}
