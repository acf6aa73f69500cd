//! The host layer: what leaves a pod without passing a socket of it, judged where it enters the node.

mod audit;
mod covers;
mod frames;
mod kinds;
mod replies;
mod sockets;
mod stage;

use std::fs;

use anyhow::{Context, Result};
use libtest_mimic::Trial;

use crate::flows::Address;
use crate::suite::{Outcome, Place, trial};

/// `--host-layer`, and what then guards.
const LAYERS: [(&str, &str); 2] = [("auto", "tcx"), ("clsact", "clsact")];

type Test = fn() -> Result<Outcome>;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (layer, how) in LAYERS {
        for (address, version) in [(Address::V4, "v4"), (Address::V6, "v6")] {
            let name = format!("host::no_{version}_frame_of_a_packet_socket_leaves_{how}");
            all.push(trial(Place::Anywhere, name, move || {
                unless_missing(how, || frames::forbidden(layer, how, address))
            }));
        }
    }
    for (layer, how) in LAYERS {
        let name = format!("host::a_guard_by_{how}_outlives_a_kill_and_not_its_fence");
        all.push(trial(Place::Anywhere, name, move || {
            unless_missing(how, || frames::outlives_a_kill(layer))
        }));
    }
    for (kind, name, passes) in kinds::KINDS {
        let claim = if passes { "passes" } else { "is_stopped" };
        all.push(trial(Place::Anywhere, format!("host::{name}_{claim}"), move || {
            kinds::foreign(kind, name, passes)
        }));
    }
    let more: [(&str, Test); 11] = [
        ("a_source_that_is_not_the_pods_is_stopped", frames::spoofed),
        ("a_header_that_is_not_what_its_ethertype_says_is_stopped", kinds::mislabelled),
        ("the_kernels_own_answers_go_where_the_fence_lets_the_pod_send", replies::of_the_kernel),
        ("flows_of_sockets_do_not_notice", sockets::allowed_flows),
        ("pieces_of_an_allowed_datagram_pass_and_others_do_not", sockets::fragments),
        ("an_accepted_connection_is_answered_and_a_forged_segment_is_not_sent", sockets::accepted),
        ("an_audit_fence_lets_frames_pass_and_reports_them_once", audit::reports_and_lets_pass),
        ("a_detached_guard_is_attached_again_and_told", || unless_missing("tcx", covers::a_detached_guard)),
        ("a_new_pod_is_guarded_and_finds_its_neighbours", covers::a_new_pod),
        (
            "a_shared_namespace_is_not_guarded_and_a_fence_that_requires_it_is_degraded",
            covers::a_shared_namespace,
        ),
        ("a_workload_on_the_hosts_network_is_said_to_have_no_interface", covers::the_hosts_network),
    ];
    all.extend(more.map(|(name, test)| trial(Place::Anywhere, format!("host::{name}"), test)));
    all
}

/// Runs `test` where this kernel can attach by tcx (6.6 and later: commit e420bed02507), else skips what needs it.
/// There the layer chooses clsact by itself, which the tests beside it show.
fn unless_missing(how: &str, test: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    if how == "tcx" && !has_tcx()? {
        return Ok(Outcome::Skipped("this kernel has no tcx: it came with 6.6".into()));
    }
    test()
}

fn has_tcx() -> Result<bool> {
    has_symbol("tcx_link_attach")
}

/// Whether the running kernel has a function of this name: asked of the kernel, not of the agent under test.
fn has_symbol(name: &str) -> Result<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    Ok(symbols
        .lines()
        .any(|line| line.split_whitespace().nth(2).is_some_and(|it| it.split('.').next() == Some(name))))
}
