//! `cargo xtask bench`: what the fence costs, beside its peers, as ratios within one run.

use std::ffi::OsString;

use anyhow::Result;

use crate::demo::become_program;
use crate::setup::{IP, IPERF, NFT};

/// Measure what the fence costs, beside nftables and the kernel's own prefix trie (root).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo -E env \"PATH=$PATH\" cargo xtask bench")]
pub(crate) struct Args {
    /// Handed to the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    become_program("bench", &[IP, NFT, IPERF], &args.arguments)
}
