//! `cgroup_skb/egress`: the authority. Every packet of a socket passes here, whoever sends it and however.
//!
//! Kernel: `ip_finish_output`, `ip6_finish_output` and their multicast twins, since 4.10. A block is EPERM for a
//! datagram; TCP drops and retries.
//!
//! *On error:* without an image the packet passes and is counted (`no_image`): nothing is known of whose it is. An
//! unreadable packet is a `Fault`: blocked for workloads with an enforcing fence (`unreadable`). Without storage the
//! packet is judged without memory and without a record (`no_storage`).

use agent_common::address::Address;
use agent_common::bytes::Bytes;
use agent_common::flow::{Direction, Flow, flags, protocol};
use agent_common::parse::ip::{Packet, parse};
use agent_common::sock::{Cached, SLOTS, SockState, adopt, finished, position, sock_flags};
use agent_common::wire::{Counter, Hook};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;

use crate::ctx::{Skb, coarse};
use crate::emit::Rings;
use crate::identity::{late, of_packet, of_packet_unknown};
use crate::judge::{Ask, decide_only, judge};
use crate::maps::{Image, add, count, storage};

const PASS: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb]
fn ringfence_egress(ctx: SkBuffContext) -> i32 {
    let Some(image) = Image::fetch() else {
        count(Counter::NoImage);
        return PASS;
    };
    let skb = Skb::new(ctx.skb.skb, image.zero());
    let sock = skb.sock();
    if sock.is_null() {
        return PASS;
    }
    let packet = parse(&skb);
    let (flow, tcp) = match packet {
        Some(p) => (outbound(&p), Tcp::of(&skb, &p)),
        None => {
            count(Counter::Unreadable);
            debug!(&ctx, "egress: unreadable packet of {} bytes", skb.len());
            (UNREADABLE, Tcp::NONE)
        }
    };
    let Some(state) = storage(sock, true) else {
        count(Counter::NoStorage);
        let who = of_packet_unknown(&image, &skb);
        return ret(decide_only(&image, &mut Ask::new(flow, who, Hook::Egress, 0)));
    };
    late(skb.raw().cast(), state);
    if let Some(p) = packet {
        locate(state, &p);
    }
    remember(&image, &skb, state, flow, tcp)
}

const UNREADABLE: Flow = Flow {
    remote: Address { hi: 0, lo: 0 },
    port: 0,
    protocol: 0,
    direction: Direction::Outbound,
    flags: flags::UNREADABLE | flags::NO_PORT,
};

#[inline(always)]
fn outbound(p: &Packet) -> Flow {
    Flow {
        remote: p.destination,
        port: p.destination_port,
        protocol: p.protocol,
        direction: Direction::Outbound,
        flags: p.flags,
    }
}

/// Where a socket sends from, for its records. A connection's does not change; a datagram socket's may, the first
/// stands.
#[inline(always)]
fn locate(state: &mut SockState, p: &Packet) {
    if state.flags & sock_flags::LOCAL == 0 {
        state.local.hi = p.source.hi;
        state.local.lo = p.source.lo;
        state.local_port = u64::from(p.source_port);
        state.flags |= sock_flags::LOCAL;
    }
}

#[inline(always)]
fn ret(verdict: Cached) -> i32 {
    if verdict.blocked() { DROP } else { PASS }
}

/// What of a TCP header matters here (RFC 9293 section 3.1).
#[derive(Clone, Copy)]
struct Tcp {
    flags: u32,
    header: u32,
    payload: bool,
}

impl Tcp {
    const NONE: Self = Self { flags: 0, header: 0, payload: false };
    const FIN: u32 = 1;
    const SYN: u32 = 2;
    const RST: u32 = 4;
    const ACK: u32 = 16;

    /// A TCP header that is cut short counts as one without flags: the flow is judged all the same.
    #[inline(always)]
    fn of(skb: &Skb, p: &Packet) -> Self {
        if p.protocol != protocol::TCP || p.flags & flags::NO_PORT != 0 {
            return Self::NONE;
        }
        let Some(b) = skb.load::<2>(p.upper.wrapping_add(12)) else { return Self::NONE };
        let header = p.upper.wrapping_add(u32::from(b[0] >> 4) * 4);
        Self { flags: u32::from(b[1]), header, payload: skb.len() > header }
    }

    const fn is_answer(self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    const fn is_last(self) -> bool {
        self.flags & (Self::FIN | Self::RST) != 0
    }
}

#[inline(always)]
fn remember(image: &Image, skb: &Skb, state: &mut SockState, mut flow: Flow, tcp: Tcp) -> i32 {
    if tcp.is_answer() {
        // Sent for the listener, before there is a socket of this connection: judged, but its record is the
        // connection's own, which begins with its first packet.
        flow.direction = Direction::Inbound;
        let who = of_packet(image, skb, state);
        return ret(decide_only(image, &mut Ask::new(flow, who, Hook::Egress, 0)));
    }
    if tcp.flags & Tcp::SYN != 0 {
        state.flags |= sock_flags::CONNECTED;
    }
    if state.flags & sock_flags::CONNECTED == 0 && flow.protocol == protocol::TCP {
        adopt(state, skb.cookie());
        if state.flags & sock_flags::ACCEPTED != 0 {
            flow.direction = Direction::Inbound;
        }
    }
    let who = of_packet(image, skb, state);
    let now = coarse();
    let mut ask = Ask::new(flow, who, Hook::Egress, now);
    if judge(image, state, &mut ask).blocked() {
        return DROP;
    }
    let at = position(&flow);
    tally(skb, state, at, tcp);
    if tcp.is_last() {
        finished(image, &Rings::new(image, Hook::Egress as u32), state, at, &who, now, tcp.payload);
    }
    PASS
}

/// Bytes and packets as they leave: the card repeats the headers for each segment of a GSO packet.
#[inline(always)]
fn tally(skb: &Skb, state: &mut SockState, at: usize, tcp: Tcp) {
    let more = skb.segments().saturating_sub(1);
    let slot = &mut state.slots[at & (SLOTS - 1)];
    add(&mut slot.tx_bytes, u64::from(skb.len()) + u64::from(more) * u64::from(tcp.header));
    add(&mut slot.tx_packets, 1 + u64::from(more));
}
