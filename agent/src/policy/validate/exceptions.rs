//! Exceptions: dated holes, each in one fence that exists.

use std::collections::HashMap;
use std::sync::Arc;

use agent_common::limits::MAX_RULES;
use jiff::SignedDuration;

use super::rules::{Interner, suggest_fence};
use super::subjects::overlap;
use super::{Context, Documents, origin};
use crate::policy::finding::Findings;
use crate::policy::schema::GeoFenceException;
use crate::policy::set::Exception;
use crate::policy::tree::abridged;

/// An exception that is open longer than this is announced: it should be a rule.
const LONG: SignedDuration = SignedDuration::from_hours(90 * 24);

pub(super) fn exception(
    document: &GeoFenceException,
    documents: &Documents,
    context: Context<'_>,
    interner: &Interner<'_>,
    findings: &mut Findings,
) -> Exception {
    match documents.fences.iter().find(|fence| fence.name.value == document.fence.value) {
        None => {
            let message = format!("there is no fence `{}`", abridged(&document.fence.value));
            findings.error(
                document.fence.at,
                message,
                suggest_fence(&document.fence.value, &documents.fences),
            );
        }
        Some(fence) => {
            if let Some(first) = document.subjects.first()
                && !overlap(&fence.subjects, &document.subjects)
            {
                let message =
                    format!("no subject here lies in the fence `{}`: it opens nothing", fence.name.value);
                findings.warn(first.at, message, "name workloads of the fence, or remove `subjects`");
            }
        }
    }
    dates(document, context, findings);
    let mut allow = interner.rules(&document.allow, "allow", findings);
    // Their order is the order of their bits; without names of their own it must not come from the file.
    allow.sort_by(|a, b| {
        let key = |r: &crate::policy::set::Rule| {
            let names: Vec<Arc<str>> = r.jurisdictions.iter().map(|(name, _)| Arc::clone(name)).collect();
            (names, r.cidr_set, r.ports.clone())
        };
        key(a).cmp(&key(b))
    });
    Exception {
        name: Arc::clone(&document.name.value),
        origin: origin(&document.name, findings),
        fence: Arc::clone(&document.fence.value),
        subjects: document.subjects.iter().map(|s| s.value.clone()).collect(),
        allow,
        reason: Arc::clone(&document.reason),
        approved_by: Arc::clone(&document.approved_by),
        ticket: document.ticket.clone(),
        not_before: document.not_before.as_ref().map(|m| m.value),
        expires_at: document.expires_at.value,
    }
}

fn dates(document: &GeoFenceException, context: Context<'_>, findings: &mut Findings) {
    let end = &document.expires_at;
    let begin = document.not_before.as_ref().map(|m| m.value);
    if begin.is_some_and(|begin| begin >= end.value) {
        findings.error(end.at, "`expiresAt` is not after `notBefore`: it never opens", "mend the dates");
        return;
    }
    if end.value <= context.now {
        let message = format!("expired on {}: it opens nothing any more", end.value);
        findings.warn(end.at, message, "remove it, or renew it with a new approval");
        return;
    }
    if end.value.duration_since(begin.unwrap_or(context.now).max(context.now)) > LONG {
        let message = "open for more than 90 days";
        findings.warn(end.at, message, "what is needed for longer should be an `allow` rule of the fence");
    }
}

/// A fence's rules and the exceptions to it share 64 bits.
pub(super) fn count(documents: &Documents, findings: &mut Findings) {
    let mut holes: HashMap<&str, usize> = HashMap::new();
    for exception in &documents.exceptions {
        *holes.entry(&exception.fence.value).or_default() += exception.allow.len();
    }
    for fence in &documents.fences {
        let holes = holes.get(&*fence.name.value).copied().unwrap_or_default();
        let rules = fence.allow.len() + fence.block.len();
        if rules + holes > MAX_RULES {
            let message = format!(
                "the fence has {rules} rules and {holes} entries of exceptions, and at most {MAX_RULES} fit together"
            );
            let mend = "put jurisdictions or CIDRs of several rules into one";
            findings.error(fence.name.at, message, mend);
        }
    }
}
