//! `ringfence status`: what the agent is doing; also how scripts wait until it is ready.

use std::io::Write;
use std::time::Duration;

use agent_proto::v1;
use agent_proto::v1::node_service_client::NodeServiceClient;
use tokio::time::{Instant, sleep, timeout};

use super::client::{ANSWER_TIMEOUT, ClientError, SocketArg, connect};
use super::output::{Colour, Exit, Style, parse_duration, printable};
use crate::events::model::words::{Guard, State};
use crate::grpc::convert::answers_in::{self, StatusReport};
use crate::hostlayer::report::Interface;

const EXAMPLES: &str = "\
Examples:
  ringfence status                        what the agent is doing
  ringfence status --wait 10s             wait until it is ready
  ringfence status -o json | jq .generation

Exit codes: 0 in force, 1 not (yet) in force, 4 no agent answers.";

/// Time between two questions while waiting.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `ringfence status`.
#[derive(Debug, Clone, clap::Args)]
#[command(about = "Show what the agent is doing", after_help = EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    agent: SocketArg,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Wait that long for an agent that is in force
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Asks and prints. `Fine` when the policy is in force, also where a layer is missing (`Degraded`).
///
/// # Errors
/// When no agent answers, or its answer can't be read or printed.
pub async fn status(args: &StatusArgs, style: Style, out: &mut impl Write) -> Result<Exit, ClientError> {
    let report = match args.wait {
        None => ask(args, ANSWER_TIMEOUT).await?,
        Some(wait) => ask_until_in_force(args, wait).await?,
    };
    match args.output {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Format::Text => print_text(&report, style, out)?,
    }
    out.flush()?;
    Ok(if in_force(report.agent.state) { Exit::Fine } else { Exit::Failed })
}

const fn in_force(state: State) -> bool {
    match state {
        State::Ready | State::Degraded => true,
        State::Starting | State::Stopping => false,
    }
}

/// Asks once; an agent that has not answered within `limit` is taken for silent.
async fn ask(args: &StatusArgs, limit: Duration) -> Result<StatusReport, ClientError> {
    let socket = &args.agent.socket;
    let ask = async {
        let mut client = NodeServiceClient::new(connect(socket).await?);
        let answer = client.status(v1::StatusRequest {}).await?;
        Ok(answers_in::status(answer.into_inner())?)
    };
    timeout(limit, ask).await.unwrap_or_else(|_elapsed| {
        let problem = format!("no answer within {limit:?}");
        Err(ClientError::Silent { socket: socket.clone(), problem })
    })
}

/// Asks again while there is no agent or it is not in force yet; at the deadline the last answer counts.
async fn ask_until_in_force(args: &StatusArgs, wait: Duration) -> Result<StatusReport, ClientError> {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = ask(args, left.clamp(POLL, ANSWER_TIMEOUT)).await;
        let worth_waiting = match &answer {
            Ok(report) => !in_force(report.agent.state),
            Err(error) => error.exit() == Exit::Unreachable,
        };
        if !worth_waiting || Instant::now() + POLL > deadline {
            return answer;
        }
        sleep(POLL).await;
    }
}

/// One line a fact: its name in the first column, so that people find it and `grep` too.
fn print_text(report: &StatusReport, style: Style, out: &mut impl Write) -> std::io::Result<()> {
    let agent = &report.agent;
    let colour = match agent.state {
        State::Ready => Colour::Good,
        State::Starting | State::Degraded => Colour::Warn,
        State::Stopping => Colour::Bad,
    };
    let mut line = |name: &str, text: String| writeln!(out, "{name:<9} {text}");
    line("state", format!("{} since {}", style.paint(colour, agent.state.as_str()), agent.started))?;
    for detail in &agent.details {
        line("note", style.paint(Colour::Warn, &printable(detail)))?;
    }
    line(
        "node",
        format!("{}, ringfence {}, kernel {}", printable(&report.node), report.version, agent.kernel),
    )?;
    line("attached", printable(&agent.cgroup_root))?;
    let policy = match agent.generation {
        0 => "none: every workload is observed, nothing is blocked".to_owned(),
        generation => format!("generation {generation}"),
    };
    line("policy", policy)?;
    for fence in &*agent.fences {
        line("fence", format!("{:<7} {}", fence.mode, printable(&fence.name)))?;
    }
    for program in &agent.programs {
        let state = if program.attached { "attached" } else { "off" };
        let colour = if program.attached { Colour::Good } else { Colour::Warn };
        let detail =
            program.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
        line("program", format!("{} {}{detail}", style.paint(colour, &format!("{state:<8}")), program.name))?;
    }
    for interface in &agent.interfaces {
        line("interface", interface_line(interface, style))?;
    }
    for set in &agent.data_sets {
        let date = set.data_date.map(|date| format!(" of {date}")).unwrap_or_default();
        let notice =
            set.notice.as_deref().map(|notice| format!(" ({})", printable(notice))).unwrap_or_default();
        line("data", format!("{}{date}, {} ranges{notice}", printable(&set.name), set.ranges))?;
    }
    for stop in &agent.stops {
        let lost = stop.lost.iter().filter(|lost| lost.count > 0);
        let lost: String = lost.map(|lost| format!(", lost {} {}", lost.count, lost.reason)).collect();
        let lost = if lost.is_empty() { lost } else { style.paint(Colour::Warn, &lost) };
        line("stop", format!("{:<8} in {}, out {}{lost}", stop.stop, stop.events_in, stop.events_out))?;
    }
    let (id, head, now) = (&report.stream_id, report.head_sequence, report.subscribers);
    line("stream", format!("{id}, {head} events, {now} subscribers"))
}

fn interface_line(interface: &Interface, style: Style) -> String {
    let colour = match interface.guard {
        Guard::Tcx | Guard::Clsact => Colour::Good,
        Guard::Shared | Guard::None => Colour::Warn,
    };
    let guard = style.paint(colour, &format!("{:<8}", interface.guard.as_str()));
    let name = interface.name.as_deref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
    let index = interface.index.map(|index| format!(" ({index})")).unwrap_or_default();
    let counts = match (interface.blocked, interface.would_block) {
        _ if interface.name.is_none() => String::new(),
        (blocked, 0) => format!(", blocked {blocked}"),
        (blocked, would) => format!(", blocked {blocked}, would block {would}"),
    };
    let detail =
        interface.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    format!("{guard}{name}{index} of {}{counts}{detail}", printable(&interface.workload))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
