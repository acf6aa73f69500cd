//! `subjects`: entries are OR, fields inside an entry are AND.

use std::sync::Arc;

use super::fields::{Fields, choice, each, flag, list, plain, word, words};
use crate::policy::cgroup_path::CgroupPath;
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::{LabelExpression, LabelOperator, PodSubject, Subject};
use crate::policy::tree::{Node, Value};

pub(super) fn subjects(node: &Node, findings: &mut Findings) -> Vec<Spanned<Subject>> {
    let entries = list(node, "subjects", findings);
    if node.is_empty_list() {
        let mend = "name workloads; `- {all: true}` means every workload and must be spelled out";
        findings.error(node.at, "`subjects` is empty", mend);
    }
    let entry =
        |node: &Node, findings: &mut Findings| Some(Spanned { value: subject(node, findings)?, at: node.at });
    entries.iter().filter_map(|node| entry(node, findings)).collect()
}

fn subject(node: &Node, findings: &mut Findings) -> Option<Subject> {
    let mut fields = Fields::open(node, "subject", findings)?;
    let at = fields.at;
    if fields.is_empty() {
        let mend = "name workloads; `{all: true}` means every workload and must be spelled out";
        findings.error(at, "an empty subject", mend);
        return None;
    }
    let all = fields.get("all", findings);
    let cgroups = fields.get("cgroups", findings);
    let namespaces = fields.get("namespaces", findings);
    let selector = fields.get("podSelector", findings);
    fields.close(findings);

    let narrowed = cgroups.is_some() || namespaces.is_some() || selector.is_some();
    if let Some(node) = all {
        let yes = flag(node, "all", findings)?;
        if !yes {
            findings.error(node.at, "`all: false` selects nothing", "remove the entry");
        } else if narrowed {
            findings.error(node.at, "`all: true` beside other fields", "keep `all` or the others");
        }
        return yes.then_some(Subject::All);
    }
    let cgroups = cgroups.map(|node| paths(node, findings));
    let names =
        namespaces.map(|node| nonempty(words(node, "namespaces", findings), node, "namespaces", findings));
    let selector = selector.map(|node| pod_selector(node, findings));
    if namespaces.is_none() && selector.is_none() {
        return Some(Subject::Cgroups(cgroups?));
    }
    let (match_labels, match_expressions) = selector.unwrap_or_default();
    Some(Subject::Pods(PodSubject {
        namespaces: plain(names.unwrap_or_default()),
        match_labels,
        match_expressions,
        cgroups: cgroups.unwrap_or_default(),
    }))
}

fn nonempty<T>(items: Vec<T>, node: &Node, field: &str, findings: &mut Findings) -> Vec<T> {
    if node.is_empty_list() {
        findings.error(node.at, format!("`{field}` is empty and selects nothing"), "name some, or remove it");
    }
    items
}

fn paths(node: &Node, findings: &mut Findings) -> Vec<Spanned<CgroupPath>> {
    let found = each(node, "cgroups", findings, |text| {
        CgroupPath::parse(text).map_err(|e| format!("{text:?} is not a cgroup path: {e}"))
    });
    for path in found.iter().filter(|path| path.value == CgroupPath::root()) {
        findings.error(
            path.at,
            "`/` is every workload",
            "write `{all: true}` instead: it must be spelled out",
        );
    }
    for path in found.iter().filter(|path| path.value.is_pattern()) {
        findings.error(
            path.at,
            "a subject's path has no patterns",
            "name the cgroup above: a subject is the cgroup and everything below it",
        );
    }
    nonempty(found, node, "cgroups", findings)
}

type Labels = Vec<(Arc<str>, Arc<str>)>;

fn pod_selector(node: &Node, findings: &mut Findings) -> (Labels, Vec<LabelExpression>) {
    let mut labels = Labels::new();
    let mut expressions = Vec::new();
    let Some(mut fields) = Fields::open(node, "podSelector", findings) else { return (labels, expressions) };
    if fields.is_empty() {
        findings.error(
            node.at,
            "an empty podSelector",
            "give labels, or remove it: namespaces alone select all pods",
        );
    }
    if let Some(node) = fields.get("matchLabels", findings) {
        match &node.value {
            Value::Map(entries) => {
                for (key, value) in entries {
                    if let Some(value) = word(value, "matchLabels", findings) {
                        labels.push((Arc::from(key.text.as_str()), value));
                    }
                }
            }
            Value::List(_) | Value::Scalar { .. } => {
                let message = format!("`matchLabels` must be a map, not {}", node.describe());
                findings.error(node.at, message, "write {app: salesforce-sync}");
            }
        }
    }
    if let Some(node) = fields.get("matchExpressions", findings) {
        expressions.extend(
            list(node, "matchExpressions", findings).iter().filter_map(|node| expression(node, findings)),
        );
    }
    fields.close(findings);
    (labels, expressions)
}

fn expression(node: &Node, findings: &mut Findings) -> Option<LabelExpression> {
    let mut fields = Fields::open(node, "matchExpressions", findings)?;
    let key = fields.need("key", "name the label", findings).and_then(|n| word(n, "key", findings));
    let operator = fields.need("operator", "In, NotIn, Exists or DoesNotExist", findings).and_then(|node| {
        let operators = [
            ("In", LabelOperator::In),
            ("NotIn", LabelOperator::NotIn),
            ("Exists", LabelOperator::Exists),
            ("DoesNotExist", LabelOperator::DoesNotExist),
        ];
        choice(node, "operator", &operators, findings)
    });
    let values = fields.get("values", findings).map(|n| words(n, "values", findings)).unwrap_or_default();
    fields.close(findings);
    let operator = operator?;
    let wants_values = matches!(operator, LabelOperator::In | LabelOperator::NotIn);
    if wants_values == values.is_empty() {
        let mend = "In and NotIn need values, Exists and DoesNotExist have none";
        findings.error(node.at, "`operator` and `values` do not fit", mend);
    }
    Some(LabelExpression { key: key?, operator, values: plain(values) })
}
