//! Any packet is read or refused; a port that can't be seen is never made up.
#![no_main]

use agent_common::bytes::Slice;
use agent_common::flow::flags::NO_PORT;
use agent_common::parse::ip::parse;

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    let Some(p) = parse(&Slice(packet)) else { return };
    assert!(p.flags & NO_PORT == 0 || (p.source_port, p.destination_port) == (0, 0));
    assert!(p.flags & NO_PORT != 0 || p.upper as usize + 4 <= packet.len());
});
