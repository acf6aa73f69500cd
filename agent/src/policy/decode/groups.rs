//! `kind: JurisdictionGroup` and `kind: PlaceOverride`: what places are called, and where they are.

use std::sync::Arc;

use jiff::civil::Date;

use super::fields::{Fields, each, flag, text, word, words};
use crate::places::parse_cidr;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::{JurisdictionGroup, PlaceOverride};
use crate::policy::tree::{Node, abridged};

pub(super) fn group(
    name: Spanned<Arc<str>>,
    mut spec: Fields<'_>,
    findings: &mut Findings,
) -> Option<JurisdictionGroup> {
    let members_node = spec.need("members", "list countries, groups or specials", findings);
    let members = members_node.map(|node| words(node, "members", findings));
    let reference = spec.get("reference", findings).and_then(|n| word(n, "reference", findings));
    let valid_from = spec.get("validFrom", findings).and_then(|n| day(n, "validFrom", findings));
    let valid_until = spec.get("validUntil", findings).and_then(|n| day(n, "validUntil", findings));
    spec.close(findings);
    if let Some(node) = members_node
        && node.is_empty_list()
    {
        findings.error(node.at, "`members` is empty", "list countries, groups or specials");
    }
    if let (Some(from), Some(until)) = (&valid_from, &valid_until)
        && from.value > until.value
    {
        findings.error(until.at, "`validUntil` is before `validFrom`", "swap them, or mend the dates");
    }
    Some(JurisdictionGroup { name, members: members?, reference, valid_from, valid_until })
}

fn day(node: &Node, field: &str, findings: &mut Findings) -> Option<Spanned<Date>> {
    let word = text(node, field, findings)?;
    match word.parse::<Date>() {
        Ok(value) => Some(Spanned { value, at: node.at }),
        Err(_) => {
            let message = format!("`{field}` is not a date: `{}`", abridged(word));
            findings.error(node.at, message, "write 2027-01-31");
            None
        }
    }
}

pub(super) fn place_override(
    name: Spanned<Arc<str>>,
    mut spec: Fields<'_>,
    findings: &mut Findings,
) -> Option<PlaceOverride> {
    let hosts = spec.not_in_this_build("hosts", findings);
    let cidrs = if hosts {
        spec.get("cidrs", findings)
    } else {
        spec.need("cidrs", "list the networks it speaks of", findings)
    };
    let list = cidrs.map(|node| each(node, "cidrs", findings, parse_cidr));
    let country = spec.get("country", findings);
    let country = country.and_then(|n| Some(Spanned { value: word(n, "country", findings)?, at: n.at }));
    let anycast_node = spec.get("anycast", findings);
    let anycast = anycast_node.and_then(|n| flag(n, "anycast", findings)).unwrap_or(false);
    let provider = spec.get("provider", findings).and_then(|n| word(n, "provider", findings));
    let region = spec.get("region", findings).and_then(|n| word(n, "region", findings));
    let reason = spec.get("reason", findings).and_then(|n| word(n, "reason", findings));
    let reference = spec.get("reference", findings).and_then(|n| word(n, "reference", findings));
    let at = spec.at;
    spec.close(findings);
    match (&country, anycast) {
        (None, false) => findings.error(at, "neither `country` nor `anycast`", "say where the networks are"),
        (Some(country), true) => {
            findings.error(
                country.at,
                "`country` and `anycast: true` contradict each other",
                "keep one of them",
            );
        }
        (Some(_), false) | (None, true) => {}
    }
    if let Some(node) = cidrs
        && node.is_empty_list()
    {
        findings.error(node.at, "`cidrs` is empty", "list the networks it speaks of");
    }
    Some(PlaceOverride { name, cidrs: list?, country, anycast, provider, region, reason, reference })
}
