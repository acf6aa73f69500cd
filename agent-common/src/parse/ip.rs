//! IPv4 and IPv6 headers, walked byte by byte: header length from the IHL, extension headers one after the other.
//! Fixed offsets are how filters are evaded (an IPv4 option shifts the ports).

use crate::address::Address;
use crate::bytes::{Bytes, Step};
use crate::flow::{flags, protocol};
use crate::limits::MAX_EXTENSION_HEADERS;

/// What a packet says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address. With a routing header it may be only the next hop ([`flags::ROUTED`]).
    pub destination: Address,
    /// The upper-layer protocol.
    pub protocol: u8,
    /// [`flags`] of the flow that this packet belongs to.
    pub flags: u32,
    /// Where the upper-layer header begins.
    pub upper: u32,
    /// Source port in host order; 0 with [`flags::NO_PORT`].
    pub source_port: u16,
    /// Destination port in host order; 0 with [`flags::NO_PORT`].
    pub destination_port: u16,
}

/// IPv6 extension headers that are walked (IANA protocol numbers).
mod extension {
    pub(super) const HOP_BY_HOP: u64 = 0;
    pub(super) const ROUTING: u64 = 43;
    pub(super) const FRAGMENT: u64 = 44;
    pub(super) const AUTHENTICATION: u64 = 51;
    pub(super) const DESTINATION: u64 = 60;
    pub(super) const MOBILITY: u64 = 135;
    pub(super) const HIP: u64 = 139;
    pub(super) const SHIM6: u64 = 140;
}

/// Reads the headers. `None`: too short, not IP, or more extension headers than are walked.
#[inline(always)]
pub fn parse<B: Bytes>(b: &B) -> Option<Packet> {
    // The whole of an IPv4 header without options, the half of an IPv6 one: one load for both.
    let first = b.load::<20>(0)?;
    let head = match first[0] >> 4 {
        4 => v4(first)?,
        6 => v6(b, first[6])?,
        _ => return None,
    };
    // SCTP and DCCP have their ports where TCP has them (RFC 9260 section 3.1, RFC 4340 section 5.1).
    let has_ports = matches!(
        head.protocol,
        protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP
    );
    if head.flags & flags::NO_PORT != 0 || !has_ports {
        return Some(Packet { flags: head.flags | flags::NO_PORT, ..head });
    }
    let p = b.load::<4>(head.upper)?;
    Some(Packet {
        source_port: u16::from_be_bytes([p[0], p[1]]),
        destination_port: u16::from_be_bytes([p[2], p[3]]),
        ..head
    })
}

/// RFC 791 section 3.1. Any option counts as [`flags::ROUTED`]: source routes are the only ones with a use for a
/// workload, and telling them apart would mean a loop over attacker's bytes for nothing.
#[inline(always)]
fn v4(h: [u8; 20]) -> Option<Packet> {
    let header = u32::from(h[0] & 15) * 4;
    if header < 20 {
        return None;
    }
    let mut f = 0;
    if header > 20 {
        f |= flags::ROUTED;
    }
    if u16::from_be_bytes([h[6], h[7]]) & 0x1fff != 0 {
        f |= flags::NO_PORT;
    }
    Some(Packet {
        source: Address::v4(u32::from_be_bytes([h[12], h[13], h[14], h[15]])),
        destination: Address::v4(u32::from_be_bytes([h[16], h[17], h[18], h[19]])),
        protocol: h[9],
        flags: f,
        upper: header,
        source_port: 0,
        destination_port: 0,
    })
}

#[inline(always)]
fn address<B: Bytes>(b: &B, at: u32) -> Option<Address> {
    let hi = u64::from_be_bytes(b.load::<8>(at)?);
    let lo = u64::from_be_bytes(b.load::<8>(at + 8)?);
    Some(Address { hi, lo })
}

/// RFC 8200 section 4.
#[inline(always)]
fn v6<B: Bytes>(b: &B, next: u8) -> Option<Packet> {
    let mut chain = Chain { b: *b, next: u64::from(next), at: b.hide(40), flags: b.hide(0), end: b.hide(0) };
    b.repeat(MAX_EXTENSION_HEADERS, &mut chain);
    if chain.end != Chain::<B>::DONE {
        return None;
    }
    Some(Packet {
        source: address(b, 8)?,
        destination: address(b, 24)?,
        protocol: chain.next as u8,
        flags: chain.flags as u32,
        upper: chain.at as u32,
        source_port: 0,
        destination_port: 0,
    })
}

struct Chain<B> {
    b: B,
    next: u64,
    at: u64,
    flags: u64,
    end: u64,
}

impl<B> Chain<B> {
    const DONE: u64 = 1;
    const SHORT: u64 = 2;
}

impl<B: Bytes> Step for Chain<B> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> bool {
        use extension::{AUTHENTICATION, DESTINATION, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6};
        let kind = self.next;
        let low = kind < 64
            && 1u64 << (kind & 63)
                & (1 << HOP_BY_HOP | 1 << DESTINATION | 1 << ROUTING | 1 << FRAGMENT | 1 << AUTHENTICATION)
                != 0;
        if !low && kind != MOBILITY && kind != HIP && kind != SHIM6 {
            self.end = Self::DONE;
            return true;
        }
        let Some(h) = self.b.load::<4>(self.at as u32) else {
            self.end = Self::SHORT;
            return true;
        };
        self.next = u64::from(h[0]);
        if kind == FRAGMENT {
            self.at = self.at.wrapping_add(8);
            if u16::from_be_bytes([h[2], h[3]]) & 0xfff8 != 0 {
                // A later fragment: what follows is payload, not a header.
                self.flags |= u64::from(flags::NO_PORT);
                self.end = Self::DONE;
                return true;
            }
            return false;
        }
        if kind == ROUTING {
            self.flags |= u64::from(flags::ROUTED);
        }
        // Length in 4-byte units less two for AH (RFC 4302 section 2.2), in 8-byte units less one for the others.
        let length = u64::from(h[1]);
        self.at =
            self.at.wrapping_add(if kind == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 });
        false
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::{any, prop, proptest};

    use super::{Packet, parse};
    use crate::address::Address;
    use crate::bytes::Slice;
    use crate::flow::flags::{NO_PORT, ROUTED};

    fn v4(options: usize, fragment: u16, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut p = vec![0; 20 + options * 4];
        p[0] = 0x45 + options as u8;
        p[6..8].copy_from_slice(&fragment.to_be_bytes());
        p[9] = protocol;
        p[12..20].copy_from_slice(&[10, 0, 0, 1, 13, 110, 54, 10]);
        p.extend_from_slice(upper);
        p
    }

    fn v6(chain: &[(u8, Vec<u8>)], protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut p = vec![0; 40];
        p[0] = 0x60;
        p[6] = chain.first().map_or(protocol, |c| c.0);
        p[23] = 1;
        p[24..28].copy_from_slice(&[0x2a, 1, 4, 0xf8]);
        for (i, (_, body)) in chain.iter().enumerate() {
            let start = p.len();
            p.extend_from_slice(body);
            p[start] = chain.get(i + 1).map_or(protocol, |c| c.0);
        }
        p.extend_from_slice(upper);
        p
    }

    fn read(p: &[u8]) -> Option<Packet> {
        parse(&Slice(p))
    }

    const PORTS: [u8; 8] = [0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0];

    #[test]
    fn ports_are_found_behind_ip_options() {
        for options in [0, 1, 10] {
            let p = read(&v4(options, 0, 6, &PORTS)).unwrap();
            assert_eq!((p.source_port, p.destination_port), (40000, 443));
            assert_eq!(p.flags & ROUTED != 0, options > 0);
            assert_eq!(p.destination, Address::v4(0x0d6e_360a));
        }
    }

    #[test]
    fn a_later_fragment_has_no_port_and_a_first_one_has() {
        assert_eq!(read(&v4(0, 0x2000, 17, &PORTS)).unwrap().destination_port, 443);
        let later = read(&v4(0, 0x2001, 17, &PORTS)).unwrap();
        assert_eq!((later.destination_port, later.flags), (0, NO_PORT));
        let body = vec![0, 0, 0, 8, 0, 0, 0, 1];
        assert_eq!(read(&v6(&[(44, body)], 17, &PORTS)).unwrap().flags, NO_PORT);
    }

    #[test]
    fn extension_headers_are_walked_and_routing_is_flagged() {
        let chain = [
            (0, vec![0; 8]),
            (60, [vec![0, 1], vec![0; 14]].concat()),
            (51, [vec![0, 4], vec![0; 22]].concat()),
        ];
        let p = read(&v6(&chain, 6, &PORTS)).unwrap();
        assert_eq!((p.protocol, p.destination_port, p.flags, p.upper), (6, 443, 0, 40 + 8 + 16 + 24));
        let p = read(&v6(&[(43, [vec![0, 2, 4, 1], vec![0; 20]].concat())], 17, &PORTS)).unwrap();
        assert_eq!((p.destination_port, p.flags), (443, ROUTED));
    }

    #[test]
    fn more_extension_headers_than_are_walked_is_unreadable() {
        assert!(read(&v6(&vec![(60, vec![0; 8]); 7], 17, &PORTS)).is_some());
        assert!(read(&v6(&vec![(60, vec![0; 8]); 8], 17, &PORTS)).is_none());
    }

    #[test]
    fn what_is_short_or_not_ip_is_unreadable() {
        for p in
            [&[][..], &[0x45], &[0x50; 60], &[0x44; 60], &v4(0, 0, 6, &PORTS[..3]), &v6(&[], 6, &PORTS[..3])]
        {
            assert_eq!(read(p), None, "{p:?}");
        }
        assert_eq!(read(&v4(0, 0, 1, &[])).unwrap().flags, NO_PORT);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), version in 0u8..16) {
            let mut bytes = bytes;
            if let Some(b) = bytes.first_mut() { *b = *b & 15 | version << 4 }
            let _: Option<Packet> = read(&bytes);
        }
    }
}
