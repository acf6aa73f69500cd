//! `kind: GeoFence`.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_common::protocols::Class;
use agent_common::verdict::Verdict;

use super::fields::{Fields, choice, list, plain, text, word, words};
use super::rule::{Side, rules};
use super::subject::subjects;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::{GeoFence, Inbound, Internal, Mode, Record, Requirement};
use crate::policy::tree::{Node, Value};

pub(super) const VERDICTS: [(&str, Verdict); 2] = [("Allow", Verdict::Allow), ("Block", Verdict::Block)];

/// A fence in which something is wrong is returned too, with that part as if it were not written: its name must be
/// known, so that exceptions to it are not called exceptions to nothing.
pub(super) fn geo_fence(name: Spanned<Arc<str>>, mut spec: Fields<'_>, findings: &mut Findings) -> GeoFence {
    let verdict = |spec: &mut Fields<'_>, field, findings: &mut Findings| {
        let node = spec.get(field, findings)?;
        choice(node, field, &VERDICTS, findings)
    };
    let mode = spec.get("mode", findings).and_then(|node| {
        choice(node, "mode", &[("Audit", Mode::Audit), ("Enforce", Mode::Enforce)], findings)
    });
    let subjects = match spec.need("subjects", "name workloads, or write `- {all: true}`", findings) {
        Some(node) => subjects(node, findings),
        None => Vec::new(),
    };
    let internal = spec.get("internal", findings).map(|node| internal(node, findings));
    let inbound = spec.get("inbound", findings).and_then(|node| {
        choice(node, "inbound", &[("Judge", Inbound::Judge), ("Allow", Inbound::Allow)], findings)
    });
    let allow = spec.get("allow", findings).map(|node| rules(node, Side::Allow, findings));
    let block = spec.get("block", findings).map(|node| rules(node, Side::Block, findings));
    let default = verdict(&mut spec, "default", findings).unwrap_or(Verdict::Block);
    let unknown = verdict(&mut spec, "unknown", findings).unwrap_or(default);
    let no_name = verdict(&mut spec, "noName", findings).unwrap_or(Verdict::Block);
    let dns = spec
        .get("dns", findings)
        .and_then(|node| Some(Spanned { value: choice(node, "dns", &VERDICTS, findings)?, at: node.at }));
    let dns = dns.unwrap_or(Spanned { value: Verdict::Allow, at: spec.at });
    let protocols = spec.get("protocols", findings).map(|node| protocols(node, findings));
    let record = spec.get("record", findings).and_then(|node| record(node, findings));
    let require = spec.get("require", findings).map(|node| requirements(node, findings));
    for field in ["tls", "budgets"] {
        spec.not_in_this_build(field, findings);
    }
    spec.close(findings);
    GeoFence {
        name,
        mode: mode.unwrap_or_default(),
        subjects,
        internal: internal.unwrap_or(Internal::all(Verdict::Allow)),
        inbound: inbound.unwrap_or_default(),
        allow: allow.unwrap_or_default(),
        block: block.unwrap_or_default(),
        default,
        unknown,
        no_name,
        protocols: protocols.unwrap_or_default(),
        dns,
        record: record.unwrap_or_default(),
        require: require.unwrap_or_default(),
    }
}

fn requirements(node: &Node, findings: &mut Findings) -> Vec<Requirement> {
    let choices = Requirement::ALL.map(|r| (r.word(), r));
    let items = list(node, "require", findings).iter();
    // Twice the same is the same.
    let found: BTreeSet<_> = items.filter_map(|item| choice(item, "require", &choices, findings)).collect();
    found.into_iter().collect()
}

/// One word for all three, or a map; a part that is left out is allowed.
fn internal(node: &Node, findings: &mut Findings) -> Internal {
    let allow = Internal::all(Verdict::Allow);
    if let Value::Scalar { .. } = node.value {
        return choice(node, "internal", &VERDICTS, findings).map_or(allow, Internal::all);
    }
    let Some(mut fields) = Fields::open(node, "internal", findings) else { return allow };
    let mut part = |field| {
        let node = fields.get(field, findings)?;
        choice(node, field, &VERDICTS, findings)
    };
    let cluster = part("cluster").unwrap_or(Verdict::Allow);
    let private = part("private").unwrap_or(Verdict::Allow);
    let link_local = part("linkLocal").unwrap_or(Verdict::Allow);
    fields.close(findings);
    Internal { cluster, private, link_local }
}

/// Names of protocols, each once. TCP, MPTCP (which sends TCP) and UDP are none of them, and said so.
fn protocols(node: &Node, findings: &mut Findings) -> Vec<Spanned<Class>> {
    let mut out: Vec<Spanned<Class>> = Vec::new();
    for item in list(node, "protocols", findings) {
        let Some(word) = text(item, "protocols", findings) else { continue };
        if let "tcp" | "udp" | "mptcp" = word {
            let message = format!("`protocols`: {word} is always judged by where it goes");
            findings.error(item.at, message, "remove it: `protocols` opens what is refused otherwise");
            continue;
        }
        let names = Class::ALL.map(|class| (class.name(), class));
        let Some(class) = choice(item, "protocols", &names, findings) else { continue };
        if out.iter().any(|known| known.value == class) {
            let message = format!("`protocols` names {} twice", class.name());
            findings.error(item.at, message, "remove one of them");
            continue;
        }
        out.push(Spanned { value: class, at: item.at });
    }
    out
}

fn record(node: &Node, findings: &mut Findings) -> Option<Record> {
    let mut fields = Fields::open(node, "record", findings)?;
    let categories = fields.get("dataCategories", findings).map(|n| words(n, "dataCategories", findings));
    let purpose = fields.get("purpose", findings).and_then(|n| word(n, "purpose", findings));
    let recipients = fields.get("recipients", findings).map(|n| words(n, "recipients", findings));
    fields.close(findings);
    Some(Record {
        data_categories: plain(categories.unwrap_or_default()),
        purpose,
        recipients: plain(recipients.unwrap_or_default()),
    })
}
