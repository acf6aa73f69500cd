//! What a user may ask `watch` for, and the request that says it.

use std::time::Duration;

use agent_proto::v1;

use crate::cli::client::SocketArg;
use crate::cli::output::parse_duration;

const EXAMPLES: &str = "\
Examples:
  ringfence watch                             violations, as they happen
  ringfence watch --all --workload crm        every flow of one workload
  ringfence watch --all --not-in EEA          what goes anywhere else
  ringfence watch --verdict Allow             what fences in Audit would have blocked
  ringfence watch --to 10.0.0.0/8 --port 443 --all
  ringfence watch -o json --count 1 --timeout 30s | jq .remote

Values of one option are alternatives; different options must all match.
Exit codes: 0 fine, 1 failed (--timeout before --count), 2 usage, 4 no agent answers.";

/// Arguments of `ringfence watch`.
#[derive(Debug, Clone, clap::Args)]
#[command(about = "Print events as they happen: violations, unless asked for more", after_help = EXAMPLES)]
pub struct WatchArgs {
    #[command(flatten)]
    pub(super) agent: SocketArg,
    /// How to print an event
    #[arg(short, long, value_enum, default_value = "compact")]
    pub(super) output: Format,
    /// Flows that no fence blocks, too
    #[arg(long)]
    all: bool,
    /// Begin with the events that the agent still holds
    #[arg(long)]
    earliest: bool,
    /// Only this workload
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    workload: Vec<String>,
    /// Only this cgroup path (below the cgroup2 mount) and what is below it
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Only where this happened to the bytes
    #[arg(long, value_enum, ignore_case = true, value_name = "VERDICT")]
    verdict: Vec<VerdictArg>,
    /// Only where all fences together, Audit included, say this
    #[arg(long, value_enum, ignore_case = true, value_name = "VERDICT")]
    would_be: Vec<VerdictArg>,
    /// Only to this country, group or special place (DE, EEA, UNKNOWN)
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    country: Vec<String>,
    /// Only to places outside of all of these
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    not_in: Vec<String>,
    /// Only what this fence judged
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    fence: Vec<String>,
    /// Only to this address or block
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    to: Vec<String>,
    /// Only to this port
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
    /// End after that many violations or flows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// End after that time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Compact,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VerdictArg {
    #[value(name = "Allow")]
    Allow,
    #[value(name = "Block")]
    Block,
}

impl VerdictArg {
    fn to_wire(self) -> i32 {
        match self {
            Self::Allow => v1::Verdict::Allow.into(),
            Self::Block => v1::Verdict::Block.into(),
        }
    }
}

impl WatchArgs {
    /// The request: one allow filter of everything that was asked for, one deny filter for `--not-in`.
    pub(super) fn request(&self) -> v1::WatchRequest {
        let allow = v1::EventFilter {
            cgroups: self.cgroup.clone(),
            workloads: self.workload.clone(),
            verdicts: self.verdict.iter().map(|verdict| verdict.to_wire()).collect(),
            would_be: self.would_be.iter().map(|verdict| verdict.to_wire()).collect(),
            kinds: Vec::new(),
            jurisdictions: self.country.clone(),
            cidrs: self.to.clone(),
            ports: self.port.iter().map(|port| u32::from(*port)).collect(),
            fences: self.fence.clone(),
        };
        let deny = v1::EventFilter { jurisdictions: self.not_in.clone(), ..v1::EventFilter::default() };
        let from = if self.earliest { v1::WatchFrom::Earliest } else { v1::WatchFrom::Latest };
        v1::WatchRequest {
            allow_filters: unless_empty(allow),
            deny_filters: unless_empty(deny),
            all: self.all,
            from: from.into(),
            heartbeat_interval: None,
        }
    }
}

/// A filter without fields would be refused: nothing was asked for.
fn unless_empty(filter: v1::EventFilter) -> Vec<v1::EventFilter> {
    if filter == v1::EventFilter::default() { Vec::new() } else { vec![filter] }
}
