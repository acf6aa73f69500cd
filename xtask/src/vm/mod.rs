//! `cargo xtask vm <versions…>`: the kernel suite on Debian's kernels, in an emulator without hardware help.
//!
//! The machine is an initramfs that we write ourselves: busybox, the statically linked suite and agent, the kernel
//! objects and a few modules. It has no network card and no disk.

mod cpio;
mod debian;
mod initramfs;
mod modules;
mod qemu;
pub(crate) mod verifier;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build_ebpf::{self, Object};
use crate::run::Step;
use crate::setup::{self, BUSYBOX, IP, QEMU, SETPRIV, XZ};
use crate::test::summary::Summary;
use crate::workspace;

pub(crate) use debian::Series;

/// The kernels that are claimed, beside the one that is running.
pub(crate) const MATRIX: [&str; 2] = ["6.1", "6.12"];

const EXAMPLES: &str = "\
Examples:
  cargo xtask vm 6.1 6.12                    the kernel suite on both
  cargo xtask vm 6.1 --filter load           only the tests whose name contains `load`
  cargo xtask vm 6.1 6.12 --update           fetch the newest kernels of these series first
  cargo xtask vm 6.1 6.12 --record           and write the table of docs/verifier.md";

/// Run the kernel suite on Debian's kernels, in an emulator (no root, once the packages are there).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Kernel series, such as 6.1
    #[arg(required = true, value_name = "VERSION")]
    series: Vec<Series>,
    /// Run only the tests whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// Full counts
    #[arg(long)]
    all: bool,
    /// Fetch the newest kernel of each series, even if one is there
    #[arg(long)]
    update: bool,
    /// Write the verifier's figures, with those of the running kernel, into docs/verifier.md
    #[arg(long)]
    record: bool,
    /// Give a machine up after so many seconds
    #[arg(long, default_value_t = 900, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=7200))]
    deadline: u64,
}

/// What to run in each machine.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) filter: Option<&'a str>,
    /// Value of `RINGFENCE_TIER`.
    pub(crate) tier: &'static str,
    pub(crate) deadline: Duration,
}

/// What a machine had to say.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) summary: Summary,
    pub(crate) seconds: f64,
    /// Why this run is a failure, if it is one.
    pub(crate) failure: Option<anyhow::Error>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.update {
        for series in &args.series {
            debian::forget(series)?;
        }
    }
    build_ebpf::build(&[Object::Production, Object::Probe])?;
    let payload = Payload::build()?;
    let tier = if args.all { "all" } else { "default" };
    let plan = Plan { filter: args.filter.as_deref(), tier, deadline: Duration::from_secs(args.deadline) };
    let mut failed = Vec::new();
    for series in &args.series {
        let report = payload.boot(series, &plan)?;
        println!("  Linux {series}: {}", report.summary);
        if let Some(error) = report.failure {
            eprintln!("{error:#}");
            failed.push(series.to_string());
        }
    }
    if !failed.is_empty() {
        bail!("the kernel suite failed on Linux {}", failed.join(", "));
    }
    if args.record {
        verifier::record()?;
    }
    Ok(())
}

/// The statically linked programs: whatever C library the machine has, there is none in it.
pub(crate) struct Payload {
    suite: PathBuf,
    agent: PathBuf,
}

impl Payload {
    /// Sets up the emulator's packages and builds the suite and the agent.
    pub(crate) fn build() -> Result<Self> {
        setup::packages(&[QEMU, BUSYBOX, IP, XZ, SETPRIV])?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut command = workspace::cargo();
        command
            .args(["build", "--target", &triple, "-p", "agent", "-p", "agent-tests"])
            .args(["--bin", "ringfence", "--test", "kernel", "--message-format", "json-render-diagnostics"])
            .arg("--target-dir")
            .arg(workspace::target("static"))
            // Debug information would be most of what the machine has to unpack.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
        let mut executables = Vec::new();
        Step::new("kernel suite and agent (static)", "build-static", command)
            .run_reading(|line| executables.extend(Executable::parse(line)))?
            .succeeded()?;
        let find = |name: &str| {
            let found = executables.iter().find(|it| it.target == name).map(|it| it.path.clone());
            found.with_context(|| format!("cargo built no executable for the target `{name}`"))
        };
        Ok(Self { suite: find("kernel")?, agent: find("ringfence")? })
    }

    /// Boots the newest known kernel of `series` and runs the suite in it.
    ///
    /// # Errors
    /// The machine could not be made; what happens inside it is in the report.
    pub(crate) fn boot(&self, series: &Series, plan: &Plan<'_>) -> Result<Report> {
        let kernel = debian::kernel(series)?;
        let machine = initramfs::write(&kernel, self, plan)?;
        let log = format!("vm-{series}");
        let mut console = qemu::Console::default();
        let step = Step::new(
            format!("suite on Linux {}", kernel.release),
            log,
            qemu::command(&kernel.image, &machine),
        );
        let ended = step.within(plan.deadline).run_reading(|line| console.line(line));
        let (seconds, failure) = match ended {
            Ok(ended) => (ended.seconds, console.verdict().err().map(|how| ended.failure(&how))),
            Err(error) => (plan.deadline.as_secs_f64(), Some(error)),
        };
        let figures = verifier::Figures::of(&console.lines);
        let failure = failure.or_else(|| figures.check(plan.filter.is_none()).err());
        figures.store(&series.to_string())?;
        Ok(Report { summary: Summary::of(&console.lines), seconds, failure })
    }
}

/// An executable that cargo said it built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    pub(crate) target: String,
    pub(crate) path: PathBuf,
}

impl Executable {
    /// From one line of `--message-format json`; other lines are none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        let target = message.get("target")?.get("name")?.as_str()?;
        Some(Self { target: target.to_owned(), path: path.into() })
    }
}

/// `target/vm`, made.
fn folder() -> Result<PathBuf> {
    let folder = workspace::target("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::Executable;

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}"#;
        let expected = Executable { target: "kernel".to_owned(), path: "/t/kernel-1".into() };
        assert_eq!(Executable::parse(line), Some(expected));
        assert_eq!(Executable::parse(r#"{"target":{"name":"agent"},"executable":null}"#), None);
        assert_eq!(Executable::parse("   Compiling agent v0.1.0"), None);
    }
}
