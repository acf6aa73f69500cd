//! Any packet is read or refused; a port that can't be seen is never made up; what a stack needs to live is never what
//! could cross a router, but for DHCP.
#![no_main]

use agent_common::bytes::Slice;
use agent_common::flow::flags::NO_PORT;
use agent_common::flow::protocol::UDP;
use agent_common::parse::ip::parse;
use agent_common::parse::stack::{Life, classify};

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    let Some(p) = parse(&Slice(packet)) else { return };
    assert!(p.flags & NO_PORT == 0 || (p.source_port, p.destination_port) == (0, 0));
    match classify(&Slice(packet), &p) {
        Some(Life::Neighbour) => assert_eq!(packet[7], 255),
        Some(Life::Membership) => assert_eq!(if packet[0] >> 4 == 4 { packet[8] } else { packet[7] }, 1),
        Some(Life::Dhcp) => assert_eq!(p.protocol, UDP),
        Some(Life::Error) | None => {}
    }
    assert!(p.flags & NO_PORT != 0 || p.upper as usize + 4 <= packet.len());
});
