//! `cargo xtask <verb>`: everything that is done to this repository, one file a verb.
//!
//! What reads commands: [`Verb`]. What runs children: [`run`]. What finds the kernel-side compiler: [`kernel_side`].
//! Continuous integration calls the same verbs (`.ci/run`); there is no second way to build or to test.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod build_ebpf;
mod check;
mod demo;
mod kernel_side;
mod refresh_data;
mod run;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                 see a fence work, in network namespaces of its own (root)
  cargo xtask test                 what continuous integration runs (root)
  cargo xtask test --only host     unit and property tests; no root, no kernel-side compiler
  cargo xtask check                formatting, lints, documentation, links, licences
  cargo xtask vm 6.1 6.12          the kernel suite on Debian's kernels, in an emulator";

/// Builds, tests and shows ringfence. Each verb does its own set-up and says what it does.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Setup(setup::Args),
    BuildEbpf(build_ebpf::Args),
    Build(build::Args),
    Test(test::Args),
    Check(check::Args),
    Vm(vm::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    RefreshData(refresh_data::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => build_ebpf::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::RefreshData(args) => refresh_data::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
