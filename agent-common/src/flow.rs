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
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
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
    /// Host layer: the source is none of the workload's addresses.
    pub const SPOOFED: u32 = 64;
}
