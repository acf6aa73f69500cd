//! A [`PolicyModel`] as the documents that a person would write.

use std::fmt::Write;

use crate::model::{
    CIDRS, EPOCH, ExceptionModel, FenceModel, PATHS, PolicyModel, PortRange, RuleModel, Subjects, Word,
};

const HEAD: &str = "apiVersion: ringfence.dev/v1alpha1\n";

/// The group that rules call `CUSTOM`.
const GROUP: &str = "apiVersion: ringfence.dev/v1alpha1\nkind: JurisdictionGroup\nmetadata: {name: CUSTOM}\n\
                     spec: {members: [JP, EFTA], reference: a test, validFrom: 2026-01-01}\n";

/// The order of the rules in a list.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Forwards,
    Backwards,
}

/// One document each.
pub(crate) fn documents(policy: &PolicyModel, order: Order) -> Vec<String> {
    let mut out = vec![GROUP.to_owned()];
    out.extend(policy.fences.iter().enumerate().map(|(n, f)| fence(n, f, order)));
    out.extend(policy.exceptions.iter().enumerate().map(|(n, x)| exception(n, x, order)));
    out
}

fn word(word: Word) -> &'static str {
    match word {
        Word::Allow => "Allow",
        Word::Block => "Block",
    }
}

fn fence(number: usize, fence: &FenceModel, order: Order) -> String {
    let mut out = format!("{HEAD}kind: GeoFence\nmetadata: {{name: f{number}}}\nspec:\n");
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String takes everything");
    if fence.enforce {
        line("mode: Enforce".to_owned());
    }
    line(format!("subjects: {}", subjects(&fence.subjects)));
    let [cluster, private, link_local] = fence.internal.map(word);
    line(format!("internal: {{cluster: {cluster}, private: {private}, linkLocal: {link_local}}}"));
    line(format!("inbound: {}", if fence.judge_inbound { "Judge" } else { "Allow" }));
    line(format!("allow: [{}]", rules("a", &fence.allow, order)));
    line(format!("block: [{}]", rules("b", &fence.block, order)));
    line(format!("default: {}", word(fence.default)));
    if let Some(unknown) = fence.unknown {
        line(format!("unknown: {}", word(unknown)));
    }
    line(format!("dns: {}", word(fence.dns)));
    line(format!("protocols: [{}]", fence.protocols.join(", ")));
    out
}

fn exception(number: usize, exception: &ExceptionModel, order: Order) -> String {
    let mut out = format!("{HEAD}kind: GeoFenceException\nmetadata: {{name: x{number}}}\nspec:\n");
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String takes everything");
    line(format!("fence: f{}", exception.fence));
    if let Some(list) = &exception.subjects {
        line(format!("subjects: {}", subjects(list)));
    }
    line(format!("allow: [{}]", rules("", &exception.allow, order)));
    line("reason: a test\n  approvedBy: a test".to_owned());
    if let Some(from) = exception.not_before {
        line(format!("notBefore: {}", moment(from)));
    }
    line(format!("expiresAt: {}", moment(exception.expires_at)));
    out
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(EPOCH + seconds).expect("in range").to_string()
}

fn subjects(subjects: &Subjects) -> String {
    match subjects {
        Subjects::All => "[{all: true}]".to_owned(),
        Subjects::Paths(paths) => {
            let entries: Vec<String> =
                paths.iter().map(|&p| format!("{{cgroups: [\"{}\"]}}", PATHS[p])).collect();
            format!("[{}]", entries.join(", "))
        }
    }
}

fn rules(prefix: &str, rules: &[RuleModel], order: Order) -> String {
    let one = |(number, rule): (usize, &RuleModel)| {
        let mut fields = Vec::new();
        if !prefix.is_empty() {
            fields.push(format!("name: {prefix}{number}"));
        }
        if !rule.jurisdictions.is_empty() {
            fields.push(format!("jurisdictions: [{}]", rule.jurisdictions.join(", ")));
        }
        if !rule.cidrs.is_empty() {
            let cidrs: Vec<String> = rule.cidrs.iter().map(|&c| format!("\"{}\"", CIDRS[c].2)).collect();
            fields.push(format!("cidrs: [{}]", cidrs.join(", ")));
        }
        if !rule.ports.is_empty() {
            let ports: Vec<String> = rule.ports.iter().map(port_range).collect();
            fields.push(format!("ports: [{}]", ports.join(", ")));
        }
        format!("{{{}}}", fields.join(", "))
    };
    let mut list: Vec<String> = rules.iter().enumerate().map(one).collect();
    if let Order::Backwards = order {
        list.reverse();
    }
    list.join(", ")
}

fn port_range(range: &PortRange) -> String {
    let mut text = range.from.to_string();
    if range.to != range.from {
        write!(text, "-{}", range.to).expect("a String takes everything");
    }
    match range.transport {
        Some(transport) => format!("\"{text}/{transport}\""),
        None => format!("\"{text}\""),
    }
}
