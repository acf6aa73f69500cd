//! `ringfence run`: the agent.

use std::path::PathBuf;

use anyhow::Result;

use crate::config::RawConfig;
use crate::supervise;

const EXAMPLES: &str = "\
Examples:
  ringfence run                                       observe every workload of this host
  ringfence run --policy /etc/ringfence/fences/       what the fences say, live on change
  ringfence run --policy crm.yaml --cgroup-root /sys/fs/cgroup/system.slice --errno ECONNREFUSED
  ringfence run --config /etc/ringfence/config.yaml   the same keys in a file, in camelCase (cgroupRoot: …)

Ready when `ringfence status` exits 0. Needs Linux 6.1 or newer and CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: `ringfence doctor`
says what is missing here. A first start is refused (exit code 1) on a hybrid cgroup host and where a fence requires what
this node lacks, unless --allow-hybrid-cgroups or --allow-partial say that less will do.
Its programs lie pinned below /sys/fs/bpf and go on without it, also after a crash; the next agent takes them over.
On SIGTERM or SIGINT they stay (--on-exit remove: they go); `ringfence uninstall` removes them.
Debug lines, the kernel programs' among them: RUST_LOG=debug.";

/// Arguments of `ringfence run`.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "Run the agent: attach, enforce, stream", after_help = EXAMPLES)]
pub struct RunArgs {
    /// Configuration file (YAML); flags and environment win over it
    #[arg(long, env = "RINGFENCE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: RawConfig,
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// What keeps it from coming up.
pub fn run(args: RunArgs) -> Result<()> {
    let file = match &args.config {
        Some(path) => RawConfig::from_file(path)?,
        None => RawConfig::default(),
    };
    supervise::run(&args.flags.or(file).resolve()?)
}
