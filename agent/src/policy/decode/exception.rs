//! `kind: GeoFenceException`.

use std::sync::Arc;

use jiff::Timestamp;

use super::fields::{Fields, text, word};
use super::rule::{Side, rules};
use super::subject::subjects;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::GeoFenceException;
use crate::policy::tree::{Node, abridged};

pub(super) fn exception(
    name: Spanned<Arc<str>>,
    mut spec: Fields<'_>,
    findings: &mut Findings,
) -> Option<GeoFenceException> {
    let fence = spec.need("fence", "name the one fence that it opens", findings);
    let fence = fence.and_then(|n| Some(Spanned { value: word(n, "fence", findings)?, at: n.at }));
    let subjects = spec.get("subjects", findings).map(|node| subjects(node, findings));
    let allow_node = spec.need("allow", "say what it lets through", findings);
    let allow = allow_node.map(|node| rules(node, Side::Allow, findings));
    if let Some(node) = allow_node
        && node.is_empty_list()
    {
        findings.error(node.at, "`allow` is empty", "say what the exception lets through");
    }
    let reason = spec.need("reason", "an exception says why", findings);
    let reason = reason.and_then(|n| word(n, "reason", findings));
    let approved_by = spec.need("approvedBy", "an exception says who approved it", findings);
    let approved_by = approved_by.and_then(|n| word(n, "approvedBy", findings));
    let ticket = spec.get("ticket", findings).and_then(|n| word(n, "ticket", findings));
    let not_before = spec.get("notBefore", findings).and_then(|n| moment(n, "notBefore", findings));
    let expires_at = spec.need("expiresAt", "an exception ends: write 2027-01-31T00:00:00Z", findings);
    let expires_at = expires_at.and_then(|n| moment(n, "expiresAt", findings));
    spec.close(findings);
    Some(GeoFenceException {
        name,
        fence: fence?,
        subjects: subjects.unwrap_or_default(),
        allow: allow?,
        reason: reason?,
        approved_by: approved_by?,
        ticket,
        not_before,
        expires_at: expires_at?,
    })
}

fn moment(node: &Node, field: &str, findings: &mut Findings) -> Option<Spanned<Timestamp>> {
    let word = text(node, field, findings)?;
    match word.parse::<Timestamp>() {
        Ok(value) => Some(Spanned { value, at: node.at }),
        Err(_) => {
            let message = format!("`{field}` is not a moment: `{}`", abridged(word));
            findings.error(node.at, message, "write it as RFC 3339 with its zone, 2027-01-31T00:00:00Z");
            None
        }
    }
}
