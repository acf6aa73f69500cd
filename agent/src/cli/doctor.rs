//! `ringfence doctor`: what this kernel and this node can do, what is lost, and what to do about it.

mod needs;
mod report;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use self::needs::Needs;
use self::report::Report;
use super::client::DEFAULT_SOCKET;
use super::output::{Exit, Style};
use crate::bpf::features::programs::{ProgramReport, probe_programs, take_away_refused_layers};
use crate::bpf::features::scratch::ScratchCgroup;
use crate::bpf::features::switches::Switches;
use crate::bpf::features::{Probed, probe_all};
use crate::bpf::load::LoadError;
use crate::bpf::object::OBJECT;
use crate::config::BPFFS;
use crate::identity::cgroups::CgroupFs;

const EXAMPLES: &str = "\
Examples:
  ringfence doctor                            what this kernel can do; with what a running agent's fences need
  ringfence doctor --policy fences/           and what these fences need
  ringfence doctor --verbose                  and what each program costs the verifier
  ringfence doctor -o json | jq '.features[] | select(.presence == \"missing\")'

Everything is tried, nothing is guessed from the kernel's version. Nothing that runs is changed: what must be attached is
attached to an empty cgroup, which is removed again; nothing is pinned. No agent has to run.
Exit codes: 0 ringfence can enforce here, 1 something that is required is missing.";

/// Arguments of `ringfence doctor`.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "Say what this kernel can do, and what is lost", after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Say what these fences need, instead of those of a running agent
    #[arg(long, value_name = "FILE|DIR")]
    policy: Option<PathBuf>,
    /// The cgroup to attach to [default: the cgroup2 mount's root]
    #[arg(long, env = "RINGFENCE_CGROUP_ROOT", value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
    /// The directory for pins
    #[arg(long, env = "RINGFENCE_BPFFS", value_name = "DIR", default_value = BPFFS)]
    bpffs: PathBuf,
    /// The running agent's socket
    #[arg(long, env = "RINGFENCE_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Say also what each program costs the verifier: instructions and stack, and their share of the bars
    #[arg(short, long)]
    verbose: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What was found out.
struct Findings {
    features: Vec<Probed>,
    programs: Result<Vec<ProgramReport>, LoadError>,
}

/// Tries everything and prints it.
///
/// # Errors
/// The policy can't be read or is refused, or the result can't be printed; what the kernel lacks is no error but the
/// result.
pub fn run(args: &DoctorArgs, style: Style, out: &mut impl Write) -> Result<Exit> {
    let switches = Switches::from_environment()?;
    let needs = match &args.policy {
        Some(path) => Needs::of_files(path)?,
        None => Needs::of_agent(&args.socket),
    };
    let found = examine(args, &switches);
    let report = Report::new(&found.features, found.programs.as_deref(), &needs);
    match args.output {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report).context("writing JSON")?;
            writeln!(out)?;
        }
        Format::Table => text::print(&report, style, out)?,
    }
    out.flush()?;
    Ok(if report.can_enforce { Exit::Fine } else { Exit::Failed })
}

fn examine(args: &DoctorArgs, switches: &Switches) -> Findings {
    let root = CgroupFs::find(args.cgroup_root.as_deref()).map(|(_, root)| root);
    let scratch = match &root {
        Ok(root) => ScratchCgroup::below(root)
            .map_err(|e| format!("no cgroup to try it on: making one below {} failed: {e}", root.display())),
        Err(error) => Err(error.to_string()),
    };
    let at = args.cgroup_root.as_deref();
    let mut features = probe_all(at, scratch.as_ref().map_err(String::as_str), &args.bpffs, switches);
    let cgroup = scratch.as_ref().ok().map(ScratchCgroup::path);
    let programs = probe_programs(OBJECT, cgroup, args.verbose);
    take_away_refused_layers(&mut features, programs.as_deref().unwrap_or_default());
    Findings { features, programs }
}
