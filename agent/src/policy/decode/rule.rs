//! Rules: the entries of `allow` and `block`, in fences and in exceptions.

use super::fields::{Fields, choice, each, list, word, words};
use crate::places::parse_cidr;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::ports::Ports;
use crate::policy::schema::{Rule, Severity};
use crate::policy::tree::Node;

/// Where the rules stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `allow` of a fence or an exception.
    Allow,
    /// `block` of a fence.
    Block,
}

impl Side {
    const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

const SEVERITIES: [(&str, Severity); 4] = [
    ("Low", Severity::Low),
    ("Medium", Severity::Medium),
    ("High", Severity::High),
    ("Critical", Severity::Critical),
];

/// The entries of a list of rules. Those in which something is wrong are left out: the document is refused anyway.
pub(super) fn rules(node: &Node, side: Side, findings: &mut Findings) -> Vec<Rule> {
    list(node, side.word(), findings).iter().filter_map(|node| rule(node, side, findings)).collect()
}

fn rule(node: &Node, side: Side, findings: &mut Findings) -> Option<Rule> {
    let mut fields = Fields::open(node, "rule", findings)?;
    if fields.is_empty() {
        findings.error(node.at, "an empty rule", "say what it matches: jurisdictions, cidrs");
        return None;
    }
    let name = fields
        .get("name", findings)
        .and_then(|n| Some(Spanned { value: word(n, "name", findings)?, at: n.at }));
    let jurisdictions = fields.get("jurisdictions", findings);
    let cidrs = fields.get("cidrs", findings);
    let ports = fields.get("ports", findings);
    let hosts = fields.not_in_this_build("hosts", findings);
    let basis = fields.get("basis", findings).and_then(|n| word(n, "basis", findings));
    let severity = fields
        .get("severity", findings)
        .and_then(|n| Some(Spanned { value: choice(n, "severity", &SEVERITIES, findings)?, at: n.at }));
    if let (Side::Allow, Some(severity)) = (side, &severity) {
        findings.warn(severity.at, "`severity` on a rule that allows is never used", "remove it");
    }
    fields.close(findings);

    // An empty list would match everything: a field is there to narrow.
    for (field, node) in [("jurisdictions", jurisdictions), ("cidrs", cidrs), ("ports", ports)] {
        if let Some(node) = node
            && node.is_empty_list()
        {
            findings.error(node.at, format!("`{field}` is empty"), "list something, or remove the field");
        }
    }
    if jurisdictions.is_none() && cidrs.is_none() && !hosts {
        let (what, mend) = if ports.is_some() {
            ("a rule of ports alone", "add jurisdictions or cidrs: a port says nothing about where data goes")
        } else {
            ("a rule that matches nothing", "say what it matches: jurisdictions, cidrs")
        };
        findings.error(node.at, what, mend);
    }
    Some(Rule {
        at: node.at,
        name,
        jurisdictions: jurisdictions.map(|n| words(n, "jurisdictions", findings)).unwrap_or_default(),
        cidrs: cidrs.map(|n| each(n, "cidrs", findings, parse_cidr)).unwrap_or_default(),
        ports: ports
            .map(|n| {
                each(n, "ports", findings, |text| {
                    Ports::parse(text).map_err(|e| format!("{text:?} names no ports: {e}"))
                })
            })
            .unwrap_or_default(),
        basis,
        severity,
    })
}
