//! What somebody who waits for a child sees: one line that counts seconds on a terminal, a line now and then in a log.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

/// How often somebody who watches a log file, not a terminal, hears that a step is still at work.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What of a child's output goes to our own standard output as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Progress,
    Everything,
}

/// The one line on the terminal that says what is at work and for how long.
pub(super) struct Progress {
    title: String,
    show: Show,
    terminal: bool,
    last_beat: Duration,
}

impl Progress {
    pub(super) fn start(title: String, show: Show) -> Self {
        let progress = Self { title, show, terminal: stdout().is_terminal(), last_beat: Duration::ZERO };
        match (progress.show, progress.terminal) {
            (Show::Progress, true) => progress.redraw(Duration::ZERO),
            (Show::Progress, false) | (Show::Everything, _) => println!("· {} …", progress.title),
        }
        progress
    }

    pub(super) fn line(&self, text: &str) {
        if self.show == Show::Everything {
            println!("  {text}");
        }
    }

    pub(super) fn tick(&mut self, elapsed: Duration) {
        match (self.show, self.terminal) {
            (Show::Progress, true) if elapsed >= self.last_beat + Duration::from_secs(1) => {
                self.redraw(elapsed);
                self.last_beat = elapsed;
            }
            (Show::Progress, false) if elapsed >= self.last_beat + HEARTBEAT => {
                println!("· {} … {} s", self.title, elapsed.as_secs());
                self.last_beat = elapsed;
            }
            (Show::Progress | Show::Everything, _) => {}
        }
    }

    pub(super) fn end(&self, how: &str, elapsed: Duration) {
        let back = if self.show == Show::Progress && self.terminal { "\r\x1b[K" } else { "" };
        println!("{back}· {}: {how}, {:.1} s", self.title, elapsed.as_secs_f64());
    }

    fn redraw(&self, elapsed: Duration) {
        print!("\r\x1b[K· {} … {} s", self.title, elapsed.as_secs());
        // A terminal that has gone away costs us a line of progress, nothing else.
        let _best_effort = stdout().flush();
    }
}
