//! Time that does not count what other programs take of a shared machine.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const FILE: &str = "/proc/thread-self/schedstat";

/// How long this thread has waited for a processor so far: ready to run, and somebody else ran
/// (Documentation/scheduler/sched-stats.rst, second number).
pub(crate) fn waited() -> Result<Duration> {
    let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    let field = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    field.map(Duration::from_nanos).with_context(|| format!("{FILE} has no second number: {text:?}"))
}

/// A stopwatch of this thread.
pub(crate) struct Watch {
    start: Instant,
    waited: Duration,
}

impl Watch {
    /// Starts.
    ///
    /// # Errors
    /// The kernel keeps no such statistics (CONFIG_SCHED_INFO).
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { waited: waited()?, start: Instant::now() })
    }

    /// Time by the wall.
    pub(crate) fn wall(&self) -> Duration {
        self.start.elapsed()
    }

    /// What of it this thread has waited for a processor.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn waited(&self) -> Result<Duration> {
        Ok(waited()?.saturating_sub(self.waited))
    }

    /// Time by the wall without that: running, or asleep in a call.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn own(&self) -> Result<Duration> {
        Ok(self.wall().saturating_sub(self.waited()?))
    }
}
