//! Documents together: names, references, contradictions, capacities. One validator serves the command line, the
//! agent and the API. It reports everything it finds; one error refuses all documents, because half a policy is a
//! policy that nobody wrote.

mod exceptions;
mod groups;
mod overlap;
mod rules;
mod subjects;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use agent_common::verdict::Verdict;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::rules::Interner;
use super::cgroup_path::CgroupPath;
use super::decode;
use super::finding::{Finding, Findings, Spanned};
use super::schema::{Document, GeoFence, GeoFenceException, JurisdictionGroup, PlaceOverride};
use super::set::{Digest, Fence, Origin, PolicySet};
use super::source::{SourceFile, digest};
use super::tree;
use crate::places::Groups;

/// Documents of one policy: far above what an image holds, far below what would take minutes to check.
const MAX_DOCUMENTS: usize = 8192;

/// What documents are held against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The moment that decides what has expired.
    pub now: Timestamp,
    /// The built-in groups.
    pub groups: &'a Groups,
    /// The cgroups that exist, if the caller knows: a subject that matches none of them is announced.
    pub cgroups: Option<&'a BTreeSet<CgroupPath>>,
}

impl Context<'_> {
    /// The day, UTC.
    fn today(&self) -> Date {
        self.now.to_zoned(TimeZone::UTC).date()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Errors and warnings, in the order of the files.
    pub findings: Vec<Finding>,
    /// The policy, if there is no error.
    pub set: Option<PolicySet>,
}

/// All documents by kind, with the findings so far.
struct Documents {
    fences: Vec<GeoFence>,
    exceptions: Vec<GeoFenceException>,
    groups: Vec<JurisdictionGroup>,
    overrides: Vec<PlaceOverride>,
}

/// Reads and checks files as one policy.
#[must_use]
pub fn check(files: &[SourceFile], context: Context<'_>) -> Checked {
    let mut findings = Findings::default();
    let documents = read(files, &mut findings);
    let set = validate(&documents, context, digest(files), &mut findings);
    let set = if findings.has_errors() { None } else { Some(set) };
    Checked { findings: findings.into_sorted(), set }
}

fn read(files: &[SourceFile], findings: &mut Findings) -> Documents {
    let mut documents =
        Documents { fences: Vec::new(), exceptions: Vec::new(), groups: Vec::new(), overrides: Vec::new() };
    let mut left = MAX_DOCUMENTS + 1;
    for file in files {
        let number = findings.file(&file.name);
        for node in tree::parse(number, &file.bytes, findings) {
            left -= 1;
            if left == 0 {
                let message = format!("more than {MAX_DOCUMENTS} documents together");
                findings.error(node.at, message, "a node has room for some hundred fences: join documents");
                return documents;
            }
            match decode::document(&node, findings) {
                Some(Document::GeoFence(fence)) => documents.fences.push(fence),
                Some(Document::GeoFenceException(exception)) => documents.exceptions.push(exception),
                Some(Document::JurisdictionGroup(group)) => documents.groups.push(group),
                Some(Document::PlaceOverride(place)) => documents.overrides.push(place),
                None => {}
            }
        }
    }
    documents
}

fn validate(
    documents: &Documents,
    context: Context<'_>,
    digest: Digest,
    findings: &mut Findings,
) -> PolicySet {
    distinct("GeoFence", documents.fences.iter().map(|d| &d.name), findings);
    distinct("GeoFenceException", documents.exceptions.iter().map(|d| &d.name), findings);
    distinct("JurisdictionGroup", documents.groups.iter().map(|d| &d.name), findings);
    distinct("PlaceOverride", documents.overrides.iter().map(|d| &d.name), findings);

    let groups = groups::groups(&documents.groups, context, findings);
    let overrides = groups::overrides(&documents.overrides, &groups, findings);
    let fence_rules = documents.fences.iter().flat_map(|f| f.block.iter().chain(&f.allow));
    let rules = fence_rules.chain(documents.exceptions.iter().flat_map(|x| &x.allow));
    let interner = Interner::new(&groups, rules);
    let mut fences: Vec<Fence> = documents
        .fences
        .iter()
        .map(|document| fence(document, context.today(), &interner, findings))
        .collect();
    let mut exceptions: Vec<_> = documents
        .exceptions
        .iter()
        .map(|document| exceptions::exception(document, documents, context, &interner, findings))
        .collect();
    subjects::check(documents, context, findings);
    exceptions::count(documents, findings);
    let cidr_sets = interner.into_cidr_sets();

    fences.sort_by(|a, b| a.name.cmp(&b.name));
    exceptions.sort_by(|a, b| a.name.cmp(&b.name));
    PolicySet { fences, exceptions, overrides, groups, cidr_sets, digest }
}

fn fence(document: &GeoFence, today: Date, interner: &Interner<'_>, findings: &mut Findings) -> Fence {
    rules::names(document, findings);
    let block = interner.rules(&document.block, "block", findings);
    let allow = interner.rules(&document.allow, "allow", findings);
    overlap::check(document, interner.groups(), today, findings);
    if document.dns.value == Verdict::Block {
        let message =
            "`dns: Block` keeps these workloads from resolving any name, unless a rule allows a resolver";
        findings.warn(document.dns.at, message, "leave `dns` at Allow: it means trusted resolvers only");
    }
    Fence {
        name: Arc::clone(&document.name.value),
        origin: origin(&document.name, findings),
        mode: document.mode,
        subjects: document.subjects.iter().map(|s| s.value.clone()).collect(),
        internal: document.internal,
        inbound: document.inbound,
        block,
        allow,
        default: document.default,
        unknown: document.unknown,
        protocols: document.protocols.iter().map(|p| p.value).collect(),
        dns: document.dns.value,
        record: document.record.clone(),
        require: document.require.clone(),
    }
}

fn origin(name: &Spanned<Arc<str>>, findings: &Findings) -> Origin {
    Origin { file: findings.name_of(name.at), line: name.at.line }
}

/// No two documents of a kind, and no two rules of a fence, have one name.
fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a Spanned<Arc<str>>>, findings: &mut Findings) {
    let mut seen: HashMap<&str, String> = HashMap::new();
    let mut names: Vec<_> = names.collect();
    names.sort_by_key(|name| name.at);
    for name in names {
        let place = format!("{}:{}", findings.name_of(name.at), name.at.line);
        match seen.get(&*name.value) {
            Some(first) => {
                let message = format!("a second {what} named `{}`; the first is at {first}", name.value);
                findings.error(name.at, message, "rename one of them");
            }
            None => {
                seen.insert(&name.value, place);
            }
        }
    }
}
