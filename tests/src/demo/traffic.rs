//! A workload that does not stop: `traffic.py`, with what it says of itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{python, spawn};
use super::interrupt;
use super::stage::{Stage, Workload};

const SCRIPT: &str = include_str!("traffic.py");
/// How often a wait looks whether somebody pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// What `traffic.py` prints.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Change { target: String, outcome: String, millis: i64 },
    Counts { good: u64, bad: u64 },
}

/// Another outcome than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// As it was given to [`Traffic::start`].
    pub(super) target: String,
    /// `sent`, `connected`, `answered`, or an error's name.
    pub(super) outcome: String,
    /// When.
    pub(super) at: Timestamp,
}

/// Running traffic. Killed and reaped when dropped.
pub(super) struct Traffic {
    process: Child,
    /// It ends when this is closed.
    _leash: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The last outcome of each target.
    pub(super) outcomes: BTreeMap<String, String>,
    /// Attempts that went well.
    pub(super) good: u64,
    /// Attempts that did not.
    pub(super) bad: u64,
}

impl Traffic {
    /// Starts traffic to `targets`, such as `udp:20.42.0.10:443`, inside `workload`.
    pub(super) fn start(stage: &Stage, workload: &Workload, targets: &[String]) -> Result<Self> {
        let mut command = python();
        command.args(["-c", SCRIPT]).args(targets).stdin(Stdio::piped());
        let mut process = spawn(stage, workload, &mut command)?;
        let leash = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("traffic without standard output")?);
        let (sender, lines) = channel();
        // Ends when the process does, or when this handle is dropped.
        thread::Builder::new().name("traffic".into()).spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { process, _leash: leash, lines, outcomes: BTreeMap::new(), good: 0, bad: 0 })
    }

    /// Reads what it says until `enough`, and hands each change to `show`.
    ///
    /// # Errors
    /// It ended, or it was not enough within `limit`; also an interruption.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut show: impl FnMut(&Change),
        enough: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !enough(self) {
            interrupt::check()?;
            ensure!(Instant::now() < end, "waited {limit:?} in vain: {what}; last seen: {:?}", self.outcomes);
            let line = match self.lines.recv_timeout(LOOK) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    let mut said = String::new();
                    if let Some(stderr) = &mut self.process.stderr {
                        stderr.read_to_string(&mut said)?;
                    }
                    bail!("the traffic ended by itself before: {what}; it said:\n{said}")
                }
            };
            match serde_json::from_str(&line).with_context(|| format!("traffic.py said {line}"))? {
                Line::Counts { good, bad } => (self.good, self.bad) = (good, bad),
                Line::Change { target, outcome, millis } => {
                    let at = Timestamp::from_millisecond(millis).context("a time of traffic.py")?;
                    self.outcomes.insert(target.clone(), outcome.clone());
                    show(&Change { target, outcome, at });
                }
            }
        }
        Ok(())
    }

    /// The last outcome of `target` is one of `outcomes`.
    pub(super) fn is(&self, target: &str, outcomes: &[&str]) -> bool {
        self.outcomes.get(target).is_some_and(|outcome| outcomes.contains(&outcome.as_str()))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
