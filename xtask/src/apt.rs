//! Debian's package tool: what can be had, and installing it. Only root on a Debian-like system gets past the door.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::run::{Step, ask};
use crate::workspace;

/// The package lists are refreshed at most once a run, and only when something is missing.
static UPDATED: AtomicBool = AtomicBool::new(false);

/// Whether this system has `apt-get` at all.
pub(crate) fn is_there() -> bool {
    workspace::find_program("apt-get").is_some()
}

/// Whether packages may be installed without asking anybody.
pub(crate) fn may_install() -> bool {
    is_there() && workspace::is_root()
}

/// The version of `package` that would be installed, refreshing the lists if it is unknown to them.
pub(crate) fn candidate(package: &str) -> Option<String> {
    if !is_there() {
        return None;
    }
    known_candidate(package).or_else(|| {
        update_once();
        known_candidate(package)
    })
}

fn known_candidate(package: &str) -> Option<String> {
    let mut command = Command::new("apt-cache");
    command.env("LC_ALL", "C").args(["policy", package]);
    parse_candidate(&ask(command).ok()?)
}

/// All package names that begin with `prefix`.
pub(crate) fn names(prefix: &str) -> Result<Vec<String>> {
    let list = || {
        let mut command = Command::new("apt-cache");
        command.args(["pkgnames", prefix]);
        ask(command).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let known = list()?;
    if !known.is_empty() || UPDATED.load(Ordering::Relaxed) {
        return Ok(known);
    }
    update_once();
    list()
}

/// Installs `packages`, or says the one line that somebody with the right to do so must run.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_there() {
        bail!("this system has no apt-get. Install what Debian calls: {list}");
    }
    if !workspace::is_root() {
        bail!("packages are missing and only root may install them. Run:\n  sudo apt-get install {list}");
    }
    update_once();
    let mut command = apt_get();
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    Step::new(format!("installing {list}"), "apt-install", command).run()?;
    Ok(())
}

/// Downloads the package file of `package` into `folder`.
pub(crate) fn download(package: &str, folder: &std::path::Path) -> Result<()> {
    let mut command = apt_get();
    command.current_dir(folder).args(["download", package]);
    Step::new(format!("downloading {package}"), "apt-download", command).run()?;
    Ok(())
}

/// A failed refresh is said and lived with: the old lists may still do, and if not, what follows fails with a reason.
pub(crate) fn update_once() {
    if !may_install() || UPDATED.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut command = apt_get();
    command.arg("update");
    if let Err(error) = Step::new("refreshing the package lists", "apt-update", command).run() {
        eprintln!("warning: {error:#}\nwarning: going on with the package lists as they are");
    }
}

fn apt_get() -> Command {
    let mut command = workspace::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

fn parse_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_candidate;

    #[test]
    fn a_package_without_a_candidate_cannot_be_had() {
        let policy = "llvm-22-dev:\n  Installed: (none)\n  Candidate: 1:22.1.8-1~deb12u1\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("1:22.1.8-1~deb12u1"));
        assert_eq!(parse_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }
}
