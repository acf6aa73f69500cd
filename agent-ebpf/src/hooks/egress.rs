//! `cgroup_skb/egress`: the authority. Every packet of a socket passes here, whoever sends it and however.
//!
//! Kernel: `ip_finish_output`, `ip6_finish_output` and their multicast twins, since 4.10. A block is EPERM for a
//! datagram; TCP drops and retries.
//!
//! What a network stack needs to live passes by its form (`stack_life`). Of a connection that was allowed before, the
//! end passes without payload, so that the peer learns.
//!
//! *On error:* without an image the packet passes and is counted (`no_image`): nothing is known of whose it is. An
//! unreadable packet is a `Fault`: blocked for workloads with an enforcing fence (`unreadable`). Without storage the
//! packet is judged by itself and told from the CPU's scratch (`no_storage`).

use agent_common::address::Address;
use agent_common::bytes::Bytes;
use agent_common::flow::{Direction, Flow, flags, protocol};
use agent_common::parse::ip::{Packet, parse};
use agent_common::parse::stack;
use agent_common::sock::{SLOTS, SockState, adopt, finished, is_goodbye, position, sock_flags};
use agent_common::verdict::Reason;
use agent_common::wire::{Counter, Hook};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;

use crate::ctx::{Skb, coarse};
use crate::emit::Rings;
use crate::identity::{late, of_packet};
use crate::judge::{Ask, NOBODY, decide_only, judge, witness};
use crate::maps::{Image, add, count, scratch, storage};
use crate::vouch::vouch;

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
    let mut ask = Ask::new(UNREADABLE, NOBODY, Hook::Egress, 0);
    let tcp = Tcp(read(skb.raw(), image.zero(), &mut ask.flow));
    if ask.flow.flags & flags::UNREADABLE != 0 {
        unreadable(skb.raw());
    }
    let Some(state) = storage(sock, true).or_else(scratch) else { return DROP };
    late(skb.raw().cast(), state);
    if state.flags & sock_flags::LOCAL == 0 {
        locate(skb.raw(), image.zero(), state);
    }
    remember(&image, &skb, state, &mut ask, tcp)
}

/// Out of line for the stack's sake, like [`read`].
#[inline(never)]
fn unreadable(skb: *mut __sk_buff) {
    count(Counter::Unreadable);
    let ctx = SkBuffContext::new(skb);
    debug!(&ctx, "egress: unreadable packet of {} bytes", ctx.len());
}

const UNREADABLE: Flow = Flow {
    remote: Address { hi: 0, lo: 0 },
    port: 0,
    protocol: 0,
    direction: Direction::Outbound,
    flags: flags::UNREADABLE | flags::NO_PORT,
};

/// Fills `flow` if the packet can be read. A function of its own, so that its stack is free again before anything is
/// judged; hence integers and one pointer in, one integer out.
#[inline(never)]
fn read(skb: *mut __sk_buff, zero: u64, flow: &mut Flow) -> u64 {
    let skb = Skb::new(skb, zero);
    let Some(p) = parse(&skb) else { return Tcp::NONE.0 };
    flow.remote.hi = p.destination.hi;
    flow.remote.lo = p.destination.lo;
    flow.port = p.destination_port;
    flow.protocol = p.protocol;
    flow.flags = p.flags | stack::flag(&skb, &p);
    Tcp::of(&skb, &p).0
}

/// Where a socket sends from, for its records: found once. A connection's does not change; of a datagram socket's the
/// first stands. Out of line like [`read`].
#[inline(never)]
fn locate(skb: *mut __sk_buff, zero: u64, state: &mut SockState) {
    let Some(p) = parse(&Skb::new(skb, zero)) else { return };
    state.local.hi = p.source.hi;
    state.local.lo = p.source.lo;
    state.local_port = u64::from(p.source_port);
    state.flags |= sock_flags::LOCAL;
}

/// What of a TCP header matters here (RFC 9293 section 3.1): flags in bits 0..8, bit 8 with payload, the length of all
/// headers from bit 16 on.
#[derive(Clone, Copy)]
struct Tcp(u64);

impl Tcp {
    const NONE: Self = Self(0);
    const FIN: u64 = 1;
    const SYN: u64 = 2;
    const RST: u64 = 4;
    const ACK: u64 = 16;
    const PAYLOAD: u64 = 1 << 8;

    /// A TCP header that is cut short counts as one without flags: the flow is judged all the same.
    #[inline(always)]
    fn of(skb: &Skb, p: &Packet) -> Self {
        if p.protocol != protocol::TCP || p.flags & flags::NO_PORT != 0 {
            return Self::NONE;
        }
        let Some(b) = skb.load::<2>(p.upper.wrapping_add(12)) else { return Self::NONE };
        let header = p.upper.wrapping_add(u32::from(b[0] >> 4) * 4);
        let payload = if skb.len() > header { Self::PAYLOAD } else { 0 };
        Self(u64::from(b[1]) | payload | u64::from(header) << 16)
    }

    const fn is_first(self) -> bool {
        self.0 & Self::SYN != 0
    }

    const fn is_answer(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    const fn is_last(self) -> bool {
        self.0 & (Self::FIN | Self::RST) != 0
    }

    const fn has_payload(self) -> bool {
        self.0 & Self::PAYLOAD != 0
    }

    const fn header(self) -> u64 {
        self.0 >> 16
    }
}

#[inline(always)]
fn remember(image: &Image, skb: &Skb, state: &mut SockState, ask: &mut Ask, tcp: Tcp) -> i32 {
    if tcp.is_answer() {
        // Sent for the listener, before there is a socket of this connection. Where it may pass, the record is the
        // connection's own, which begins with its first packet; where it may not, only the listener can tell of it.
        ask.flow.direction = Direction::Inbound;
        ask.who = of_packet(image, skb, state);
        let verdict = decide_only(image, ask);
        ask.now = coarse();
        if verdict.blocked() {
            witness(image, state, ask);
            return DROP;
        }
        vouch(image, skb, ask);
        return PASS;
    }
    if tcp.is_first() {
        state.flags |= sock_flags::CONNECTED;
    }
    if state.flags & sock_flags::CONNECTED == 0 && ask.flow.protocol == protocol::TCP {
        adopt(state, skb.cookie());
        if state.flags & sock_flags::ACCEPTED != 0 {
            ask.flow.direction = Direction::Inbound;
        }
    }
    ask.who = of_packet(image, skb, state);
    if ask.flow.flags & flags::STACK != 0 && lives(image, ask) {
        return PASS;
    }
    ask.now = coarse();
    let verdict = judge(image, state, ask);
    let at = position(&ask.flow);
    if verdict.blocked()
        && !(is_goodbye(state, at, tcp.is_last(), tcp.is_first() || tcp.has_payload()) && skb.is_tcp_socket())
    {
        return DROP;
    }
    vouch(image, skb, ask);
    tally(skb, state, at, tcp);
    if tcp.is_last() {
        let rings = Rings::new(image, Hook::Egress as u32);
        finished(image, &rings, state, at, &ask.who, ask.now, tcp.has_payload());
    }
    PASS
}

/// Whether a packet of the form passes by it; then it leaves no record but a count.
#[inline(always)]
fn lives(image: &Image, ask: &mut Ask) -> bool {
    let lives = decide_only(image, ask).reason() == Reason::Stack as u8;
    if lives {
        count(Counter::StackLife);
    }
    lives
}

/// Bytes and packets as they leave: the card repeats the headers for each segment of a GSO packet.
#[inline(always)]
fn tally(skb: &Skb, state: &mut SockState, at: usize, tcp: Tcp) {
    let more = skb.segments().saturating_sub(1);
    let slot = &mut state.slots[at & (SLOTS - 1)];
    add(&mut slot.tx_bytes, u64::from(skb.len()) + u64::from(more) * tcp.header());
    add(&mut slot.tx_packets, 1 + u64::from(more));
}
