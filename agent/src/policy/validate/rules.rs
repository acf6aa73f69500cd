//! Rules: their names, the jurisdictions they name, and their CIDR lists, each list kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_common::image::PlaceKind;
use ipnet::IpNet;

use super::distinct;
use crate::places::{Groups, Jurisdiction};
use crate::policy::finding::{Findings, Spanned};
use crate::policy::manifest::RESERVED_RULE_NAMES;
use crate::policy::schema::{self, GeoFence};
use crate::policy::set::Rule;
use crate::policy::suggest::did_you_mean;
use crate::policy::tree::abridged;

/// Longest name of a rule: it is copied into each event.
const MAX_RULE_NAME: usize = 63;

/// Resolves jurisdictions and numbers CIDR lists.
pub(super) struct Interner<'a> {
    groups: &'a Groups,
    /// Sorted: a list's number does not depend on where it was written.
    cidr_sets: Vec<Vec<IpNet>>,
}

impl<'a> Interner<'a> {
    /// Takes in the CIDR lists of all rules.
    pub(super) fn new<'r>(groups: &'a Groups, rules: impl Iterator<Item = &'r schema::Rule>) -> Self {
        let lists: BTreeSet<Vec<IpNet>> =
            rules.map(|rule| nets(&rule.cidrs)).filter(|l| !l.is_empty()).collect();
        Self { groups, cidr_sets: lists.into_iter().collect() }
    }

    pub(super) fn groups(&self) -> &'a Groups {
        self.groups
    }

    /// The rules of one list, sorted by name: the order in a file means nothing.
    pub(super) fn rules(&self, rules: &[schema::Rule], side: &str, findings: &mut Findings) -> Vec<Rule> {
        let mut out: Vec<Rule> = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| {
                let name = match &rule.name {
                    Some(name) => Arc::clone(&name.value),
                    None => Arc::from(format!("{side}-{}", at + 1)),
                };
                self.rule(rule, name, findings)
            })
            .collect();
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    fn rule(&self, rule: &schema::Rule, name: Arc<str>, findings: &mut Findings) -> Rule {
        let jurisdictions = rule.jurisdictions.iter().filter_map(|written| {
            let jurisdiction = resolve(self.groups, written, findings)?;
            if jurisdiction == Jurisdiction::Special(PlaceKind::Loopback) {
                findings.warn(written.at, "LOOPBACK is never judged: this matches nothing", "remove it");
            }
            Some((Arc::clone(&written.value), jurisdiction))
        });
        let jurisdictions = jurisdictions.collect();
        let mut ports: Vec<_> = rule.ports.iter().map(|p| p.value).collect();
        ports.sort_unstable();
        ports.dedup();
        Rule {
            name,
            jurisdictions,
            cidr_set: self.cidr_set(&nets(&rule.cidrs)),
            ports,
            severity: rule.severity.as_ref().map(|s| s.value).unwrap_or_default(),
            basis: rule.basis.clone(),
        }
    }

    fn cidr_set(&self, nets: &[IpNet]) -> Option<u32> {
        let at = self.cidr_sets.binary_search_by(|known| known.as_slice().cmp(nets)).ok()?;
        u32::try_from(at).ok()
    }

    /// By number.
    pub(super) fn into_cidr_sets(self) -> Vec<Vec<IpNet>> {
        self.cidr_sets
    }
}

fn nets(cidrs: &[Spanned<IpNet>]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = cidrs.iter().map(|c| c.value).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// A jurisdiction by the name that was written, or an error with what was probably meant.
pub(super) fn resolve(
    groups: &Groups,
    written: &Spanned<Arc<str>>,
    findings: &mut Findings,
) -> Option<Jurisdiction> {
    let found = groups.resolve(&written.value);
    if found.is_none() {
        let mend = groups.suggest(&written.value).map_or_else(
            || {
                "use an ISO 3166-1 code (DE), a group (EU, EEA, GDPR-ADEQUATE) or a special (PRIVATE)"
                    .to_owned()
            },
            |meant| format!("did you mean {meant}?"),
        );
        findings.error(written.at, format!("unknown jurisdiction `{}`", abridged(&written.value)), mend);
    }
    found
}

/// The names of a fence's rules: well-formed, distinct, and none that stands for "no rule".
pub(super) fn names(fence: &GeoFence, findings: &mut Findings) {
    distinct("rule", fence.block.iter().chain(&fence.allow).filter_map(|r| r.name.as_ref()), findings);
    for (side, rules) in [("block", &fence.block), ("allow", &fence.allow)] {
        for (at, rule) in rules.iter().enumerate() {
            match &rule.name {
                Some(name) => rule_name(name, findings),
                None => {
                    let message = format!("a rule without a name: events will call it `{side}-{}`", at + 1);
                    findings.warn(rule.at, message, "give it a `name`");
                }
            }
        }
    }
}

fn rule_name(name: &Spanned<Arc<str>>, findings: &mut Findings) {
    let text = &*name.value;
    if RESERVED_RULE_NAMES.contains(&text.to_ascii_lowercase().as_str()) {
        let message =
            format!("no rule may be named `{}`: events say it where no rule decided", abridged(text));
        findings.error(name.at, message, "choose another name");
        return;
    }
    let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !letters || text.len() > MAX_RULE_NAME {
        let mend = format!("use letters, digits, `-`, `_` and `.`, at most {MAX_RULE_NAME}");
        findings.error(name.at, format!("`{}` is not a rule's name", abridged(text)), mend);
    }
}

/// The fence that was probably meant.
pub(super) fn suggest_fence(name: &str, fences: &[GeoFence]) -> String {
    did_you_mean(name, fences.iter().map(|f| &*f.name.value), || {
        let known: Vec<&str> = fences.iter().map(|f| &*f.name.value).collect();
        if known.is_empty() {
            "there is no fence in these documents".to_owned()
        } else {
            format!("fences here: {}", known.join(", "))
        }
    })
}
