//! A hybrid cgroup host is refused at a first start until the operator agrees; a pure one is taken without a word.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_tests::agent::binary;
use agent_tests::bpffs::Bpffs;
use agent_tests::cgroup::Cgroup;
use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::doctor::{doctor, feature};
use crate::suite::{Outcome, Place, trial};

const READY: Duration = Duration::from_secs(30);
/// A private mount namespace in which /sys/fs/cgroup is cgroup2, then the command.
const PURE: &str = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "hybrid::a_first_start_is_refused_with_the_explanation", refused),
        trial(Place::Host, "hybrid::a_pure_layout_is_accepted", pure),
    ]
}

/// The arguments of `ringfence run` without the harness's agreement to hybrid hosts.
fn run(root: &str, directory: &Path, bpffs: &Bpffs) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(["run", "--cgroup-root", root, "--socket"]).arg(directory.join("agent.sock"));
    command.arg("--state-dir").arg(directory.join("state")).stdin(Stdio::null());
    command.arg("--bpffs").arg(bpffs.pins());
    Ok(command)
}

fn refused() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let report = doctor(root.path(), "", &["-o", "json"])?;
    let report: Value = serde_json::from_slice(&report.stdout)?;
    if feature(&report, "pureCgroups")?["presence"] == "found" {
        return Ok(Outcome::Skipped("this host has cgroup2 alone: there is nothing to refuse".into()));
    }
    let (directory, bpffs) = (tempfile::tempdir()?, Bpffs::mount()?);
    let path = root.path().to_str().context("a cgroup path that is not UTF-8")?;
    // It must end by itself; if it does not, it has started.
    let mut child = Running(run(path, directory.path(), &bpffs)?.stderr(Stdio::piped()).spawn()?);
    let status = wait_for("ringfence run to refuse and end", READY, || Ok(child.0.try_wait()?))?;
    let mut said = String::new();
    child.0.stderr.as_mut().context("no standard error")?.read_to_string(&mut said)?;
    ensure!(status.code() == Some(1), "{status}: {said}");
    for wanted in
        ["hybrid", "runc issue 2087", "--allow-hybrid-cgroups", "systemd.unified_cgroup_hierarchy=1"]
    {
        ensure!(said.contains(wanted), "{wanted} is not said: {said}");
    }
    Ok(Outcome::Passed)
}

fn pure() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let (directory, bpffs) = (tempfile::tempdir()?, Bpffs::mount()?);
    let path = format!("/sys/fs/cgroup{}", root.name());
    let in_pure = |command: &Command| {
        let mut wrapped = Command::new("unshare");
        wrapped.args(["-m", "sh", "-c", PURE, "sh"]).arg(command.get_program()).args(command.get_args());
        wrapped
    };
    let mut ask = Command::new(binary()?);
    ask.args(["doctor", "--cgroup-root", &path, "-o", "json"]);
    let report = in_pure(&ask).output().context("cannot start unshare (util-linux)")?;
    let report: Value = serde_json::from_slice(&report.stdout)?;
    let line = feature(&report, "pureCgroups")?;
    ensure!(line["presence"] == "found", "{line}");

    // `exec` all along: the child is the agent.
    let said = fs::File::create(directory.path().join("said"))?;
    let mut agent = Running(in_pure(&run(&path, directory.path(), &bpffs)?).stderr(said).spawn()?);
    let mut status = Command::new(binary()?);
    status.args(["status", "--socket"]).arg(directory.path().join("agent.sock")).stdout(Stdio::null());
    status.stderr(Stdio::null());
    wait_for("the agent to be ready on a pure layout", READY, || {
        let ended = agent.0.try_wait()?;
        let said = || fs::read_to_string(directory.path().join("said")).unwrap_or_default();
        ensure!(ended.is_none(), "ringfence run ended: {ended:?}: {}", said());
        Ok(status.status()?.success().then_some(()))
    })?;
    Ok(Outcome::Passed)
}

/// Killed and reaped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
