//! What would happen to one flow, and why: the image's own answer, with its numbers turned into names.

use std::net::IpAddr;

use agent_common::address::Address;
use agent_common::flow::{Direction, Flow, flags};
use agent_common::verdict::{NONE, Outcome, Verdict, View, decide, outcomes};
use serde::Serialize;

use super::cgroup_path::CgroupPath;
use super::manifest::{Manifest, reason_name};
use super::target::Target;

/// The flow that is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The cgroup that the socket lies in.
    pub cgroup: CgroupPath,
    /// Where the bytes would go.
    pub target: Target,
    /// Who opened the exchange.
    pub direction: Direction,
}

/// The answer; field by field what `ringfence explain -o json` prints. Absent is null.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `Allow` or `Block`: what happens to the bytes.
    pub verdict: &'static str,
    /// `Allow` or `Block`: what would happen if every fence enforced.
    pub would_be: &'static str,
    /// The step of the evaluation that decided.
    pub reason: &'static str,
    /// The fence that decided; null if none was asked.
    pub fence: Option<String>,
    /// The rule or exception that decided, or `default`, `unknown`, `internal`, `dns`, `metadata`, …
    pub rule: Option<String>,
    /// What each fence around the workload says.
    pub matched: Vec<FenceSays>,
    /// ISO 3166-1 code that the data gives for the address, also where the place is anycast.
    pub country: Option<String>,
    /// All jurisdictions that the address lies in.
    pub jurisdictions: Vec<String>,
    /// Which source said so.
    pub source: Option<String>,
    /// The source's date.
    pub data_date: Option<String>,
    /// The layer of the source.
    pub layer: Option<&'static str>,
    /// The provider, if its ranges answered.
    pub provider: Option<String>,
    /// The provider's region.
    pub region: Option<String>,
    /// As asked; v4-mapped as IPv4.
    pub address: IpAddr,
    /// As asked; null where the protocol has no ports.
    pub port: Option<u16>,
    /// As asked.
    pub protocol: String,
    /// `Outbound` or `Inbound`.
    pub direction: &'static str,
    /// As asked.
    pub cgroup: String,
    /// The workload that the cgroup belongs to: the deepest subject that holds it; null if none does.
    pub workload: Option<String>,
}

/// What one fence says of the flow.
#[derive(Clone, Debug, Serialize)]
pub struct FenceSays {
    /// The fence.
    pub fence: String,
    /// `Audit` or `Enforce`.
    pub mode: &'static str,
    /// `Allow` or `Block`.
    pub verdict: &'static str,
    /// The step of the evaluation that decided.
    pub reason: &'static str,
    /// The rule that decided, as in [`Explanation::rule`].
    pub rule: Option<String>,
    /// The rule's legal basis.
    pub basis: Option<String>,
    /// Until when the exception that decided holds.
    pub expires_at: Option<String>,
    /// Where the fence was written; null if the agent was asked.
    pub file: Option<String>,
    /// Line of its name.
    pub line: Option<u32>,
}

/// The word for a verdict.
#[must_use]
pub const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "Allow",
        Verdict::Block => "Block",
    }
}

/// The word for a direction.
#[must_use]
pub const fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "Outbound",
        Direction::Inbound => "Inbound",
    }
}

fn reason_word(outcome: Outcome) -> &'static str {
    reason_name(outcome.reason()).expect("invariant: decide packs reasons that exist")
}

/// Asks the image. `manifest` must be the one that was compiled with it.
#[must_use]
pub fn explain<V: View>(view: &V, manifest: &Manifest, question: &Question) -> Explanation {
    let target = &question.target;
    let flow = Flow {
        remote: Address::from(target.address),
        port: target.port.unwrap_or(0),
        protocol: target.protocol,
        direction: question.direction,
        flags: if target.port.is_none() { flags::NO_PORT } else { 0 },
    };
    let workload = manifest.workload_of(&question.cgroup);
    let set = workload.map_or(0, |w| w.set);
    let decision = decide(view, set, &flow);

    let mut matched = Vec::new();
    // Where no fence decided, none was asked: LOOPBACK is never judged.
    if decision.outcome.fence() != NONE {
        outcomes(view, set, &flow, |outcome| matched.extend(fence_says(manifest, outcome)));
    }

    let place = manifest.table.places.get(usize::from(decision.place));
    let source = place.and_then(|p| manifest.table.sources.get(usize::from(p.source)));
    Explanation {
        verdict: verdict_word(decision.enforced),
        would_be: verdict_word(decision.would_be),
        reason: reason_word(decision.outcome),
        fence: manifest.fence(decision.outcome).map(|f| f.name.to_string()),
        rule: manifest.rule_name(decision.outcome).map(str::to_owned),
        matched,
        country: place.and_then(|p| p.country).map(|c| c.to_string()),
        jurisdictions: manifest.jurisdictions(decision.place).iter().map(ToString::to_string).collect(),
        source: source.map(|s| s.name.clone()),
        data_date: source.and_then(|s| s.date).map(|d| d.to_string()),
        layer: source.map(|s| s.layer.as_str()),
        provider: place.and_then(|p| p.provider.as_deref()).map(str::to_owned),
        region: place.and_then(|p| p.region.as_deref()).map(str::to_owned),
        address: IpAddr::from(flow.remote),
        port: target.port,
        protocol: target.protocol_name(),
        direction: direction_word(question.direction),
        cgroup: question.cgroup.to_string(),
        workload: workload.map(|w| w.path.to_string()),
    }
}

fn fence_says(manifest: &Manifest, outcome: Outcome) -> Option<FenceSays> {
    let fence = manifest.fence(outcome)?;
    let rule = manifest.rule(outcome);
    Some(FenceSays {
        fence: fence.name.to_string(),
        mode: fence.mode.word(),
        verdict: verdict_word(outcome.verdict()),
        reason: reason_word(outcome),
        rule: manifest.rule_name(outcome).map(str::to_owned),
        basis: rule.and_then(|r| r.basis.as_deref()).map(str::to_owned),
        expires_at: rule.and_then(|r| r.expires_at).map(|t| t.to_string()),
        file: Some(fence.origin.file.to_string()),
        line: Some(fence.origin.line),
    })
}
