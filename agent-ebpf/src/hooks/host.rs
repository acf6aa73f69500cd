//! `tc` ingress on the host side of a fenced workload's interface: what the workload sent and no socket hook saw.
//!
//! Kernel: `tcx_run` (6.6) or `tc_classify` by a `clsact` qdisc (4.5), from `sch_handle_ingress`. Drop is
//! `TC_ACT_SHOT`; a pass is `TC_ACT_UNSPEC`, so that the programs after this one still run.
//!
//! *On error:* without an image, or on an interface that the agent does not know (any more), the packet passes and is
//! counted (`no_image`, `no_veth`). What is neither IP nor ARP, has a VLAN tag or can't be read is a `Fault`: blocked
//! for workloads with an enforcing fence. Where a refused flow can't be remembered it is refused without a record
//! (`no_storage`).

use agent_common::address::Address;
use agent_common::bytes::Bytes;
use agent_common::flow::{Direction, Flow, flags, protocol};
use agent_common::host::{Trace, Veth, is_before_an_address, is_never_sent_to};
use agent_common::parse::ip::parse;
use agent_common::parse::stack::{Life, classify};
use agent_common::sock::{SockState, sock_flags};
use agent_common::verdict::Rules;
use agent_common::wire::{Counter, Hook};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::ctx::{Frame, coarse};
use crate::identity::who;
use crate::judge::{Ask, decide_only, witness};
use crate::maps::{Image, add, count, trace, veth, veth_counts};
use crate::vouch::is_vouched_for;

const NEXT: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT;

/// IANA IEEE 802 numbers.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const IPV6: u16 = 0x86dd;
}

#[classifier]
fn ringfence_host(ctx: TcContext) -> i32 {
    let Some(image) = Image::fetch() else {
        count(Counter::NoImage);
        return NEXT;
    };
    let frame = Frame::new(ctx.skb.skb, image.zero());
    let Some(veth) = veth(frame.ifindex()) else {
        count(Counter::NoVeth);
        return NEXT;
    };
    let kind = frame.ethertype();
    if kind == ethertype::ARP {
        return NEXT;
    }
    let mut ask = Ask::new(UNREADABLE, who(&image, veth.workload), Hook::Host, coarse());
    let is_error = read(ctx.skb.skb, image.zero(), veth, kind, &mut ask.flow);
    if !decide_only(&image, &mut ask).violation() {
        return NEXT;
    }
    if is_error && may_go_there(&image, &mut ask) {
        return NEXT;
    }
    refuse(&image, ctx.skb.skb, veth, &ask)
}

/// An ICMP error tells of a flow: where that may go, it may. No fence need open ICMP for it.
#[inline(always)]
fn may_go_there(image: &Image, ask: &mut Ask) -> bool {
    let protocol = ask.flow.protocol;
    ask.flow.protocol = protocol::UDP;
    let may = !decide_only(image, ask).violation();
    ask.flow.protocol = protocol;
    if !may {
        // For the record.
        decide_only(image, ask);
    }
    may
}

const UNREADABLE: Flow = Flow {
    remote: Address { hi: 0, lo: 0 },
    port: 0,
    protocol: 0,
    direction: Direction::Outbound,
    flags: flags::UNREADABLE | flags::NO_PORT,
};

/// Fills `flow` if the packet can be read; true for an ICMP error. Out of line for the stack's sake, like all that
/// follows.
#[inline(never)]
fn read(skb: *mut __sk_buff, zero: u64, veth: &Veth, kind: u16, flow: &mut Flow) -> bool {
    let frame = Frame::new(skb, zero);
    // The EtherType chooses the parser of whoever receives it; the version in the header does here. They must agree.
    let version = match kind {
        ethertype::IPV4 => 4,
        ethertype::IPV6 => 6,
        _ => return false,
    };
    if frame.u8(0).is_none_or(|first| first >> 4 != version) {
        return false;
    }
    let Some(p) = parse(&frame) else { return false };
    if is_never_sent_to(p.destination) {
        return false;
    }
    flow.remote.hi = p.destination.hi;
    flow.remote.lo = p.destination.lo;
    flow.port = p.destination_port;
    flow.protocol = p.protocol;
    let life = classify(&frame, &p);
    let mut f = p.flags;
    if life.is_some() {
        f |= flags::STACK;
    }
    let is_needed = life.is_some() && is_before_an_address(p.source);
    if !is_needed && !is_own(veth, p.source.hi, p.source.lo) {
        f |= flags::SPOOFED;
    }
    flow.flags = f;
    matches!(life, Some(Life::Error))
}

/// Out of line for the verifier's sake: a loop of comparisons, walked once and not along every path of the parser.
#[inline(never)]
fn is_own(veth: &Veth, hi: u64, lo: u64) -> bool {
    veth.owns(Address { hi, lo })
}

/// What the fences refuse: unless egress vouched for it, it is recorded and, where a fence enforces, stopped.
#[inline(always)]
fn refuse(image: &Image, skb: *mut __sk_buff, veth: &Veth, ask: &Ask) -> i32 {
    let (flow, zero) = (&ask.flow, image.zero());
    let is_own = flow.flags & (flags::SPOOFED | flags::UNREADABLE) == 0;
    let generation = image.policy().head.generation;
    if is_own && is_vouched_for(skb, zero, veth.workload, ask.now, generation) {
        return NEXT;
    }
    let ifindex = Frame::new(skb, zero).ifindex();
    match stand_in(ifindex, flow) {
        Some(state) => {
            if state.cgroup == 0 {
                sign(skb, zero, veth, state);
            }
            witness(image, state, ask);
        }
        None => count(Counter::NoStorage),
    }
    let blocked = ask.verdict().blocked();
    if let Some(counts) = veth_counts(ifindex) {
        add(if blocked { &mut counts.blocked } else { &mut counts.would_block }, 1);
    }
    if blocked { DROP } else { NEXT }
}

/// What stands in for the socket.
#[inline(never)]
fn stand_in(ifindex: u32, flow: &Flow) -> Option<&'static mut SockState> {
    trace(&Trace::of(ifindex, flow))
}

/// What is known of who sent it: the workload and the source address, no process.
#[inline(never)]
fn sign(skb: *mut __sk_buff, zero: u64, veth: &Veth, state: &mut SockState) {
    state.cgroup = veth.cgroup;
    state.workload = veth.workload;
    let Some(p) = parse(&Frame::new(skb, zero)) else { return };
    state.local.hi = p.source.hi;
    state.local.lo = p.source.lo;
    state.local_port = u64::from(p.source_port);
    state.flags |= sock_flags::LOCAL;
}
