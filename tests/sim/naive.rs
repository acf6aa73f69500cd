//! The evaluation of design section 7, written from its text alone.

use agent_common::image::PlaceKind;

use crate::model::{
    CELLS, CIDRS, Cell, FenceModel, FlowModel, PATHS, PROTOCOLS, PolicyModel, Remote, RuleModel, Subjects,
    Word,
};

/// What one fence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    pub(crate) fence: String,
    pub(crate) enforce: bool,
    pub(crate) verdict: Word,
    /// The name of the rule or exception, or of what decided.
    pub(crate) rule: String,
}

/// What comes of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) enforced: Word,
    pub(crate) would_be: Word,
    /// By fence name. Empty for loopback.
    pub(crate) says: Vec<Says>,
}

pub(crate) fn answer(policy: &PolicyModel, flow: &FlowModel) -> Answer {
    let cells = match flow.remote {
        Remote::V4(c) | Remote::Mapped(c) | Remote::Nat64(c) | Remote::SixToFour(c) | Remote::V6(c) => {
            vec![c]
        }
        Remote::Teredo { server, client } => vec![server, client],
    };
    let mut says: Vec<Says> = Vec::new();
    // "LOOPBACK is never judged."
    if cells.iter().all(|&c| CELLS[c].kind == PlaceKind::Loopback) {
        return Answer { enforced: Word::Allow, would_be: Word::Allow, says };
    }
    for (number, fence) in policy.fences.iter().enumerate() {
        if !in_subjects(&fence.subjects, flow.workload) {
            continue;
        }
        // "Teredo by the stricter of server and client."
        let each: Vec<(Word, String)> =
            cells.iter().map(|&c| one_fence(policy, number, fence, flow, c)).collect();
        let strictest = each.iter().find(|(verdict, _)| *verdict == Word::Block).or(each.last());
        let (verdict, rule) = strictest.expect("at least one place").clone();
        says.push(Says { fence: format!("f{number}"), enforce: fence.enforce, verdict, rule });
    }
    says.sort_by(|a, b| a.fence.cmp(&b.fence));
    // "Enforced = Block if any fence with mode Enforce says Block."
    let blocked = |says: &Says| says.verdict == Word::Block;
    let enforced = if says.iter().any(|s| s.enforce && blocked(s)) { Word::Block } else { Word::Allow };
    // "would_be ... is Block if any fence, Audit included, says Block."
    let would_be = if says.iter().any(blocked) { Word::Block } else { Word::Allow };
    Answer { enforced, would_be, says }
}

/// "the path and everything below it"
fn in_subjects(subjects: &Subjects, workload: Option<usize>) -> bool {
    match subjects {
        Subjects::All => true,
        Subjects::Paths(paths) => workload.is_some_and(|workload| {
            let parts: Vec<&str> = PATHS[workload].split('/').collect();
            paths.iter().any(|&p| parts.starts_with(&PATHS[p].split('/').collect::<Vec<_>>()))
        }),
    }
}

fn one_fence(
    policy: &PolicyModel,
    number: usize,
    fence: &FenceModel,
    flow: &FlowModel,
    at: usize,
) -> (Word, String) {
    let place = CELLS[at];
    let named = |verdict, name: &str| (verdict, name.to_owned());
    // "inbound: Allow": what accepted sockets send back is not judged.
    if flow.inbound && !fence.judge_inbound {
        return named(Word::Allow, "inbound");
    }
    // A packet that names its own route may not end where its address says.
    if flow.routed {
        return named(Word::Block, "routed");
    }
    // "protocols: opened by name"; TCP and UDP are always judged.
    let name = PROTOCOLS.iter().find(|(_, numbers)| numbers.contains(&flow.protocol)).map_or("raw", |p| p.0);
    if !matches!(flow.protocol, 6 | 17) && !fence.protocols.contains(&name) {
        return named(Word::Block, name);
    }
    if place.kind == PlaceKind::Loopback {
        return named(Word::Allow, "loopback");
    }
    // 1. a live exception of this fence matches
    for (x, exception) in policy.exceptions.iter().enumerate().collect::<Vec<_>>() {
        let here = exception.fence == number
            && exception.subjects.as_ref().is_none_or(|s| in_subjects(s, flow.workload));
        let second = 1_000_000_000;
        let begun = exception.not_before.is_none_or(|from| from * second <= flow.at);
        let ended = exception.expires_at * second <= flow.at;
        if here && begun && !ended && exception.allow.iter().any(|r| rule_matches(r, place, at, flow, false))
        {
            return (Word::Allow, format!("x{x}"));
        }
    }
    // 2. a block rule matches
    if let Some(r) = fence.block.iter().position(|r| rule_matches(r, place, at, flow, true)) {
        return (Word::Block, format!("b{r}"));
    }
    // 3. an allow rule matches
    if let Some(r) = fence.allow.iter().position(|r| rule_matches(r, place, at, flow, false)) {
        return (Word::Allow, format!("a{r}"));
    }
    // 4. DNS to a trusted resolver
    if place.resolver && flow.port == Some(53) {
        return named(fence.dns, "dns");
    }
    match place.kind {
        // 5. METADATA
        PlaceKind::Metadata => named(Word::Block, "metadata"),
        // 6. internal
        PlaceKind::Cluster => named(fence.internal[0], "internal"),
        PlaceKind::Private => named(fence.internal[1], "internal"),
        PlaceKind::LinkLocal => named(fence.internal[2], "internal"),
        // 7. unknown (default: as `default`)
        PlaceKind::Unknown | PlaceKind::Anycast | PlaceKind::Multicast | PlaceKind::Reserved => {
            named(fence.unknown.unwrap_or(fence.default), "unknown")
        }
        // 8. default
        PlaceKind::Country => named(fence.default, "default"),
        PlaceKind::Loopback => unreachable!("answered above"),
    }
}

/// "inside a rule fields are AND, values of a field are OR"
fn rule_matches(rule: &RuleModel, place: Cell, at: usize, flow: &FlowModel, blocks: bool) -> bool {
    let v4 = !matches!(flow.remote, Remote::V6(_));
    let jurisdictions =
        rule.jurisdictions.is_empty() || rule.jurisdictions.iter().any(|j| in_jurisdiction(j, place));
    let cidrs = rule.cidrs.is_empty()
        || v4 && rule.cidrs.iter().any(|&c| (CIDRS[c].0..CIDRS[c].0 + CIDRS[c].1).contains(&at));
    jurisdictions && cidrs && ports_match(rule, flow, blocks)
}

/// What can't be seen is never allowed by a guess, and never let out of a block.
fn ports_match(rule: &RuleModel, flow: &FlowModel, blocks: bool) -> bool {
    if rule.ports.is_empty() {
        return true;
    }
    let transport = match flow.protocol {
        6 => "tcp",
        17 | 136 => "udp",
        _ => return blocks,
    };
    let Some(port) = flow.port else { return blocks };
    rule.ports.iter().any(|p| p.transport.is_none_or(|t| t == transport) && (p.from..=p.to).contains(&port))
}

fn in_jurisdiction(name: &str, place: Cell) -> bool {
    let country = if place.kind == PlaceKind::Country { place.country.unwrap_or("") } else { "" };
    let is = |list: &[&str]| list.contains(&country);
    match name {
        "EU" => is(&["DE", "FR"]),
        "EEA" => is(&["DE", "FR", "NO"]),
        "EFTA" => is(&["NO", "CH"]),
        "GDPR-ADEQUATE" => is(&["CH", "GB"]),
        "CUSTOM" => is(&["JP", "NO", "CH"]),
        "UNKNOWN" => place.kind == PlaceKind::Unknown,
        "ANYCAST" => place.kind == PlaceKind::Anycast,
        "PRIVATE" => place.kind == PlaceKind::Private,
        "CLUSTER" => place.kind == PlaceKind::Cluster,
        "METADATA" => place.kind == PlaceKind::Metadata,
        "RESERVED" => place.kind == PlaceKind::Reserved,
        code => country == code,
    }
}
