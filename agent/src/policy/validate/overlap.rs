//! Rules of one fence that speak of the same places: block wins, so an allow under a block never opens anything.

use std::collections::HashSet;
use std::iter::successors;

use agent_common::image::PlaceKind;
use agent_common::limits::MAX_RULES;
use ipnet::IpNet;
use jiff::civil::Date;

use crate::places::{Groups, Jurisdiction, PlaceInfo};
use crate::policy::finding::{Findings, Spanned};
use crate::policy::ports::Ports;
use crate::policy::schema::{GeoFence, Rule};

/// Identical rules on both sides are an error: nobody can say what was meant. An allow of which a part is blocked by
/// a rule that takes in all of that part is announced.
pub(super) fn check(fence: &GeoFence, groups: &Groups, today: Date, findings: &mut Findings) {
    // More rules than fit are refused elsewhere; holding all of them against each other would only cost time.
    if fence.allow.len() + fence.block.len() > MAX_RULES {
        return;
    }
    for allow in &fence.allow {
        for block in &fence.block {
            if same(allow, block) {
                let (a, b) = (label(allow), label(block));
                let message = format!("{a} allows exactly what {b} in line {} blocks", block.at.line);
                findings.error(
                    allow.at,
                    message,
                    "remove one of them; an exception opens a block for a time",
                );
            } else {
                shadowed(allow, block, &|outer, inner| contains(groups, today, outer, inner), findings);
            }
        }
    }
}

fn label(rule: &Rule) -> String {
    rule.name.as_ref().map_or_else(|| "a rule".to_owned(), |name| format!("`{}`", name.value))
}

fn values<T: Ord + Clone>(list: &[Spanned<T>]) -> Vec<T> {
    let mut values: Vec<T> = list.iter().map(|item| item.value.clone()).collect();
    values.sort();
    values.dedup();
    values
}

fn same(a: &Rule, b: &Rule) -> bool {
    values(&a.jurisdictions) == values(&b.jurisdictions)
        && values(&a.cidrs) == values(&b.cidrs)
        && values(&a.ports) == values(&b.ports)
}

/// Warns of each value of `allow` that `block` takes in whole.
fn shadowed(allow: &Rule, block: &Rule, contains: &dyn Fn(&str, &str) -> bool, findings: &mut Findings) {
    if !ports_cover(&block.ports, &allow.ports) {
        return;
    }
    let by = |line: u32| format!("is shadowed: {} in line {line} blocks it", label(block));
    let mend = "block wins; narrow one of the rules, or use a GeoFenceException";
    // A rule that has both fields matches only where both match: it takes in less than either says.
    if block.cidrs.is_empty() {
        for jurisdiction in &allow.jurisdictions {
            if block.jurisdictions.iter().any(|b| contains(&b.value, &jurisdiction.value)) {
                let message = format!("allowing `{}` {}", jurisdiction.value, by(block.at.line));
                findings.warn(jurisdiction.at, message, mend);
            }
        }
    }
    if block.jurisdictions.is_empty() {
        let blocked: HashSet<IpNet> = block.cidrs.iter().map(|b| b.value).collect();
        for cidr in &allow.cidrs {
            // The network itself, and each that contains it.
            if successors(Some(cidr.value), IpNet::supernet).any(|net| blocked.contains(&net)) {
                findings.warn(cidr.at, format!("allowing `{}` {}", cidr.value, by(block.at.line)), mend);
            }
        }
    }
}

/// Whether every port of the allow rule is one of the block rule.
fn ports_cover(block: &[Spanned<Ports>], allow: &[Spanned<Ports>]) -> bool {
    block.is_empty()
        || !allow.is_empty() && allow.iter().all(|a| block.iter().any(|b| b.value.covers(&a.value)))
}

/// Whether a jurisdiction takes in another today: the same name, or a country or special inside a group.
fn contains(groups: &Groups, today: Date, outer: &str, inner: &str) -> bool {
    if outer == inner {
        return true;
    }
    let (Some(outer), Some(inner)) = (groups.resolve(outer), groups.resolve(inner)) else { return false };
    let (kind, country) = match inner {
        Jurisdiction::Country(code) => (PlaceKind::Country, Some(code)),
        Jurisdiction::Special(kind) => (kind, None),
        Jurisdiction::Group(_) => return false,
    };
    let place = PlaceInfo {
        kind,
        country,
        registered: None,
        provider: None,
        region: None,
        source: 0,
        resolver: false,
        cidr_sets: Box::default(),
    };
    groups.matches(&outer, &place, today)
}
