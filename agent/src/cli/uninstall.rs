//! `ringfence uninstall`: ends enforcement that goes on without an agent.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::output::Exit;
use crate::bpf::pin::PinDirectory;
use crate::config::BPFFS;
use crate::hostlayer::guard::release_filters;

const EXAMPLES: &str = "\
Examples:
  ringfence uninstall                                  after `systemctl stop ringfence`
  ringfence uninstall --bpffs /sys/fs/bpf/other        what an agent with another --bpffs left

Removes every link, program and map that an agent has pinned, whatever its version. From then on nothing is enforced.
Exit codes: 0 removed, or there was nothing; 1 an agent is still at work, or something can't be removed.";

/// Arguments of `ringfence uninstall`.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "Detach and remove everything that an agent left pinned", after_help = EXAMPLES)]
pub struct UninstallArgs {
    /// The agent's pin directory [default: /sys/fs/bpf/ringfence]
    #[arg(long, env = "RINGFENCE_BPFFS", value_name = "DIR")]
    bpffs: Option<PathBuf>,
}

/// Removes what is pinned and says what it was.
///
/// # Errors
/// An agent holds the directory, it is none of ours, or the system refuses.
pub fn uninstall(args: &UninstallArgs, out: &mut impl Write) -> Result<Exit> {
    let path = args.bpffs.clone().unwrap_or_else(|| BPFFS.into());
    let Some(pins) = PinDirectory::existing(&path)? else {
        writeln!(out, "nothing is installed: {} does not exist", path.display())?;
        return Ok(Exit::Fine);
    };
    let filters = release_filters(&pins)?;
    let removed = pins.remove()?;
    let what = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let links = what(removed.links.len(), "link");
    let named =
        if removed.links.is_empty() { String::new() } else { format!(" ({})", removed.links.join(", ")) };
    let (programs, maps) = (what(removed.programs, "program"), what(removed.maps, "map"));
    let filters = what(filters, "filter");
    writeln!(out, "removed {links}{named}, {filters}, {programs}, {maps}, {}", path.display())?;
    writeln!(out, "nothing is enforced by them any more")?;
    Ok(Exit::Fine)
}
