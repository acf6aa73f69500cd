//! What the services ask of the agent: plain questions and answers, no messages, no async.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use crate::events::model::flow::{Endpoint, FenceOutcome, Place, Protocol};
use crate::events::model::notice::FenceRef;
use crate::events::model::words::{LostReason, Mode, Reason, State, Verdict};
use crate::hostlayer::report::Interface;

/// The agent, as the services see it. Answers come from what is in force at the moment of the question.
///
/// Methods may take a few milliseconds of processor time, but must not wait for anything; `validate` and
/// `explain` are called where blocking is allowed.
pub trait Backend: Send + Sync + 'static {
    /// The policy image in force; 0 = none. Called with every heartbeat: keep it cheap.
    fn generation(&self) -> u64;

    /// What the agent is doing.
    fn status(&self) -> AgentStatus;

    /// The policy in force.
    fn fences(&self) -> FenceList;

    /// Checks documents together, as the agent would before publishing them. Publishes nothing.
    fn validate(&self, documents: &[Document]) -> Validation;

    /// What the policy in force makes of a destination.
    fn explain(&self, question: &Question) -> Explanation;

    /// What the data in force knows of an address.
    fn lookup(&self, address: IpAddr) -> LookupAnswer;

    /// Whether a code (`DE`, `EEA`, `UNKNOWN`) names a jurisdiction in force: a filter for one that does
    /// not would stay silent for ever.
    ///
    /// # Errors
    /// When it names none, with the one that was probably meant.
    fn check_jurisdiction(&self, code: &str) -> Result<(), UnknownJurisdiction>;
}

/// A code that names no jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownJurisdiction {
    /// The code that was probably meant.
    pub suggestion: Option<String>,
}

/// What the agent is doing; stream id, head and subscribers are the hub's to tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentStatus {
    /// The running kernel's release.
    pub kernel: String,
    /// What the agent as a whole is doing.
    pub state: State,
    /// For people: what is missing or wrong, one sentence each.
    pub details: Vec<String>,
    /// When the agent started.
    pub started: Timestamp,
    /// Where programs are attached.
    pub cgroup_root: String,
    /// The policy image in force; 0 = none, the agent observes.
    pub generation: u64,
    /// Fences in force.
    pub fences: Arc<[FenceRef]>,
    /// Programs and whether they are attached.
    pub programs: Vec<ProgramStatus>,
    /// Data sets in force.
    pub data_sets: Vec<DataSet>,
    /// Counters of stops 1 to 6, in order; the services add those of the hub.
    pub stops: Vec<StopCounts>,
    /// Interfaces of fenced workloads; empty where the host layer is off.
    pub interfaces: Vec<Interface>,
}

/// One kernel program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// It is attached.
    pub attached: bool,
    /// For people: why not, or how.
    pub detail: Option<String>,
}

/// One data set that says where addresses are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataSet {
    /// Its name, as events give it in `source`.
    pub name: String,
    /// Date of the data.
    pub data_date: Option<Date>,
    /// How many address ranges it holds.
    pub ranges: u64,
    /// The notice that its licence asks for.
    pub notice: Option<String>,
}

/// What one stop has counted since the agent started: in = out + lost + in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopCounts {
    /// Name of the stop.
    pub stop: String,
    /// Events that came in.
    pub events_in: u64,
    /// Events that went on.
    pub events_out: u64,
    /// Events that were lost, by reason; reasons that never happened may be left out.
    pub lost: Vec<LostCount>,
}

/// Losses for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LostCount {
    /// Why.
    pub reason: LostReason,
    /// How many.
    pub count: u64,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceList {
    /// The image; 0 = none.
    pub generation: u64,
    /// Its fences, by name.
    pub fences: Vec<FenceSummary>,
}

/// One fence in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceSummary {
    /// Its name.
    pub name: String,
    /// Whether it acts on its verdicts.
    pub mode: Mode,
    /// What it selects, as its author wrote it.
    pub subjects: Vec<String>,
    /// How many rules it has.
    pub rules: u32,
    /// How many of its exceptions are live.
    pub exceptions: u32,
    /// The file that it came from.
    pub source: Option<String>,
    /// What it requires of the node, in the words of `spec.require`.
    pub require: Vec<String>,
}

/// One policy file to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name, as findings shall print it.
    pub file: String,
    /// Its text: YAML, one document or several.
    pub text: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The documents would be published.
    pub accepted: bool,
    /// Errors and warnings, in order of file and line.
    pub findings: Vec<Finding>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingLevel {
    /// The documents are refused because of it.
    Error,
    /// The documents are right, but probably not what was meant.
    Warning,
}

/// Something about one place of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: FindingLevel,
    /// The file, as the request named it.
    pub file: String,
    /// Line, from 1; 0 = the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 = the line as a whole.
    pub column: u32,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// One workload and one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Cgroup path below the cgroup2 mount, starting with `/`.
    pub cgroup: String,
    /// Where to.
    pub remote: Endpoint,
    /// What carries the bytes.
    pub protocol: Protocol,
}

/// The verdict that the kernel would give now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What would happen to the bytes.
    pub verdict: Verdict,
    /// `Block` if any fence, Audit included, says so.
    pub would_be: Verdict,
    /// The step of the evaluation that decides.
    pub reason: Reason,
    /// The fence that decides.
    pub fence: Option<String>,
    /// The rule or exception that decides, or the word of the fence that does.
    pub rule: Option<String>,
    /// What each matching fence says.
    pub outcomes: Arc<[FenceOutcome]>,
    /// What the address is known to be.
    pub place: Arc<Place>,
    /// The image that was asked.
    pub generation: u64,
}

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupAnswer {
    /// The address that was judged: an embedded IPv4 address is taken out.
    pub address: IpAddr,
    /// What it is known to be.
    pub place: Arc<Place>,
}
