//! The kernel suite: the real binary, the real kernel, real sockets, and a judge on the wire.
//!
//! Needs root. `cargo xtask test` builds what it needs and sets `RINGFENCE_BIN` (the binary under test),
//! `RINGFENCE_EBPF_OBJECT` and `RINGFENCE_PROBE_OBJECT` (the kernel objects), `RINGFENCE_TIER` (`default` or
//! `all`) and, in a virtual machine, `RINGFENCE_VM=1`.
//!
//! One file is one claim. Each test about a fence has three acts, judged by the sniffer: with the fence off the
//! traffic arrives; with the fence on it does what the claim says; with the agent stopped, which detaches
//! its hooks, **the same judgement must fail**. The third act is the mutant: a judge that cannot see a leak would
//! be found out.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod audit;
mod birth;
mod bypass;
mod degraded;
mod doctor;
mod enforce;
mod errno;
mod exception;
mod flip;
mod flows;
mod harness;
mod host;
mod hybrid;
mod live;
mod load;
mod observe;
mod overflow;
mod pins;
mod policies;
mod privileges;
mod probe;
mod protocols;
mod reload;
mod scene;
mod suite;
mod watchdog;

use std::process::ExitCode;

use agent_tests::{actor, verifier};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    // This binary is also the workload, and the process that loads objects with few privileges.
    actor::serve_if_asked();
    verifier::serve_if_asked();

    let mut arguments = Arguments::from_args();
    // Tests share the machine's CPUs with what they measure and judge.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let trials = [
        harness::trials(),
        load::trials(),
        probe::trials(),
        enforce::trials(),
        audit::trials(),
        errno::trials(),
        host::trials(),
        exception::trials(),
        observe::trials(),
        reload::trials(),
        flip::trials(),
        protocols::trials(),
        birth::trials(),
        live::trials(),
        doctor::trials(),
        degraded::trials(),
        hybrid::trials(),
        pins::trials(),
        overflow::trials(),
        privileges::trials(),
        watchdog::trials(),
        bypass::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
