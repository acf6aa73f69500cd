//! `ringfence explain`: what would happen to a flow, and why: from policy files alone, no agent and no root, or from
//! what the agent has in force.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use agent_common::flow::Direction;
use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use super::check::Format;
use super::client::SocketArg;
use crate::places::{Groups, WorldBuilder};
use crate::policy::explain::{Explanation, Question, explain};
use crate::policy::image::{HostImage, world};
use crate::policy::target::Target;
use crate::policy::{CgroupPath, Context, Workload, check, load_all};

mod agent;

const EXAMPLES: &str = "\
Examples:
  ringfence explain --policy fences/ --cgroup /system.slice/crm.service --to 192.0.2.7:443/tcp
  ringfence explain --policy crm.yaml --cgroup /system.slice/crm.service --to '[2001:db8::1]:443/tcp' -o json
  ringfence explain --policy fences/ --cgroup /system.slice/crm.service --to 192.0.2.7/icmp
  ringfence explain --policy fences/ --at 2027-02-01T00:00:00Z ...     when an exception has ended
  ringfence explain --cgroup /system.slice/crm.service --to 192.0.2.7:443/tcp    what the agent has in force

The answer comes from the code that the kernel runs, over the same image.
Exit codes: 0 answered, whatever the verdict; 1 policy or data refused.";

/// Arguments of `ringfence explain`.
#[derive(Clone, Debug, Args)]
#[command(about = "Say what would happen to a flow, and why", after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// Policy file, or folder of them; without one the agent is asked what is in force
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    agent: SocketArg,
    /// The workload's cgroup, as a path below the cgroup2 mount
    #[arg(long, value_name = "PATH", value_parser = CgroupPath::parse)]
    cgroup: CgroupPath,
    /// Where the bytes would go
    #[arg(long, value_name = "ADDR:PORT/PROTOCOL")]
    to: Target,
    /// Ask for what an accepted socket sends back, not for what the workload opens itself
    #[arg(long)]
    inbound: bool,
    /// Country database (MMDB) in place of the built-in one
    #[arg(long, value_name = "FILE")]
    country_db: Option<PathBuf>,
    /// Share of the IPv4 addresses that the country database must know (0 to 1)
    #[arg(long, value_name = "SHARE", requires = "country_db")]
    country_db_min_share: Option<f64>,
    /// Address ranges that a cloud provider publishes; may be given more than once
    #[arg(long, value_name = "FILE")]
    provider_ranges: Vec<PathBuf>,
    /// Ask as of this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

impl ExplainArgs {
    fn places(&self) -> anyhow::Result<WorldBuilder> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("can't read {}", path.display()));
        let mut builder = match &self.country_db {
            Some(path) => WorldBuilder::country_db(read(path)?, path.display().to_string()),
            None => WorldBuilder::builtin(),
        };
        if let Some(share) = self.country_db_min_share {
            builder = builder.min_known_share(share);
        }
        for path in &self.provider_ranges {
            builder = builder.provider_file(&path.display().to_string(), &read(path)?)?;
        }
        Ok(builder)
    }
}

/// Explains and prints; findings and warnings of the data go to `err`.
///
/// # Errors
/// If files can't be read, the data is refused, or the policy does not fit into an image; without files, if no agent
/// answers.
pub fn run(args: &ExplainArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let answer = if args.policy.is_empty() {
        agent::ask(&args.agent.socket, &args.cgroup, args.to)?
    } else {
        match from_files(args, err)? {
            Some(answer) => answer,
            None => return Ok(ExitCode::FAILURE),
        }
    };
    match args.output {
        Format::Json => {
            serde_json::to_writer(&mut *out, &answer)?;
            writeln!(out)?;
        }
        Format::Text => print_text(&answer, out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// `None` if the documents are refused; the findings say why.
fn from_files(args: &ExplainArgs, err: &mut impl Write) -> anyhow::Result<Option<Explanation>> {
    let now = args.at.unwrap_or_else(Timestamp::now);
    let files = load_all(&args.policy)?;
    let groups = Groups::builtin()?;
    let checked = check(&files, Context { now, groups: &groups, cgroups: None });
    for finding in &checked.findings {
        writeln!(err, "{finding}")?;
    }
    let Some(set) = checked.set else { return Ok(None) };
    let world = world(args.places()?, &set)?;
    for warning in &world.table().warnings {
        writeln!(err, "warning: {warning}")?;
    }
    // The cgroup itself is the only workload: everything that holds for its ancestors holds for it.
    let workload = Workload { id: 0, path: args.cgroup.clone() };
    let image = HostImage::build(&set, &world, &[workload], now)?;
    let direction = if args.inbound { Direction::Inbound } else { Direction::Outbound };
    let question = Question { cgroup: args.cgroup.clone(), target: args.to, direction };
    Ok(Some(explain(&image.view(now), &image.manifest, &question)))
}

fn print_text(answer: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    let none = "-".to_owned();
    let address = match answer.port {
        Some(port) if answer.address.is_ipv6() => format!("[{}]:{port}", answer.address),
        Some(port) => format!("{}:{port}", answer.address),
        None => answer.address.to_string(),
    };
    let verdict = match (answer.verdict, answer.would_be) {
        ("Allow", "Block") => "Allow (an Audit fence would block it)".to_owned(),
        (verdict, _) => verdict.to_owned(),
    };
    let source = match (&answer.source, &answer.data_date) {
        (Some(source), Some(date)) => format!("{source} of {date}"),
        (Some(source), None) => source.clone(),
        (None, _) => none.clone(),
    };
    let decided = match (&answer.fence, &answer.rule) {
        (Some(fence), Some(rule)) => format!("{} by {fence}/{rule}", answer.reason),
        (Some(_), None) | (None, Some(_) | None) => answer.reason.to_owned(),
    };
    let lines = [
        ("flow", format!("{} {address}/{} from {}", answer.direction, answer.protocol, answer.cgroup)),
        ("verdict", verdict),
        ("decided", decided),
        ("place", answer.jurisdictions.join(" ")),
        ("country", answer.country.clone().unwrap_or(none)),
        ("source", source),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<9} {value}")?;
    }
    for fence in &answer.matched {
        let rule = fence.rule.as_deref().unwrap_or("-");
        write!(
            out,
            "{:<9} {} ({}) says {}: {} {rule}",
            "fence", fence.fence, fence.mode, fence.verdict, fence.reason
        )?;
        if let Some(basis) = &fence.basis {
            write!(out, ", {basis}")?;
        }
        if let Some(end) = &fence.expires_at {
            write!(out, ", until {end}")?;
        }
        match &fence.file {
            Some(file) => writeln!(out, " [{file}:{}]", fence.line.unwrap_or(0))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
