//! Runs one child command: a line of progress, everything it prints in a log, the tail of that log when it fails.
//!
//! Children stay in our process group, so that Ctrl-C reaches each of them. A child that must not outlive us in any
//! case (an emulator, a suite that attaches programs) is made by [`tied`].

mod progress;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::workspace;

use progress::{Progress, Show};

/// Lines of a failed command's output that are shown; the log has them all.
const TAIL_LINES: usize = 40;
/// How long output is awaited after the child itself has ended (something it started may hold the pipe for ever).
const DRAIN: Duration = Duration::from_secs(2);

/// One child command with its name, its log and its limits.
pub(crate) struct Step {
    title: String,
    log: String,
    command: Command,
    show: Show,
    deadline: Option<Duration>,
}

/// How a child ended, and what is needed to say why.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) seconds: f64,
    line: String,
    log: PathBuf,
    tail: VecDeque<String>,
}

impl Step {
    /// `log` names the file `target/xtask/<log>.log`.
    pub(crate) fn new(title: impl Into<String>, log: impl Into<String>, command: Command) -> Self {
        Self { title: title.into(), log: log.into(), command, show: Show::Progress, deadline: None }
    }

    /// Print what the child prints, not only that it is at work.
    pub(crate) fn showing_output(mut self) -> Self {
        self.show = Show::Everything;
        self
    }

    /// Kill the child after so long; that is an error even if it would have ended well.
    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Runs to the end; anything but success is an error with the command line and the tail of the log.
    pub(crate) fn run(self) -> Result<Ended> {
        self.run_reading(|_| {})?.succeeded()
    }

    /// Runs to the end, whatever the exit status, handing over each line of output.
    ///
    /// # Errors
    /// The command can't be started, its log can't be written, or its deadline passed.
    pub(crate) fn run_reading(self, mut each: impl FnMut(&str)) -> Result<Ended> {
        let Self { title, log, mut command, show, deadline } = self;
        let line = command_line(&command);
        let log = workspace::log_file(&log)?;
        let mut log_file = File::create(&log).with_context(|| cannot_write(&log))?;
        writeln!(log_file, "$ {line}")?;

        let started = Instant::now();
        let mut progress = Progress::start(title, show);
        let (reader, writer) = pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        drop(command); // it holds our copies of the pipe's writing end: without this the reader never sees the end
        let lines = read_in_background(reader);

        let mut tail = VecDeque::with_capacity(TAIL_LINES);
        let mut last_line = Instant::now();
        loop {
            match lines.recv_timeout(Duration::from_secs(1)) {
                Ok(text) => {
                    last_line = Instant::now();
                    writeln!(log_file, "{text}")?;
                    progress.line(&text);
                    each(&text);
                    if tail.len() == TAIL_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(text);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if child.try_wait()?.is_some() && last_line.elapsed() > DRAIN {
                        break;
                    }
                }
            }
            progress.tick(started.elapsed());
            if deadline.is_some_and(|limit| started.elapsed() > limit) {
                stop(&mut child);
                progress.end("killed", started.elapsed());
                let ended = Ended {
                    status: child.wait()?,
                    seconds: started.elapsed().as_secs_f64(),
                    line,
                    log,
                    tail,
                };
                let limit = deadline.unwrap_or_default().as_secs();
                return Err(ended.failure(&format!("did not end within {limit} s and was killed")));
            }
        }
        let status = child.wait()?;
        progress.end(if status.success() { "done" } else { "FAILED" }, started.elapsed());
        Ok(Ended { status, seconds: started.elapsed().as_secs_f64(), line, log, tail })
    }
}

impl Ended {
    /// The same, or an error with the command line and the tail of the log.
    pub(crate) fn succeeded(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let how = format!("failed ({})", self.status);
        Err(self.failure(&how))
    }

    /// An error that shows the command line, `how` it went wrong and the last lines it printed.
    pub(crate) fn failure(&self, how: &str) -> anyhow::Error {
        let mut text = format!("`{}` {how}\n", self.line);
        for line in &self.tail {
            let _infallible = writeln!(text, "  | {line}");
        }
        let _infallible = write!(text, "whole output: {}", workspace::shown(&self.log));
        anyhow!(text)
    }
}

/// A command that the kernel kills when xtask dies, however it dies: `setpriv` (util-linux) asks for that signal and
/// then becomes the program, so that the process id is the program's own.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = workspace::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Standard output of a short question to another program.
///
/// # Errors
/// It can't be started, or it says no: then with what it printed.
pub(crate) fn ask(mut command: Command) -> Result<String> {
    let line = command_line(&command);
    let answer = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !answer.status.success() {
        bail!("`{line}` failed ({}): {}", answer.status, String::from_utf8_lossy(&answer.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// The command as one could type it: variables that we set, program, arguments.
pub(crate) fn command_line(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    // The separator of CARGO_ENCODED_RUSTFLAGS can't be typed; $'…' can say it.
    if word.contains('\x1f') {
        return format!("$'{}'", word.replace('\'', "\\'").replace('\x1f', "\\x1f"));
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {} (if an earlier run as root made the folder target, take it back: \
         sudo chown -R \"$USER\" target)",
        path.display()
    )
}

fn stop(child: &mut Child) {
    // The only way this fails is that the child has ended by itself, which is what we want.
    let _already_gone = child.kill();
}

/// Lines of the pipe as they come, ends of line cut off (a serial console sends `\r\n`).
fn read_in_background(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1024);
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes);
            if sender.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Step, command_line};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_shows_the_command_its_status_and_its_last_lines() {
        let step = Step::new("t", "unit-failure", shell("seq 1 100; echo the-reason >&2; exit 3"));
        let error = step.run().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("sh -c") && error.contains("exit status: 3"), "{error}");
        assert!(
            error.contains("| the-reason") && error.contains("| 62\n") && !error.contains("| 61\n"),
            "{error}"
        );
        assert!(error.contains("unit-failure.log"), "{error}");
    }

    #[test]
    fn every_line_of_both_streams_is_handed_over_without_carriage_returns() {
        let mut lines = Vec::new();
        let step = Step::new("t", "unit-lines", shell("printf 'a\\r\\nb\\n'; printf 'c' >&2"));
        step.run_reading(|line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[test]
    fn a_child_past_its_deadline_is_killed_and_said_so() {
        let started = Instant::now();
        let step =
            Step::new("t", "unit-deadline", shell("exec tail -f /dev/null")).within(Duration::from_secs(1));
        let error = step.run().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_hang_us() {
        let started = Instant::now();
        let step = Step::new("t", "unit-orphan", shell("tail --pid=$PPID -f /dev/null & echo $!"));
        let mut orphan = String::new();
        step.run_reading(|line| orphan = line.to_owned()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
        Command::new("kill").arg(orphan).status().unwrap();
    }

    #[test]
    fn a_command_line_can_be_typed_again() {
        let mut command = Command::new("cargo");
        command.env("FLAGS", "a\x1fb").args(["build", "two words"]);
        assert_eq!(command_line(&command), "FLAGS=$'a\\x1fb' cargo build 'two words'");
    }
}
