//! Test-only programs: the production parser, index and verdict behind `BPF_PROG_TEST_RUN`, with the production maps.
//!
//! `cgroup_skb` all: the kernel has no test run for `cgroup_sock_addr` programs. What those call is the same global
//! functions, which the verifier checks in each program by themselves.

use agent_common::address::Address;
use agent_common::bytes::{Loop, Step};
use agent_common::flow::{Direction, Flow};
use agent_common::parse::ip::parse;
use agent_common::parse::stack;
use agent_common::probe::{BATCH, Batch, PacketAnswer, PlaceQuestion, VerdictQuestion};
use agent_common::sock::Who;
use agent_common::verdict::places_of;
use agent_common::wire::Hook;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, cgroup_skb};
use aya_ebpf::programs::SkBuffContext;

use crate::ctx::{Skb, boot_time};
use crate::judge::{Ask, decide_only};
use crate::maps::{Image, control, lookup};

#[btf_map]
static PROBE_PLACES: Array<Batch<PlaceQuestion>, 1> = Array::new();
#[btf_map]
static PROBE_PACKET: Array<PacketAnswer, 1> = Array::new();
#[btf_map]
static PROBE_VERDICTS: Array<Batch<VerdictQuestion>, 1> = Array::new();

/// What a program returns that did its work; `BPF_PROG_TEST_RUN` shows it.
const DONE: i32 = 1;
const FAILED: i32 = 0;

/// A batch of questions, answered in place.
struct Each<T: 'static> {
    image: Image,
    batch: &'static mut Batch<T>,
}

/// Answers `PROBE_PLACES`.
#[cgroup_skb]
fn probe_places(_: SkBuffContext) -> i32 {
    let Some(image) = Image::fetch() else { return FAILED };
    let Some(batch) = lookup(&raw const PROBE_PLACES, &0u32) else { return FAILED };
    image.repeat(BATCH as u32, &mut Each::<PlaceQuestion> { image, batch });
    DONE
}

impl Step for Each<PlaceQuestion> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let q = &mut self.batch.0[i as usize & (BATCH - 1)];
        let (first, second) = places_of(&self.image, q.address);
        q.first = u64::from(first);
        q.second = u64::from(second);
        false
    }
}

/// Reads the packet that it runs on into `PROBE_PACKET`.
#[cgroup_skb]
fn probe_parse(ctx: SkBuffContext) -> i32 {
    let Some(control) = control() else { return FAILED };
    let Some(answer) = lookup::<_, _, PacketAnswer>(&raw const PROBE_PACKET, &0u32) else { return FAILED };
    let skb = Skb::new(ctx.skb.skb, control.zero);
    let Some(p) = parse(&skb) else {
        // The rest is what the asker wrote: it expects that to be untouched.
        answer.readable = 0;
        return DONE;
    };
    answer.readable = 1;
    answer.source = p.source;
    answer.destination = p.destination;
    answer.protocol = u64::from(p.protocol);
    answer.flags = u64::from(p.flags | stack::flag(&skb, &p));
    answer.upper = u64::from(p.upper);
    answer.source_port = u64::from(p.source_port);
    answer.destination_port = u64::from(p.destination_port);
    DONE
}

/// Answers `PROBE_VERDICTS`.
#[cgroup_skb]
fn probe_decide(_: SkBuffContext) -> i32 {
    let Some(image) = Image::fetch() else { return FAILED };
    let Some(batch) = lookup(&raw const PROBE_VERDICTS, &0u32) else { return FAILED };
    image.repeat(BATCH as u32, &mut Each::<VerdictQuestion> { image, batch });
    DONE
}

impl Step for Each<VerdictQuestion> {
    #[inline(always)]
    fn step(&mut self, i: u32) -> bool {
        let q = &mut self.batch.0[i as usize & (BATCH - 1)];
        let direction =
            if q.direction == Direction::Inbound as u64 { Direction::Inbound } else { Direction::Outbound };
        let flow = Flow {
            remote: Address { hi: q.remote.hi, lo: q.remote.lo },
            port: q.port as u16,
            protocol: q.protocol as u8,
            direction,
            flags: q.flags as u32,
        };
        let who = Who { stamp: 0, workload: 0, set: q.set as u32 };
        let mut ask = Ask::new(flow, who, Hook::Egress, 0);
        q.before = boot_time();
        q.decision = decide_only(&self.image, &mut ask).0;
        q.after = boot_time();
        q.until = ask.until;
        false
    }
}
