//! Trees to documents: one at a time, every field asked for by name. What is wrong in one field does not hide what is
//! wrong in the next. What only shows when documents are read together is [`super::validate`]'s.

mod exception;
mod fence;
mod fields;
mod groups;
mod rule;
mod subject;

use std::sync::Arc;

use self::fields::{Fields, text, word};
use super::finding::{Findings, Spanned};
use super::schema::{API_VERSION, Document};
use super::suggest::did_you_mean;
use super::tree::{Node, Value, abridged};

const KINDS: [&str; 4] = ["GeoFence", "GeoFenceException", "JurisdictionGroup", "PlaceOverride"];

/// Longest name: Kubernetes' limit for names.
const MAX_NAME: usize = 253;

/// One document. `None` if so much is wrong that nothing more can be said about it.
pub(crate) fn document(node: &Node, findings: &mut Findings) -> Option<Document> {
    if let Value::List(_) = node.value {
        findings.error(node.at, "a document must be a map, not a list", "separate documents by a line `---`");
        return None;
    }
    let mut top = Fields::open(node, "document", findings)?;
    if let Some(version) = top.need("apiVersion", "write `apiVersion: ringfence.dev/v1alpha1`", findings)
        && let Some(version_text) = text(version, "apiVersion", findings)
        && version_text != API_VERSION
    {
        let message = format!("unknown apiVersion `{}`", abridged(version_text));
        findings.error(version.at, message, format!("this build reads {API_VERSION}"));
    }
    let kind =
        top.need("kind", "one of GeoFence, GeoFenceException, JurisdictionGroup, PlaceOverride", findings);
    let name =
        top.need("metadata", "write `metadata: {name: ...}`", findings).and_then(|m| metadata(m, findings));
    let spec = top.need("spec", "write the document's fields below `spec:`", findings);
    top.close(findings);
    let kind = kind.and_then(|kind| Some((kind.at, text(kind, "kind", findings)?)));
    let (at, kind) = kind?;
    let spec = spec.and_then(|spec| Fields::open(spec, "spec", findings));
    match kind {
        "GeoFence" => Some(Document::GeoFence(fence::geo_fence(name?, spec?, findings))),
        "GeoFenceException" => exception::exception(name?, spec?, findings).map(Document::GeoFenceException),
        "JurisdictionGroup" => groups::group(name?, spec?, findings).map(Document::JurisdictionGroup),
        "PlaceOverride" => groups::place_override(name?, spec?, findings).map(Document::PlaceOverride),
        other => {
            let mend = did_you_mean(other, KINDS, || format!("one of {}", KINDS.join(", ")));
            findings.error(at, format!("unknown kind `{}`", abridged(other)), mend);
            None
        }
    }
}

fn metadata(node: &Node, findings: &mut Findings) -> Option<Spanned<Arc<str>>> {
    let mut fields = Fields::open(node, "metadata", findings)?;
    let name = fields.need("name", "events and exceptions name documents by it", findings);
    // Kubernetes' own; nothing here reads them.
    fields.get("labels", findings);
    fields.get("annotations", findings);
    fields.close(findings);
    let at = name?.at;
    let value = word(name?, "name", findings)?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if !(inner && edge(value.chars().next()) && edge(value.chars().last()) && value.len() <= MAX_NAME) {
        let message = format!("`{}` is not a name", abridged(&value));
        findings.error(at, message, "use letters, digits, `-` and `.`, with a letter or digit at both ends");
        return None;
    }
    Some(Spanned { value, at })
}
