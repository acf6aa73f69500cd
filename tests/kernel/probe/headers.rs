//! (b) IP headers.

use agent_common::address::Address;
use agent_common::bytes::Slice;
use agent_common::flow::flags::STACK;
use agent_common::parse::ip::parse;
use agent_common::parse::stack;
use agent_common::probe::{PacketAnswer, UNANSWERED};
use anyhow::{Result, ensure};

use super::draw::Draw;
use super::{Probe, count};
use crate::suite::Outcome;

const NOWHERE: Address = Address { hi: UNANSWERED, lo: UNANSWERED };

const UNREAD: PacketAnswer = PacketAnswer {
    readable: UNANSWERED,
    source: NOWHERE,
    destination: NOWHERE,
    protocol: UNANSWERED,
    flags: UNANSWERED,
    upper: UNANSWERED,
    source_port: UNANSWERED,
    destination_port: UNANSWERED,
};

pub(super) fn run() -> Result<Outcome> {
    let mut probe = Probe::load()?;
    let mut map = probe.array::<PacketAnswer>("PROBE_PACKET")?;
    let mut draw = Draw::new(13);
    let (mut readable, mut unreadable, mut living) = (0usize, 0usize, 0usize);
    let mut check = |packet: &[u8]| -> Result<()> {
        map.set(0, UNREAD, 0)?;
        probe.run("probe_parse", packet)?;
        let (kernel, host) = (map.get(&0, 0)?, on_the_host(packet));
        ensure!(kernel == host, "{packet:02x?}:\nkernel {kernel:?}\nhost   {host:?}");
        living += usize::from(kernel.readable == 1 && kernel.flags & u64::from(STACK) != 0);
        *if host.readable == 1 { &mut readable } else { &mut unreadable } += 1;
        Ok(())
    };
    for _ in 0..count(300, 3000, 30) {
        // Every way to cut a packet short; the test run takes none of zero bytes.
        let packet = match draw.below(5) {
            0 => life(&mut draw),
            1 | 2 => v4(&mut draw),
            _ => v6(&mut draw),
        };
        for end in 1..=packet.len() {
            check(&packet[..end])?;
        }
    }
    for _ in 0..count(10_000, 200_000, 1000) {
        let mut packet: Vec<u8> = (0..=draw.below(100)).map(|_| draw.u64() as u8).collect();
        packet[0] = packet[0] & 15 | draw.of(&[0x40, 0x60, packet[0] & 0xf0]);
        check(&packet)?;
    }
    ensure!(living > 10, "only {living} of what a stack needs to live: one-sided");
    ensure!(readable > 1000 && unreadable > 1000, "{readable} readable, {unreadable} unreadable: one-sided");
    Ok(Outcome::Passed)
}

fn on_the_host(packet: &[u8]) -> PacketAnswer {
    match parse(&Slice(packet)) {
        None => PacketAnswer { readable: 0, ..UNREAD },
        Some(p) => PacketAnswer {
            readable: 1,
            source: p.source,
            destination: p.destination,
            protocol: p.protocol.into(),
            flags: (p.flags | stack::flag(&Slice(packet), &p)).into(),
            upper: p.upper.into(),
            source_port: p.source_port.into(),
            destination_port: p.destination_port.into(),
        },
    }
}

/// TCP, UDP, ICMP, SCTP, DCCP, UDP-Lite, ESP, and what has no name.
const PROTOCOLS: [u8; 9] = [6, 17, 1, 58, 132, 33, 136, 50, 253];

fn upper(draw: &mut Draw, packet: &mut Vec<u8>) {
    packet.extend((0..draw.of(&[3, 4, 8, 20, 24])).map(|_| draw.u64() as u8));
}

/// Any number of options, fragments of all kinds.
fn v4(draw: &mut Draw) -> Vec<u8> {
    let words = draw.of(&[5, 5, 5, 6, 7, 15, 0, 4]);
    let mut packet: Vec<u8> = (0..usize::from(words.max(5)) * 4).map(|_| draw.u64() as u8).collect();
    packet[0] = 0x40 | words;
    let fragment: u16 = draw.of(&[0, 0, 0x4000, 0x2000, 0x2001, 0x1fff, 0x0001, 0x8000]);
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = draw.of(&PROTOCOLS);
    upper(draw, &mut packet);
    packet
}

/// What a network stack needs to live, and now and then a byte of it changed.
fn life(draw: &mut Draw) -> Vec<u8> {
    let v4 = |rest: &[u8], words: u8, ttl: u8, protocol: u8| {
        let mut packet =
            vec![0x40 | words, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0, 10, 0, 0, 2, 224, 0, 0, 22];
        packet.extend(rest);
        packet
    };
    let v6 = |next: u8, hops: u8, rest: &[u8]| {
        let mut packet = vec![0; 40];
        (packet[0], packet[6], packet[7], packet[24], packet[25]) = (0x60, next, hops, 0xff, 2);
        packet.extend(rest);
        packet
    };
    let mut packet = match draw.below(5) {
        0 => v4(&[148, 4, 0, 0, 0x22, 0, 0, 0], 6, 1, 2),
        1 => v4(&[0, 68, 0, 67, 0, 8, 0, 0], 5, 64, 17),
        2 => v6(0, 1, &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0]),
        3 => v6(58, 255, &[135, 0, 0, 0]),
        _ => v6(17, 64, &[2, 34, 2, 35, 0, 8, 0, 0]),
    };
    if draw.one_in(2) {
        let at = draw.below(packet.len() as u64) as usize;
        let any = draw.u64() as u8;
        packet[at] = draw.of(&[0, 1, packet[at] ^ 1, any]);
    }
    packet
}

/// Extension headers that are walked (RFC 8200 section 4, RFC 4302, 6275, 7401, 5533), and some that are not.
const EXTENSIONS: [u8; 10] = [0, 43, 44, 51, 60, 135, 139, 140, 59, 50];

/// Chains of up to ten headers, most of them well-formed, some with a length that leads beyond the packet.
fn v6(draw: &mut Draw) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..40).map(|_| draw.u64() as u8).collect();
    packet[0] = 0x60 | packet[0] & 15;
    let mut next = 6;
    for _ in 0..draw.below(11) {
        let kind = draw.of(&EXTENSIONS);
        packet[next] = kind;
        next = packet.len();
        let units = draw.below(3) as u8;
        let (field, bytes) = match kind {
            44 => (draw.u64() as u8, 8),
            51 => (units, (usize::from(units) + 2) * 4),
            _ => (units, (usize::from(units) + 1) * 8),
        };
        packet.extend((0..bytes).map(|_| draw.u64() as u8));
        packet[next + 1] = if draw.one_in(30) { 0xff } else { field };
        if kind == 44 {
            let offset: u16 = draw.of(&[0, 0, 1, 6, 8, 0xfff8]);
            packet[next + 2..next + 4].copy_from_slice(&offset.to_be_bytes());
        }
    }
    packet[next] = draw.of(&PROTOCOLS);
    upper(draw, &mut packet);
    packet
}
