//! Ring bytes are an event or an error; every number of an event stands for something.
#![no_main]

use agent_common::verdict::Reason;
use agent_common::wire::{Event, Hook, Phase};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Event::decode(bytes) else { return };
    assert!(Phase::try_from(event.phase).is_ok() && Hook::try_from(event.hook).is_ok());
    assert!(Reason::try_from((event.outcome >> 16) as u8).is_ok());
});
