//! `cgroup_skb/ingress`: counts what comes in for flows that are already known. It never blocks.
//!
//! Kernel: `sk_filter_trim_cap`, since 4.10.
//!
//! *On error:* the packet passes uncounted.

use agent_common::flow::{Direction, Flow, protocol};
use agent_common::parse::ip::parse;
use agent_common::sock::{SLOTS, adopt, find, sock_flags};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::ctx::Skb;
use crate::maps::{add, control, storage};

#[cgroup_skb]
fn ringfence_ingress(ctx: SkBuffContext) -> i32 {
    let _: Option<()> = tally(ctx);
    1
}

#[inline(always)]
fn tally(ctx: SkBuffContext) -> Option<()> {
    let zero = control()?.zero;
    let skb = Skb::new(ctx.skb.skb, zero);
    let sock = skb.sock();
    if sock.is_null() {
        return None;
    }
    let state = storage(sock, false)?;
    let p = parse(&skb)?;
    let flow = Flow {
        remote: p.source,
        port: p.source_port,
        protocol: p.protocol,
        direction: Direction::Inbound,
        flags: p.flags,
    };
    let bytes = u64::from(skb.len());
    let packets = u64::from(skb.segments().max(1));
    if state.flags & sock_flags::CONNECTED == 0 && p.protocol == protocol::TCP {
        adopt(state, skb.cookie());
    }
    match find(state, &flow) {
        Some(at) => {
            let slot = &mut state.slots[at & (SLOTS - 1)];
            add(&mut slot.rx_bytes, bytes);
            add(&mut slot.rx_packets, packets);
        }
        None if p.protocol == protocol::TCP => {
            // An accepted socket's first request comes before its first answer opens the flow.
            add(&mut state.early_bytes, bytes);
            add(&mut state.early_packets, packets);
        }
        None => {}
    }
    Some(())
}
