//! `cargo xtask demo`: a fence at work, in a world of its own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::build_ebpf::{self, Object};
use crate::run::Step;
use crate::setup::{self, CURL, IP, PYTHON, Tool};
use crate::{build, workspace};

/// Watch two workloads reach some countries and be refused others (root; under a minute once built).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo -E env \"PATH=$PATH\" cargo xtask demo")]
pub(crate) struct Args {
    /// Handed to the demo
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    become_program("demo", &[IP, CURL, PYTHON], &args.arguments)
}

/// Sets up, builds the agent and the binary `name` of the package agent-tests, and then *becomes* that binary: Ctrl-C,
/// the terminal and the exit code are its own, and no parent is left to wait for.
pub(crate) fn become_program(name: &str, tools: &[Tool], arguments: &[OsString]) -> Result<()> {
    workspace::require_root(name)?;
    setup::packages(tools)?;
    build_ebpf::build(&[Object::Production, Object::Probe])?;
    build::agent()?;
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", "agent-tests", "--bin", name]);
    Step::new(format!("{name} (release)"), format!("build-{name}"), command).run()?;

    let program = workspace::target("release").join(name);
    let mut command = workspace::command(&program);
    command
        .env("RINGFENCE_BIN", build::binary())
        .env("RINGFENCE_EBPF_OBJECT", Object::Production.path())
        .env("RINGFENCE_PROBE_OBJECT", Object::Probe.path())
        .args(arguments);
    Err(command.exec()).with_context(|| format!("cannot start {}", program.display()))
}
