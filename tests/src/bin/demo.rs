//! `cargo xtask demo`: see [`agent_tests::demo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_tests::demo::run()
}
