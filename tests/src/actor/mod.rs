//! Actors: workloads that do what a test tells them, one socket call at a time.
//!
//! An actor is the suite's own binary executed again with [`MARK`] in its environment, so that a single
//! static file is all that a virtual machine needs. Between `fork` and `exec` the child moves itself into
//! its cgroup and network namespace: *no instruction of the workload runs outside them*. Commands and answers are
//! JSON lines over pipes. Sockets stay open between commands and have names, so that a test can open one
//! before a fence exists and use it afterwards.

mod births;
mod calls;
mod child;
mod herd;
mod profile;
mod protocol;
mod raw;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub use calls::{Call, Uring};
pub use profile::Profile;
pub use protocol::{Answer, Command, Family, Kind, Outcome, Repeat};
pub use raw::Raw;

use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::place::place;

/// Set in the environment of a process that is an actor; the value is its [`Profile`].
pub const MARK: &str = "RINGFENCE_ACTOR";
/// Added to a command's own time limit before the actor counts as hung.
const MARGIN: Duration = Duration::from_secs(30);

/// Becomes an actor and does not return, if this process was started as one. Call it first in `main` of
/// every binary that uses [`Actor`].
pub fn serve_if_asked() {
    if let Some(profile) = std::env::var_os(MARK) {
        std::process::exit(child::serve(&profile));
    }
}

/// The test's side of one actor. Killed and reaped when dropped.
pub struct Actor {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Actor {
    /// Starts an actor in `cgroup` and `namespace`.
    ///
    /// # Errors
    /// The process cannot be started, or cannot be placed.
    pub fn start(namespace: &Netns, cgroup: &Cgroup) -> Result<Self> {
        Self::start_as(Profile::Root, namespace, cgroup)
    }

    /// Starts an actor with the capabilities of `profile` and no others.
    ///
    /// # Errors
    /// See [`Actor::start`].
    pub fn start_as(profile: Profile, namespace: &Netns, cgroup: &Cgroup) -> Result<Self> {
        let mut process = Process::new("/proc/self/exe");
        process.arg("actor").env(MARK, profile.word()).stdin(Stdio::piped()).stdout(Stdio::piped());
        place(&mut process, namespace, cgroup)?;
        let mut process = process
            .spawn()
            .with_context(|| format!("cannot start an actor in {}", cgroup.path().display()))?;
        let commands = process.stdin.take().context("actor without standard input")?;
        let output = BufReader::new(process.stdout.take().context("actor without standard output")?);
        let (sender, answers) = channel();
        // Ends when the actor does, or when this handle is dropped.
        thread::Builder::new().name("actor".into()).spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { process, commands, answers })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command without waiting; [`Actor::answer`] collects. For loads that run while the test acts.
    ///
    /// # Errors
    /// The actor has died.
    pub fn begin(&mut self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_string(command)?;
        line.push('\n');
        self.commands.write_all(line.as_bytes()).context("the actor has died")
    }

    /// Waits for the answer to the oldest command without one.
    ///
    /// # Errors
    /// The actor died, or did not answer within `limit` and a margin.
    pub fn answer(&mut self, limit: Duration) -> Result<Answer> {
        let line = self
            .answers
            .recv_timeout(limit + MARGIN)
            .map_err(|error| anyhow!("actor {} gave no answer: {error}", self.process.id()))?;
        serde_json::from_str(&line).with_context(|| format!("an actor's answer: {line}"))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Actor::begin`] and [`Actor::answer`]. What a *socket call* answered is no error; it is in the answer.
    pub fn tell(&mut self, command: &Command) -> Result<Answer> {
        self.begin(command)?;
        self.answer(command.limit())
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn call(&mut self, call: Call) -> Result<Answer> {
        self.tell(&call.into())
    }

    /// Opens the socket `name`.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn open(&mut self, name: &str, family: Family, kind: Kind) -> Result<Answer> {
        self.tell(&Command::Open { name: name.to_owned(), family, kind })
    }

    /// Connects the socket `name`.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn connect(&mut self, name: &str, to: SocketAddr) -> Result<Answer> {
        self.tell(&Command::Connect { name: name.to_owned(), to, limit_ms: 5_000 })
    }

    /// Sends `bytes` bytes over the socket `name`.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn send(&mut self, name: &str, bytes: usize) -> Result<Answer> {
        self.tell(&Command::Send { name: name.to_owned(), bytes })
    }

    /// Sends a datagram of `bytes` bytes.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn send_to(&mut self, name: &str, to: SocketAddr, bytes: usize) -> Result<Answer> {
        self.tell(&Command::SendTo { name: name.to_owned(), to, bytes })
    }

    /// Receives once, waiting at most `limit`.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn receive(&mut self, name: &str, limit: Duration) -> Result<Answer> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        self.tell(&Command::Receive { name: name.to_owned(), limit_ms })
    }

    /// Does what needs CAP_NET_RAW or CAP_NET_ADMIN.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn raw(&mut self, raw: Raw) -> Result<Answer> {
        self.tell(&Command::Raw(raw))
    }

    /// Closes the socket `name`.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn close(&mut self, name: &str) -> Result<Answer> {
        self.tell(&Command::Close { name: name.to_owned(), reset: false })
    }

    /// Closes the socket `name` so that nothing of it is sent later: TCP by a reset instead of a goodbye that
    /// the other side answers when it gets to it.
    ///
    /// # Errors
    /// See [`Actor::tell`].
    pub fn reset(&mut self, name: &str) -> Result<Answer> {
        self.tell(&Command::Close { name: name.to_owned(), reset: true })
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
