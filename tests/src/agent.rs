//! The `ringfence` binary under test: started, asked, stopped, always reaped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use caps::Capability;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::bpffs::Bpffs;
use crate::cgroup::Cgroup;
use crate::deadline::wait_for;
use crate::events::Watch;
use crate::netns::Netns;
use crate::place::{enter, move_in};

/// How long the agent may take to become ready, also on a busy machine.
const READY: Duration = Duration::from_secs(30);
/// How long a changed policy may take to be in force.
const PUBLISHED: Duration = Duration::from_secs(20);
/// How long the agent may take to end when asked to.
const ENDED: Duration = Duration::from_secs(20);

/// Environment variable that names the `ringfence` binary under test.
pub const BINARY: &str = "RINGFENCE_BIN";

/// The `ringfence` binary under test.
///
/// # Errors
/// [`BINARY`] is not set or names no file; the error says what to run.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY).map(PathBuf::from).with_context(|| {
        format!("{BINARY} is not set: run `cargo xtask test`, or build with `cargo xtask build` and set it")
    })?;
    ensure!(path.is_file(), "{BINARY}={} is no file: build it with `cargo xtask build`", path.display());
    Ok(path)
}

/// Environment variable that names a second `ringfence`: the same source, with the feature `other-schema`.
pub const OTHER_BINARY: &str = "RINGFENCE_BIN_OTHER";

/// A second binary, which takes the maps of [`binary`] for those of another layout; `None` if there is none here.
///
/// # Errors
/// [`OTHER_BINARY`] names no file.
pub fn other_binary() -> Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os(OTHER_BINARY).map(PathBuf::from) else { return Ok(None) };
    ensure!(path.is_file(), "{OTHER_BINARY}={} is no file", path.display());
    Ok(Some(path))
}

/// What the agent may do when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// Root's.
    All,
    /// Those of root in a container that has been given these capabilities and no other.
    Only(&'static [Capability]),
}

/// How an agent is to be run, with its directories. Outlives the agent, so that it can be started again with the
/// same state. Dropping it takes down the bpf file system with all that agents have pinned there.
pub struct Setup {
    binary: PathBuf,
    directory: TempDir,
    bpffs: Bpffs,
    pins: PathBuf,
    on_exit: &'static str,
    privileges: Privileges,
    cgroup_root: PathBuf,
    has_policy: bool,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    namespace: Option<OwnedFd>,
    cgroup: Option<File>,
}

impl Setup {
    /// An agent for the programs below `root`, without a policy yet.
    ///
    /// # Errors
    /// See [`binary`].
    pub fn new(root: &Cgroup) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("ringfence-test-").tempdir()?;
        fs::create_dir(directory.path().join("state"))?;
        let bpffs = Bpffs::mount()?;
        Ok(Self {
            binary: binary()?,
            directory,
            pins: bpffs.pins(),
            bpffs,
            on_exit: "remove",
            privileges: Privileges::All,
            cgroup_root: root.path().to_owned(),
            has_policy: false,
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: None,
            cgroup: None,
        })
    }

    /// With this policy, as YAML text.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn policy(mut self, text: &str) -> Result<Self> {
        self.has_policy = true;
        self.write_policy(text)?;
        Ok(self)
    }

    /// With one more command-line argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// What is enforced goes on when the agent is asked to end. Without this it ends with the agent: tests that stop one
    /// want to see the world without it.
    pub fn keep_on_exit(mut self) -> Self {
        self.on_exit = "keep";
        self
    }

    /// With no more privileges than these.
    pub fn privileges(mut self, privileges: Privileges) -> Self {
        self.privileges = privileges;
        self
    }

    /// From now on, starts this binary.
    pub fn use_binary(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    /// The pin directory that agents are given; the first one makes it.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The bpf file system that they lie on.
    pub fn bpffs(&self) -> &Bpffs {
        &self.bpffs
    }

    /// Uses the pin directory of another setup, which must live longer.
    pub fn pins_of(mut self, other: &Self) -> Self {
        self.pins.clone_from(&other.pins);
        self
    }

    /// Forgets everything that agents have kept in the state directory.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_state(&self) -> Result<()> {
        let state = self.directory.path().join("state");
        fs::remove_dir_all(&state)?;
        Ok(fs::create_dir(&state)?)
    }

    /// Runs `ringfence uninstall` on the pin directory; exit code, and all that it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn uninstall(&self) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.binary);
        if let Some(namespace) = &self.namespace {
            enter(&mut command, namespace.try_clone()?);
        }
        let output = command.args(["uninstall", "--bpffs"]).arg(self.pins()).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// With one more environment variable.
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// In this network namespace instead of the test's: the one that holds the host's side of the workloads' veths.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn inside(mut self, namespace: &Netns) -> Result<Self> {
        let namespace =
            namespace.fd().try_clone_to_owned().context("cannot duplicate a namespace's descriptor")?;
        self.namespace = Some(namespace);
        Ok(self)
    }

    /// In this cgroup instead of the test's.
    ///
    /// # Errors
    /// It is gone.
    pub fn in_cgroup(mut self, cgroup: &Cgroup) -> Result<Self> {
        self.cgroup = Some(cgroup.door()?);
        Ok(self)
    }

    /// The agent's own directory, for files that its arguments name.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The policy file that the agent watches.
    pub fn policy_path(&self) -> PathBuf {
        self.directory.path().join("policy.yaml")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Replaces the policy file by a rename: no reader ever sees half of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        let new = self.directory.path().join(".policy.yaml.new");
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, self.policy_path()).context("cannot replace the policy file")
    }

    /// Starts the agent and waits until it is ready: `ringfence status` exits 0.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the error carries what it said.
    pub fn start(&self) -> Result<Agent> {
        let mut agent = self.spawn()?;
        wait_for("ringfence run to be ready", READY, || {
            if let Some(status) = agent.process.try_wait()? {
                bail!("ringfence run ended: {status}\n{}", agent.said());
            }
            Ok(agent.ask(&["status"]).ok().map(drop))
        })
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
        Ok(agent)
    }

    /// Runs the agent, which is expected to refuse, and returns its exit code and what it said.
    ///
    /// # Errors
    /// It did not end by itself.
    pub fn run_to_refusal(&self) -> Result<(Option<i32>, String)> {
        let mut agent = self.spawn()?;
        let status = wait_for("ringfence run to refuse and end", READY, || Ok(agent.process.try_wait()?))?;
        Ok((status.code(), agent.said_to_the_end()))
    }

    fn spawn(&self) -> Result<Agent> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--allow-hybrid-cgroups", "--cgroup-root"]).arg(&self.cgroup_root);
        command.arg("--socket").arg(self.socket());
        command.arg("--state-dir").arg(self.directory.path().join("state"));
        command.arg("--bpffs").arg(self.pins()).args(["--on-exit", self.on_exit]);
        if self.has_policy {
            command.arg("--policy").arg(self.policy_path());
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (*name, value)));
        if let Privileges::Only(these) = self.privileges {
            start_with_only(&mut command, these);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(namespace) = &self.namespace {
            enter(&mut command, namespace.try_clone()?);
        }
        if let Some(cgroup) = &self.cgroup {
            move_in(&mut command, cgroup.try_clone()?);
        }
        let mut process =
            command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let stderr = BufReader::new(process.stderr.take().context("agent without standard error")?);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let listener = thread::Builder::new().name("agent-stderr".into()).spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        })?;
        Ok(Agent {
            binary: self.binary.clone(),
            socket: self.socket(),
            process,
            said,
            listener: Some(listener),
        })
    }
}

/// Lets a program start as root without any capability but these: what is not in the bounding set, `exec` does not give.
fn start_with_only(command: &mut Command, these: &'static [Capability]) {
    let narrow = move || {
        for number in 0..64u32 {
            if these.iter().any(|c| u32::from(c.index()) == number) {
                continue;
            }
            // SAFETY: a plain system call; an error means that there is no capability of this number.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: `narrow` only makes async-signal-safe system calls and does not allocate.
    unsafe { command.pre_exec(narrow) };
}

/// A running agent. Killed and reaped when dropped; its last words are printed if a test is failing.
pub struct Agent {
    binary: PathBuf,
    socket: PathBuf,
    process: Child,
    said: Arc<Mutex<String>>,
    /// Listens until the agent's end.
    listener: Option<JoinHandle<()>>,
}

impl Agent {
    /// Everything that an agent which has ended wrote to standard error.
    fn said_to_the_end(&mut self) -> String {
        // A panic of the listener leaves what it had heard until then.
        self.listener.take().map(JoinHandle::join);
        self.said()
    }

    /// Everything it has written to standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs another `ringfence` command against this agent's socket.
    ///
    /// # Errors
    /// It did not exit 0; the error carries its output.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        let (verb, rest) = arguments.split_first().context("no verb")?;
        let output =
            Command::new(&self.binary).arg(verb).arg("--socket").arg(&self.socket).args(rest).output()?;
        ensure!(
            output.status.success(),
            "ringfence {} answered {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    /// `ringfence status -o json`.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn status(&self) -> Result<Value> {
        serde_json::from_slice(&self.ask(&["status", "-o", "json"])?.stdout).context("status -o json")
    }

    /// What the status says of the watchdog.
    ///
    /// # Errors
    /// The agent does not answer, or does not mention it.
    pub fn watchdog(&self) -> Result<String> {
        let status = self.status()?;
        let programs = status.get("programs").and_then(Value::as_array).context("no programs in status")?;
        let watchdog = programs.iter().find(|p| p.get("name").and_then(Value::as_str) == Some("watchdog"));
        let detail = watchdog.and_then(|w| w.get("detail")).and_then(Value::as_str);
        Ok(detail.context("status does not mention the watchdog")?.to_owned())
    }

    /// Waits until the watchdog has looked so often more. Just after a look nobody looks for some seconds.
    ///
    /// # Errors
    /// It does not look.
    pub fn looked(&self, more: u64) -> Result<()> {
        let looks = || -> Result<u64> {
            let says = self.watchdog()?;
            let word = says.split("; ").nth(1).and_then(|rest| rest.split(' ').next());
            word.and_then(|number| number.parse().ok()).with_context(|| format!("no looks in {says:?}"))
        };
        let wanted = looks()? + more;
        let limit = Duration::from_secs(5 * (more + 2));
        wait_for("the watchdog's next look", limit, || Ok((looks()? >= wanted).then_some(())))
    }

    /// Generation of the image in force.
    ///
    /// # Errors
    /// The agent does not answer, or does not say.
    pub fn generation(&self) -> Result<u64> {
        let status = self.status()?;
        status.get("generation").and_then(Value::as_u64).with_context(|| format!("no generation in {status}"))
    }

    /// Replaces the policy file of `setup` and waits until the new image is in force: from then on, no verdict
    /// of the old one is given. Returns the new generation.
    ///
    /// # Errors
    /// It was not published in time.
    pub fn publish(&self, setup: &Setup, policy: &str) -> Result<u64> {
        let before = self.generation()?;
        setup.write_policy(policy)?;
        wait_for("the changed policy to be in force", PUBLISHED, || {
            Ok(Some(self.generation()?).filter(|now| *now > before))
        })
        .with_context(|| format!("ringfence run said:\n{}", self.said()))
    }

    /// Starts to collect events, those before this call included (`--earliest`); `args` such as `--all`.
    ///
    /// # Errors
    /// `ringfence watch` cannot be started.
    pub fn watch(&self, args: &[&str]) -> Result<Watch> {
        Watch::start(&self.binary, &self.socket, &[&["--earliest"], args].concat())
    }

    /// Sends a signal, such as STOP and CONT.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to the agent"))
    }

    /// Asks the agent to end (SIGTERM) and waits. The hooks are detached afterwards, unless the setup says
    /// [`Setup::keep_on_exit`]. Returns what it said.
    ///
    /// # Errors
    /// It did not end in time, or ended with an error.
    pub fn stop(mut self) -> Result<String> {
        self.signal(Signal::TERM)?;
        let status =
            wait_for("ringfence run to end after SIGTERM", ENDED, || Ok(self.process.try_wait()?))?;
        ensure!(status.success(), "ringfence run ended with {status} after SIGTERM:\n{}", self.said());
        Ok(self.said_to_the_end())
    }

    /// Ends the agent without a chance to clean up (SIGKILL) and waits for it. What is pinned goes on.
    ///
    /// # Errors
    /// It cannot be reaped.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// The socket it serves on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
        if thread::panicking() {
            eprintln!("ringfence run said:\n{}", self.said());
        }
    }
}
