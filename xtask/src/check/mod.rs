//! `cargo xtask check`: everything about the sources that a machine can judge, in order, all of it even if one fails.

mod links;
mod source;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::Step;
use crate::setup;
use crate::workspace::{self, HOST_PACKAGES};
use crate::{apt, build_ebpf};

const EXAMPLES: &str = "\
Examples:
  cargo xtask check           formatting, lints, documentation, links, licences
  cargo xtask check --deny    install cargo-deny first, if it is not there";

/// The `[[test]]` of agent-proto that compares the committed code with the .proto files.
const DRIFT_TEST: &str = "drift";

/// Check formatting, lints, generated code, documentation, links, licences.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Install cargo-deny, if it is not there, so that licences and advisories are checked
    #[arg(long)]
    deny: bool,
}

/// What cargo-deny says when it can't fetch the advisories, which is nothing against the sources.
const NO_ADVISORIES: &str = "failed to fetch advisory database";

type Check = (&'static str, fn(&Args) -> Result<()>);

const CHECKS: [Check; 8] = [
    ("formatting", formatting),
    ("links", |_| links::check()),
    ("sources", |_| source::check()),
    ("host lints", host_lints),
    ("kernel-side lints", kernel_side_lints),
    ("generated code", generated_code),
    ("documentation", documentation),
    ("licences", licences),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check(args) {
            eprintln!("\n{name}: {error:#}\n");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("not good yet: {}", failed.join(", "));
    }
    println!("all {} checks are good", CHECKS.len());
    Ok(())
}

fn step(title: &str, log: &str, command: Command) -> Result<()> {
    Step::new(title, format!("check-{log}"), command).run().map(drop)
}

fn formatting(_: &Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["fmt", "--all", "--check", "--", "-l", "--color", "never"]);
    step("formatting", "fmt", command).context("`cargo fmt --all` mends it")
}

fn host_lints(_: &Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.arg("clippy").args(HOST_PACKAGES).args(["--all-targets", "--", "-Dwarnings"]);
    step("lints of the host side", "clippy", command)
}

/// With the kernel side's own clippy, if it has one or one can be installed; else the compiler's warnings alone.
fn kernel_side_lints(_: &Args) -> Result<()> {
    let kernel_side = setup::kernel_side()?;
    let clippy = kernel_side.compiler.cargo.with_file_name("cargo-clippy");
    if !clippy.is_file() && apt::may_install() && kernel_side.compiler.is_debian_web() {
        apt::install(&["rust-web-clippy"])?;
    }
    for (title, features) in [("kernel side", &[][..]), ("kernel side with probe", &["--features", "probe"])]
    {
        let mut command;
        if clippy.is_file() {
            command = build_ebpf::cargo_with(&kernel_side, &clippy, "clippy", &[]);
            command.args(features).args(["--bin", "ringfence-ebpf", "--", "-Dwarnings"]);
        } else {
            println!("the compiler of the kernel side has no clippy: its own warnings are denied instead");
            let cargo = &kernel_side.compiler.cargo;
            command = build_ebpf::cargo_with(&kernel_side, cargo, "check", &["-Dwarnings"]);
            command.args(features).args(["--bin", "ringfence-ebpf"]);
        }
        step(&format!("lints of the {title}"), "clippy-ebpf", command)?;
    }
    Ok(())
}

fn generated_code(_: &Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.arg("test").args(HOST_PACKAGES).args(["--test", DRIFT_TEST]);
    step("generated gRPC code matches the .proto files", "drift", command)
}

fn documentation(_: &Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.arg("doc").args(HOST_PACKAGES).args(["--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    step("documentation", "doc", command)
}

fn licences(args: &Args) -> Result<()> {
    if workspace::find_program("cargo-deny").is_none() {
        if !args.deny {
            println!(
                "· licences and advisories: not checked, cargo-deny is not installed (`cargo xtask check --deny`)"
            );
            return Ok(());
        }
        let mut command = workspace::cargo();
        command.args(["install", "--locked", "cargo-deny"]);
        step("building cargo-deny", "install-deny", command)?;
    }
    step("licences, sources and duplicates", "deny", deny(&["bans", "licenses", "sources"]))?;

    let mut unreachable = false;
    let known = Step::new("advisories", "advisories", deny(&["advisories"]))
        .run_reading(|line| unreachable |= line.contains(NO_ADVISORIES))?;
    if unreachable {
        println!("· advisories: NOT CHECKED, their database can't be reached from here");
        return Ok(());
    }
    known.succeeded().map(drop)
}

fn deny(what: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.args(["deny", "--color", "never", "--all-features", "--config", ".deny.toml", "check"]);
    command.args(["--hide-inclusion-graph"]).args(what);
    command
}
