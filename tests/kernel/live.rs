//! Flows that are open when a policy, or an exception's end, begins to forbid them: their bytes stop at once, each has
//! one record, and with `--netns-entry` their callers and peers are told. What is allowed, and what is not the
//! workload's, goes on.
//!
//! The judge of "bytes" is the sniffer; of what callers are told, the callers; of what peers are told, the peers.

mod accepted;
mod ended;
mod expiry;
mod herd;
mod silent;

use libtest_mimic::Trial;

use crate::suite::{Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "live::flows_that_a_new_policy_blocks_are_ended_with_one_record_each_and_no_others",
            ended::by_a_policy,
        ),
        trial(
            Place::Anywhere,
            "live::flows_that_are_busy_meanwhile_are_ended_with_one_record_each",
            ended::while_busy,
        ),
        trial(
            Place::Anywhere,
            "live::flows_older_than_the_agent_are_ended_by_its_first_policy",
            ended::by_the_first_policy,
        ),
        trial(
            Place::Anywhere,
            "live::a_socket_of_another_workload_is_not_ended_whoever_holds_it",
            ended::whose_socket_it_is,
        ),
        trial(
            Place::Anywhere,
            "live::accepted_connections_are_ended_unless_the_fence_lets_them_through",
            accepted::by_inbound,
        ),
        trial(
            Place::Anywhere,
            "live::without_netns_entry_blocked_flows_go_silent_with_one_record_each",
            silent::without_entry,
        ),
        trial(Place::Anywhere, "live::the_end_of_an_exception_ends_its_flows_on_time", expiry::on_time),
    ]
}
