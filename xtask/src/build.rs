//! `cargo xtask build`: the kernel object, then `target/release/ringfence` with it inside.

use std::path::PathBuf;

use anyhow::Result;

use crate::build_ebpf::{self, Object};
use crate::run::Step;
use crate::workspace;

/// Build `target/release/ringfence`, the kernel object inside.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask build && target/release/ringfence --help")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    build_ebpf::build(&[Object::Production])?;
    agent()?;
    println!("{}", workspace::shown(&binary()));
    Ok(())
}

/// The agent's binary: fixed by name.
pub(crate) fn binary() -> PathBuf {
    workspace::target("release/ringfence")
}

/// Builds the agent with the kernel object that is there.
pub(crate) fn agent() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", "agent", "--bin", "ringfence"]);
    Step::new("agent (release)", "build-agent", command).run()?;
    Ok(())
}
