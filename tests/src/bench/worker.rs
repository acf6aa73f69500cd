//! A workload that does one thing as fast as it can: this program executed again, one thread, on a processor of its own.
//!
//! Between `fork` and `exec` it enters its cgroup and network namespace. Orders and answers are JSON lines. The harness's
//! actors answer per call; a worker counts, because its loop is what is measured.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::net::SocketAddrV4;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use agent_tests::cgroup::Cgroup;
use agent_tests::netns::Netns;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::loops;
use super::sys;

/// Set in the environment of a process that is a worker.
const MARK: &str = "RINGFENCE_BENCH_WORKER";
/// Where workers run; servers and the agent run on the other one.
pub(crate) const PROCESSOR: usize = 1;

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Remember these addresses: `Connect` and the like go through them in turn.
    Targets(Vec<SocketAddrV4>),
    /// Connect to the targets and close by a reset, for so many milliseconds.
    Connect { for_ms: u64 },
    /// Send 64 bytes each to the first `targets` targets, over one socket that is not connected.
    Send { targets: usize, for_ms: u64 },
    /// Write to one connection to the first target.
    Stream { for_ms: u64 },
    /// Connect to the targets so often, and keep how long each took (ns).
    Refused { times: u32 },
    /// Connect to the first target until that does not get through; the value is when the call began, by
    /// `CLOCK_MONOTONIC` (ns).
    UntilRefused { limit_ms: u64 },
    /// Connect to the targets at a pace, so many in all.
    Paced { per_second: u64, for_ms: u64 },
    /// Connect and close; the values are the longest call (ns) of each 10 ms window.
    Windows { for_ms: u64 },
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Calls that succeeded; bytes for a stream.
    pub(crate) done: u64,
    /// Calls that failed with EPERM.
    pub(crate) refused: u64,
    /// How long it took, ns.
    pub(crate) wall_ns: u64,
    /// How much of that the worker was ready and had no processor, because somebody else had it, ns.
    pub(crate) waited_ns: u64,
    /// See the order.
    pub(crate) values: Vec<u64>,
    /// It could not go on.
    pub(crate) error: Option<String>,
}

impl Answer {
    /// Calls, or bytes, a second in which the worker was not kept waiting for a processor: what other programs take
    /// on a shared machine is not the fence's cost.
    pub(crate) fn rate(&self) -> f64 {
        let busy = self.wall_ns.saturating_sub(self.waited_ns).max(1);
        self.done as f64 * 1e9 / busy as f64
    }
}

/// Becomes a worker and does not return, if this process was started as one.
pub(crate) fn serve_if_asked() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("worker: {error:#}");
            1
        }
    };
    std::process::exit(code);
}

fn serve() -> Result<()> {
    sys::pin(PROCESSOR)?;
    let mut targets = Vec::new();
    for line in stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order")?;
        let answer = match order {
            Order::Targets(new) => {
                targets = new;
                Ok(Answer::default())
            }
            Order::Connect { for_ms } => loops::connect(&targets, Duration::from_millis(for_ms)),
            Order::Send { targets: many, for_ms } => {
                loops::send(&targets[..many.min(targets.len())], Duration::from_millis(for_ms))
            }
            Order::Stream { for_ms } => loops::stream(&targets, Duration::from_millis(for_ms)),
            Order::Refused { times } => loops::refused(&targets, times),
            Order::UntilRefused { limit_ms } => {
                loops::until_refused(&targets, Duration::from_millis(limit_ms))
            }
            Order::Paced { per_second, for_ms } => {
                loops::paced(&targets, per_second, Duration::from_millis(for_ms))
            }
            Order::Windows { for_ms } => loops::windows(&targets, Duration::from_millis(for_ms)),
        };
        let answer =
            answer.unwrap_or_else(|error| Answer { error: Some(format!("{error:#}")), ..Answer::default() });
        let mut out = stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// The benchmark's side of a worker. Killed and reaped when dropped.
pub(crate) struct Worker {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker in a cgroup and a namespace.
    ///
    /// # Errors
    /// It can't be started or placed.
    pub(crate) fn start(namespace: &Netns, cgroup: &Cgroup) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.env(MARK, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = sys::spawn_in(&mut command, cgroup.path(), namespace.fd())?;
        let orders = process.stdin.take().context("a worker without standard input")?;
        let answers = BufReader::new(process.stdout.take().context("a worker without standard output")?);
        Ok(Self { process, orders, answers })
    }

    /// Gives an order without waiting.
    ///
    /// # Errors
    /// The worker has died.
    pub(crate) fn begin(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).context("a worker has died")
    }

    /// Waits for the answer to the oldest order. Every order bounds its own time.
    ///
    /// # Errors
    /// The worker died or could not go on.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("a worker has died")?;
        let answer: Answer =
            serde_json::from_str(&line).with_context(|| format!("a worker's answer {line:?}"))?;
        match answer.error {
            Some(error) => bail!("a worker could not go on: {error}"),
            None => Ok(answer),
        }
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) fn tell(&mut self, order: &Order) -> Result<Answer> {
        self.begin(order)?;
        self.answer()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
