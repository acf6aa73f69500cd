//! `cargo xtask test`: all suites, one table, one last line. Which counts run in which tier: `docs/testing.md`.

mod outcome;
mod skips;
mod suites;
pub(crate) mod summary;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::build;
use crate::build_ebpf::{self, Object};
use crate::setup::{self, CURL, IP, NFT, PYTHON, SETPRIV};
use crate::vm;
use crate::workspace;

use outcome::Outcome;
use skips::Allowed;
use suites::Extent;

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                          what continuous integration runs (root)
  cargo xtask test --all                    full counts
  cargo xtask test --only host              no root, no kernel-side compiler
  cargo xtask test --only kernel enforce    kernel tests whose name contains `enforce`";

/// Run the tests: unit, property and host suites, then the kernel suite here and on Debian's kernels.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Full counts instead of those that fit continuous integration
    #[arg(long)]
    all: bool,
    /// Only this suite (may be repeated)
    #[arg(long, value_enum)]
    only: Vec<Suite>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Unit and property tests, and the suites that need neither root nor a kernel
    Host,
    /// Examples in documentation
    Doc,
    /// Real programs in the running kernel (root)
    Kernel,
    /// The same on Debian's kernels, in an emulator
    Vm,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let allowed = Allowed::load()?;
    let wants = |suite| args.only.is_empty() || args.only.contains(&suite);
    let extent = Extent { filter: args.filter.as_deref(), tier: if args.all { "all" } else { "default" } };
    let mut outcomes = Vec::new();

    // First, because the agent embeds it: the other way round everything would be built twice.
    let object = if wants(Suite::Kernel) || wants(Suite::Vm) {
        build_ebpf::build(&[Object::Production, Object::Probe])
    } else {
        Ok(())
    };
    if wants(Suite::Host) {
        outcomes.push(suites::host(extent).unwrap_or_else(|error| Outcome::not_run("host", error)));
    }
    if wants(Suite::Doc) {
        outcomes.push(suites::doc(extent).unwrap_or_else(|error| Outcome::not_run("doc", error)));
    }
    match object {
        // Without the object neither can start; one entry says so for both.
        Err(error) => outcomes.push(Outcome::not_run("kernel, vm", error)),
        Ok(()) => {
            if wants(Suite::Kernel) {
                outcomes.push(kernel(extent).unwrap_or_else(|error| Outcome::not_run("kernel", error)));
            }
            if wants(Suite::Vm) {
                match suites::machines(&vm::MATRIX, extent) {
                    Ok(machines) => outcomes.extend(machines),
                    Err(error) => outcomes.push(Outcome::not_run("vm", error)),
                }
            }
        }
    }

    let (text, good) = outcome::report(&outcomes, &allowed);
    println!("{text}");
    if let Some(filter) = &args.filter
        && good
        && outcomes.iter().all(|outcome| outcome.summary.is_empty())
    {
        bail!("no test has `{filter}` in its name");
    }
    if !good {
        bail!("some tests failed (above)");
    }
    Ok(())
}

fn kernel(extent: Extent<'_>) -> Result<Outcome> {
    workspace::require_root("test")?;
    setup::packages(&[IP, NFT, CURL, PYTHON, SETPRIV])?;
    build::both_agents()?;
    suites::kernel(extent)
}
