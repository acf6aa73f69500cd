//! `JurisdictionGroup` and `PlaceOverride` documents, handed to the places that they change.

use std::collections::HashMap;
use std::sync::Arc;

use super::Context;
use jiff::ToSpan;

use crate::places::{CountryCode, GroupError, GroupSpec, Groups, Override};
use crate::policy::finding::{Findings, Spanned};
use crate::policy::schema::{JurisdictionGroup, PlaceOverride};
use crate::policy::tree::abridged;

/// How long before its end a group is announced.
const NOTICE_DAYS: i32 = 30;

/// The built-in groups and those of the documents. A document that is refused is left out, with a finding.
pub(super) fn groups(
    documents: &[JurisdictionGroup],
    context: Context<'_>,
    findings: &mut Findings,
) -> Groups {
    let mut groups = context.groups.clone();
    let mut rest: Vec<&JurisdictionGroup> = documents.iter().collect();
    let today = context.today();
    for document in documents {
        let Some(until) = &document.valid_until else { continue };
        let name = &document.name.value;
        let mend = "renew it, or remove it and the rules that name it";
        if until.value < today {
            let message = format!("`{name}` ended on {} and matches nothing any more", until.value);
            findings.warn(until.at, message, mend);
        } else if until.value <= today.saturating_add(NOTICE_DAYS.days()) {
            findings.warn(until.at, format!("`{name}` matches nothing after {}", until.value), mend);
        }
    }
    // One refusal at a time, so that every one is reported; each turn takes a document out.
    loop {
        let specs: Vec<GroupSpec> = rest.iter().map(|document| spec(document)).collect();
        let Err((at, error)) = groups.add_all(&specs) else { return groups };
        let document = rest.remove(at);
        refused(document, documents, &error, findings);
    }
}

fn spec(document: &JurisdictionGroup) -> GroupSpec {
    GroupSpec {
        name: document.name.value.to_string(),
        members: document.members.iter().map(|m| m.value.to_string()).collect(),
        reference: document.reference.as_deref().unwrap_or_default().to_owned(),
        valid_from: document.valid_from.as_ref().map(|d| d.value),
        valid_until: document.valid_until.as_ref().map(|d| d.value),
    }
}

fn refused(
    document: &JurisdictionGroup,
    all: &[JurisdictionGroup],
    error: &GroupError,
    findings: &mut Findings,
) {
    match error {
        GroupError::UnknownMember { member, meant, .. } => {
            // Another document that was refused itself: one finding is enough.
            if all.iter().any(|other| *other.name.value == **member) {
                return;
            }
            let at =
                document.members.iter().find(|m| *m.value == **member).map_or(document.name.at, |m| m.at);
            let mend = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => "use an ISO 3166-1 code, a special or another group".to_owned(),
            };
            findings.error(at, format!("unknown member `{}`", abridged(member)), mend);
        }
        GroupError::Cycle { way, .. } => {
            let message = format!("the group contains itself: {}", way.join(" → "));
            findings.error(document.name.at, message, "remove one of these members");
        }
        GroupError::Taken { name, taken } => {
            let doubled = all.iter().filter(|other| *other.name.value == **name).count() > 1;
            if !doubled || taken != name {
                let message = format!("a jurisdiction `{taken}` exists already");
                findings.error(document.name.at, message, "choose another name");
            }
        }
        GroupError::Name { .. } => {
            let message = format!("`{}` is not a group's name", abridged(&document.name.value));
            findings.error(
                document.name.at,
                message,
                "use letters, digits and inner hyphens, 3 to 63 of them",
            );
        }
        // Said already, where the document was read.
        GroupError::Empty { .. } | GroupError::Days { .. } => {}
    }
}

/// The overrides, sorted by name.
pub(super) fn overrides(
    documents: &[PlaceOverride],
    groups: &Groups,
    findings: &mut Findings,
) -> Vec<Override> {
    let mut seen: HashMap<ipnet::IpNet, &PlaceOverride> = HashMap::new();
    let mut out = Vec::new();
    for document in documents {
        for cidr in &document.cidrs {
            match seen.get(&cidr.value) {
                Some(first) if says(first) != says(document) => {
                    let message = format!(
                        "`{}` is placed by `{}` in {}:{} already, elsewhere",
                        cidr.value,
                        first.name.value,
                        findings.name_of(first.name.at),
                        first.name.at.line
                    );
                    findings.error(cidr.at, message, "remove it from one of them");
                }
                Some(_) => {}
                None => {
                    seen.insert(cidr.value, document);
                }
            }
        }
        out.push(Override {
            name: document.name.value.to_string(),
            cidrs: document.cidrs.iter().map(|c| c.value).collect(),
            country: document.country.as_ref().and_then(|c| country(c, groups, findings)),
            anycast: document.anycast,
            provider: document.provider.as_deref().map(str::to_owned),
            region: document.region.as_deref().map(str::to_owned),
        });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// What an override says of its networks.
fn says(document: &PlaceOverride) -> (Option<&str>, bool, Option<&str>, Option<&str>) {
    let country = document.country.as_ref().map(|c| &*c.value);
    (country, document.anycast, document.provider.as_deref(), document.region.as_deref())
}

fn country(written: &Spanned<Arc<str>>, groups: &Groups, findings: &mut Findings) -> Option<CountryCode> {
    let code = CountryCode::parse(&written.value);
    if code.is_none() {
        let mend = match CountryCode::meant_by(&written.value) {
            Some(meant) => format!("did you mean {meant}?"),
            None if groups.resolve(&written.value).is_some() => "a network lies in one country".to_owned(),
            None => "use an ISO 3166-1 alpha-2 code: DE".to_owned(),
        };
        findings.error(written.at, format!("`{}` is not a country", abridged(&written.value)), mend);
    }
    code
}
