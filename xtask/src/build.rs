//! `cargo xtask build`: the kernel object, then `target/release/ringfence` with it inside.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

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

/// The agent that tests upgrade to and from: the same, but for the layout of maps that it calls its own.
pub(crate) fn other_binary() -> PathBuf {
    workspace::target("release/ringfence-other-schema")
}

/// Builds the agent with the kernel object that is there.
pub(crate) fn agent() -> Result<()> {
    Step::new("agent (release)", "build-agent", build_command()).run()?;
    Ok(())
}

/// Builds [`other_binary`], and then the agent, which cargo puts in the same place.
pub(crate) fn both_agents() -> Result<()> {
    let mut command = build_command();
    command.args(["--features", "other-schema"]);
    Step::new("agent of another layout (release)", "build-other-agent", command).run()?;
    let (from, to) = (binary(), other_binary());
    fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    agent()
}

fn build_command() -> Command {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", "agent", "--bin", "ringfence"]);
    command
}
