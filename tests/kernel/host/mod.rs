//! The host layer: what leaves a pod without passing a socket of it, judged where it enters the node.

mod frames;
mod stage;

use libtest_mimic::Trial;

use crate::flows::Address;
use crate::suite::{Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (layer, how) in [("auto", "tcx"), ("clsact", "clsact")] {
        for (address, version) in [(Address::V4, "v4"), (Address::V6, "v6")] {
            let name = format!("host::no_{version}_frame_of_a_packet_socket_leaves_{how}");
            all.push(trial(Place::Host, name, move || frames::forbidden(layer, how, address)));
        }
    }
    all.push(trial(Place::Host, "host::a_source_that_is_not_the_pods_is_stopped", frames::spoofed));
    all
}
