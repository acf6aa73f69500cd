//! Real programs, run inside a workload: curl, and Python for what curl does not do.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::interrupt;
use super::stage::{Stage, Workload};
use crate::deadline::wait_for;
use crate::place::place;

/// The exchange of one client, in `client.py`.
const SCRIPT: &str = include_str!("client.py");
/// How long a client may take in all.
const LIMIT: Duration = Duration::from_secs(10);
/// curl's exit code for "the time is over".
const CURL_TIMEOUT: i32 = 28;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Curl,
    Python,
}

/// Over which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What the program saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The other side answered.
    Reached,
    /// The kernel refused: the error's symbolic name.
    Refused(String),
    /// Nothing came back in time.
    Silent,
}

/// What the program saw, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) millis: f64,
}

/// What `client.py` prints.
#[derive(Deserialize)]
struct Told {
    outcome: String,
    millis: f64,
}

/// Runs one exchange to `to` inside `workload` and says what the program saw.
///
/// # Errors
/// The program cannot be run, hangs, or says something unexpected; also an interruption.
pub(super) fn run(
    stage: &Stage,
    workload: &Workload,
    program: Program,
    transport: Transport,
    to: SocketAddr,
) -> Result<Answer> {
    let mut command = match (program, transport) {
        (Program::Curl, Transport::Tcp) => curl(to),
        (Program::Curl, Transport::Udp) => bail!("curl does not speak plain UDP"),
        (Program::Python, transport) => {
            let mut command = python();
            command.args(["-c", SCRIPT, transport.as_str()]);
            command.args([to.ip().to_string(), to.port().to_string()]);
            command
        }
    };
    command.stdin(Stdio::null());
    let (status, out, err) = finish(spawn(stage, workload, &mut command)?)?;
    let answer = match program {
        Program::Curl => read_curl(status, &out, &err),
        Program::Python => read_python(&out),
    };
    answer.with_context(|| format!("{program:?} to {to} ended with {status} and said:\n{out}{err}"))
}

/// Starts a program inside a workload, with nothing of this process's environment but the path.
pub(super) fn spawn(stage: &Stage, workload: &Workload, command: &mut Command) -> Result<Child> {
    command.env_clear().env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    place(command, stage.near(), &workload.cgroup)?;
    let program = Path::new(command.get_program()).display().to_string();
    command.spawn().with_context(|| format!("cannot start {program} in {}", workload.cgroup.name()))
}

/// Python without the user's packages and settings.
pub(super) fn python() -> Command {
    // The distribution's own, where there is one: version managers put slow scripts before it.
    let own = PathBuf::from("/usr/bin/python3");
    let mut command = Command::new(if own.is_file() { own } else { PathBuf::from("python3") });
    command.args(["-I", "-S"]);
    command
}

fn curl(to: SocketAddr) -> Command {
    let mut command = Command::new("curl");
    // --verbose, because only there curl names the error of connect().
    command.args(["--silent", "--show-error", "--verbose", "--output", "/dev/null", "--noproxy", "*"]);
    command.args(["--max-time", "5", "--write-out", "%{http_code} %{time_total}"]);
    command.arg(format!("http://{to}/"));
    command
}

/// Waits for the end of a client; what it says is short and fits the pipes.
fn finish(mut child: Child) -> Result<(ExitStatus, String, String)> {
    let ended = wait_for("a client to end", LIMIT, || {
        interrupt::check()?;
        Ok(child.try_wait()?)
    });
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            child.kill().ok();
            child.wait().ok();
            return Err(error);
        }
    };
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().context("no standard output")?.read_to_string(&mut out)?;
    child.stderr.take().context("no standard error")?.read_to_string(&mut err)?;
    Ok((status, out, err))
}

fn read_curl(status: ExitStatus, out: &str, err: &str) -> Result<Answer> {
    let (code, seconds) = out.split_once(' ').context("no figures from curl")?;
    let millis = seconds.trim().parse::<f64>().context("curl's time")? * 1000.0;
    let reply = match (status.code(), refusal(err)) {
        (Some(0), _) if code == "200" => Reply::Reached,
        (Some(CURL_TIMEOUT), _) => Reply::Silent,
        (_, Some(name)) => Reply::Refused(name.to_owned()),
        (_, None) => bail!("neither an answer nor an error that the fence makes"),
    };
    Ok(Answer { reply, millis })
}

/// The error of connect(), as curl spells it.
fn refusal(said: &str) -> Option<&'static str> {
    let known = [
        ("Operation not permitted", "EPERM"),
        ("Connection refused", "ECONNREFUSED"),
        ("No route to host", "EHOSTUNREACH"),
    ];
    known.into_iter().find(|(text, _)| said.contains(text)).map(|(_, name)| name)
}

fn read_python(out: &str) -> Result<Answer> {
    let told: Told = serde_json::from_str(out.trim()).context("no JSON from client.py")?;
    let reply = match told.outcome.as_str() {
        "reached" => Reply::Reached,
        "silent" | "closed" => Reply::Silent,
        _ => Reply::Refused(told.outcome),
    };
    Ok(Answer { reply, millis: told.millis })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{Reply, read_curl, read_python};

    #[test]
    fn curl_is_understood_when_it_is_answered_refused_and_left_waiting() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        let reply = |status, out, err| read_curl(status, out, err).map(|answer| answer.reply);
        assert_eq!(reply(exit(0), "200 0.001500", "").unwrap(), Reply::Reached);
        let refused = "* Immediate connect fail for 13.110.54.10: Operation not permitted\n";
        assert_eq!(reply(exit(7), "000 0.000300", refused).unwrap(), Reply::Refused("EPERM".into()));
        assert_eq!(reply(exit(28), "000 5.000100", "").unwrap(), Reply::Silent);
        assert!(reply(exit(6), "000 0.0", "Could not resolve host").is_err());
        assert!(reply(exit(0), "500 0.1", "").is_err());
        let millis = read_curl(exit(0), "200 0.001500", "").unwrap().millis;
        assert!((millis - 1.5).abs() < 1e-9, "{millis}");
    }

    #[test]
    fn python_is_understood() {
        let reply = |outcome: &str| {
            read_python(&format!("{{\"outcome\": \"{outcome}\", \"millis\": 0.5}}\n")).unwrap().reply
        };
        assert_eq!(reply("reached"), Reply::Reached);
        assert_eq!(reply("silent"), Reply::Silent);
        assert_eq!(reply("EPERM"), Reply::Refused("EPERM".into()));
        assert!(read_python("Traceback").is_err());
    }
}
