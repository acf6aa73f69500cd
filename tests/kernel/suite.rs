//! From test functions to trials: skips are said and counted, failures show the whole chain of causes.

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

/// How a test ended that did not fail.
pub(crate) enum Outcome {
    /// Its claim holds.
    Passed,
    /// It could not be tried here, and why.
    Skipped(String),
}

/// Where a test can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere, also in a virtual machine with nothing but a kernel and this binary.
    Anywhere,
    /// Only on a host: takes too long under emulation, or needs more than a kernel.
    Host,
}

/// How much work the tests with counts do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// What runs on every change.
    Default,
    /// Full counts.
    All,
}

impl Tier {
    /// From `RINGFENCE_TIER`; an unknown word is the default tier, and said.
    pub(crate) fn from_environment() -> Self {
        match std::env::var("RINGFENCE_TIER").as_deref() {
            Ok("all") => Self::All,
            Ok("default") | Err(_) => Self::Default,
            Ok(other) => {
                println!("RINGFENCE_TIER={other} is neither `default` nor `all`: running the default tier");
                Self::Default
            }
        }
    }
}

/// Files whose tests take minutes in an emulator: in a virtual machine they run with full counts only.
const PATIENT: [&str; 7] =
    ["birth::", "degraded::", "doctor::", "live::", "pins::", "protocols::", "watchdog::"];

/// A trial that passes, fails or prints `SKIP name: reason`. Names are written as Rust writes them, `file::claim`,
/// because `cargo xtask test` reads them from that line.
pub(crate) fn trial(
    place: Place,
    name: impl Into<String>,
    test: impl FnOnce() -> Result<Outcome> + Send + 'static,
) -> Trial {
    let name = name.into();
    let shown = name.clone();
    Trial::ignorable_test(name, move || {
        let patient = || PATIENT.iter().any(|file| shown.starts_with(file));
        let skip = if place == Place::Host && in_vm() {
            Outcome::Skipped("runs on a host, not in a virtual machine".into())
        } else if in_vm() && patient() && Tier::from_environment() == Tier::Default {
            Outcome::Skipped("takes long in an emulator: it runs there with --all".into())
        } else {
            test().map_err(|error| Failed::from(format!("{error:#}")))?
        };
        match skip {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Skipped(reason) => {
                println!("\nSKIP {shown}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
        }
    })
}

/// The suite runs in a virtual machine of `cargo xtask vm`.
pub(crate) fn in_vm() -> bool {
    std::env::var_os("RINGFENCE_VM").is_some_and(|value| value == "1")
}
