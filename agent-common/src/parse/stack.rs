//! What a network stack needs to live, in its narrowest form: neighbour discovery, group membership, DHCP. A packet of
//! that form passes where it stays on the link or in the cluster ([`is_near`]), whatever the fences say of its
//! protocol; everything else of these protocols is a flow.
//!
//! The form alone opens nothing: any byte of it can be made by a workload that may write raw packets. It is the hop
//! limit and the destination together that keep it from leaving.
//!
//! Called for packets that are neither TCP nor UDP, and for UDP to a DHCP server's port ([`may_be`]); by the host
//! layer for all that it would stop. Offsets count from the network header, as everywhere: what begins elsewhere has
//! [`Bytes`] of its own.

use crate::address::{Address, Judged};
use crate::bytes::Bytes;
use crate::flow::{flags, protocol};
use crate::image::PlaceKind;
use crate::parse::ip::Packet;

/// Which need it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Router and neighbour discovery (RFC 4861): ICMPv6 133 to 137, hop limit 255, no extension header.
    Neighbour,
    /// Group membership: MLD (RFC 2710, RFC 3810) or IGMP (RFC 3376), hop limit 1, router alert and no other option.
    Membership,
    /// A DHCP client's message (RFC 2131, RFC 8415).
    Dhcp,
    /// An ICMP error that the kernel answers with. It comes from a socket of the kernel's own, so that no socket hook
    /// takes it for the workload's: only the host layer meets it. Not for [`flags::STACK`].
    Error,
}

/// UDP ports of DHCP and DHCPv6: client, server.
const DHCP: (u16, u16) = (68, 67);
const DHCPV6: (u16, u16) = (546, 547);

/// IPv4 header with the router alert option (RFC 2113) as its only one.
const V4_ALERTED: u32 = 24;
const V4_ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
const V4_PLAIN: u32 = 20;

/// IPv6 header alone, and with a hop-by-hop header of eight bytes.
const V6_PLAIN: u32 = 40;
const V6_ALERTED: u32 = 48;
/// ICMPv6 next, eight bytes long, router alert "MLD" (RFC 2711 section 2.1). Two bytes of padding follow.
const V6_ROUTER_ALERT: [u8; 6] = [protocol::ICMPV6, 0, 5, 2, 0, 0];

/// Whether a packet is worth a look: keeps TCP and nearly all of UDP free of cost.
#[inline(always)]
#[must_use]
pub fn may_be(p: &Packet) -> bool {
    match p.protocol {
        protocol::TCP => false,
        protocol::UDP => is_dhcp_server(p.protocol, p.destination_port),
        _ => true,
    }
}

/// Whether this is where DHCP clients send. A hook that doesn't see the packet leaves the verdict to one that does.
#[inline(always)]
#[must_use]
pub const fn is_dhcp_server(number: u8, port: u16) -> bool {
    number == protocol::UDP && (port == DHCP.1 || port == DHCPV6.1)
}

/// What the packet `p`, read from `b`, is needed for.
#[inline(always)]
pub fn classify<B: Bytes>(b: &B, p: &Packet) -> Option<Life> {
    match b.u8(0)? >> 4 {
        4 => v4(b, p),
        6 => v6(b, p),
        _ => None,
    }
}

/// [`flags::STACK`] for what a workload's own sockets may need, 0 for everything else.
#[inline(always)]
pub fn flag<B: Bytes>(b: &B, p: &Packet) -> u32 {
    if !may_be(p) {
        return 0;
    }
    match classify(b, p) {
        Some(Life::Neighbour | Life::Membership | Life::Dhcp) => flags::STACK,
        Some(Life::Error) | None => 0,
    }
}

#[inline(always)]
fn v4<B: Bytes>(b: &B, p: &Packet) -> Option<Life> {
    // Fragment offset and "more fragments" (RFC 791 section 3.1): what is in pieces is not judged by its first.
    if b.u16(6)? & 0x3fff != 0 {
        return None;
    }
    match p.protocol {
        protocol::IGMP => {
            let ttl = b.u8(8)?;
            let options = b.load::<4>(V4_PLAIN)?;
            (p.upper == V4_ALERTED && ttl == 1 && options == V4_ROUTER_ALERT).then_some(Life::Membership)
        }
        protocol::UDP => {
            let ports = (p.source_port, p.destination_port);
            (p.upper == V4_PLAIN && p.flags & flags::NO_PORT == 0 && ports == DHCP).then_some(Life::Dhcp)
        }
        protocol::ICMP => {
            let kind = b.u8(p.upper)?;
            // Destination unreachable, time exceeded, parameter problem (RFC 792).
            (p.upper == V4_PLAIN && matches!(kind, 3 | 11 | 12)).then_some(Life::Error)
        }
        _ => None,
    }
}

#[inline(always)]
fn v6<B: Bytes>(b: &B, p: &Packet) -> Option<Life> {
    match p.protocol {
        protocol::UDP => {
            let ports = (p.source_port, p.destination_port);
            (p.upper == V6_PLAIN && p.flags & flags::NO_PORT == 0 && ports == DHCPV6).then_some(Life::Dhcp)
        }
        protocol::ICMPV6 => {
            let hops = b.u8(7)?;
            let kind = b.u8(p.upper)?;
            match kind {
                133..=137 if p.upper == V6_PLAIN && hops == 255 => Some(Life::Neighbour),
                130..=132 | 143 if p.upper == V6_ALERTED && hops == 1 => {
                    let first = b.u8(6)?;
                    let alert = b.load::<6>(V6_PLAIN)?;
                    (first == 0 && alert == V6_ROUTER_ALERT).then_some(Life::Membership)
                }
                // RFC 4443 section 2.1.
                1..=4 if p.upper == V6_PLAIN => Some(Life::Error),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a destination is near enough for what has the form: on the link, in the cluster, private; for DHCP also
/// everybody on the link. `kind` is the kind of its place.
#[inline(always)]
#[must_use]
pub fn is_near(destination: Address, kind: u8, number: u8) -> bool {
    let inside = kind == PlaceKind::LinkLocal as u8
        || kind == PlaceKind::Cluster as u8
        || kind == PlaceKind::Private as u8;
    match destination.judged() {
        // 224.0.0.0/24 is never forwarded (RFC 5771 section 4).
        Judged::V4(v4) if destination.as_v4().is_some() => {
            inside || v4 >> 8 == 0x00e0_0000 || v4 == u32::MAX && number == protocol::UDP
        }
        // ff02::/16: link-local scope (RFC 4291 section 2.7).
        Judged::V6(v6) => inside || v6.hi >> 48 == 0xff02,
        // A translator or a tunnel is on the way.
        Judged::V4(_) | Judged::Teredo { .. } => false,
    }
}

#[cfg(test)]
mod tests;
