//! The fields of a map, and the words in them: each function says what is wrong and where, and goes on.

use std::sync::Arc;

use crate::policy::finding::{At, Findings, Spanned};
use crate::policy::suggest::did_you_mean;
use crate::policy::tree::{Key, Node, Value, abridged};

/// The fields of one map. What nobody asks for is unknown, and an error.
pub(super) struct Fields<'n> {
    /// What the map is, for messages: `spec`, `rule`.
    what: &'static str,
    /// Where it begins.
    pub(super) at: At,
    entries: &'n [(Key, Node)],
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The fields of a node that must be a map.
    pub(super) fn open(node: &'n Node, what: &'static str, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self { what, at: node.at, entries, asked: Vec::new() }),
            Value::List(_) | Value::Scalar { .. } => {
                let message = format!("`{what}` must be a map of fields, not {}", node.describe());
                findings.error(node.at, message, "write `field: value` below it");
                None
            }
        }
    }

    /// A field that may be left out, but not left empty.
    pub(super) fn get(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'n Node> {
        self.asked.push(name);
        let (key, node) = self.entries.iter().find(|(key, _)| key.text == name)?;
        if node.is_null() {
            findings.error(key.at, format!("`{name}` has no value"), "give it one, or remove the line");
            return None;
        }
        Some(node)
    }

    /// A field that must be there.
    pub(super) fn need(
        &mut self,
        name: &'static str,
        mend: &'static str,
        findings: &mut Findings,
    ) -> Option<&'n Node> {
        if !self.entries.iter().any(|(key, _)| key.text == name) {
            self.asked.push(name);
            findings.error(self.at, format!("`{name}` is missing in `{}`", self.what), mend);
            return None;
        }
        self.get(name, findings)
    }

    /// A field of the schema that this build can't do: refused unless it asks for nothing.
    pub(super) fn not_in_this_build(&mut self, name: &'static str, findings: &mut Findings) -> bool {
        self.asked.push(name);
        let Some((key, node)) = self.entries.iter().find(|(key, _)| key.text == name) else { return false };
        let empty = match &node.value {
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Scalar { .. } => node.is_null(),
        };
        if !empty {
            let message = format!("`{name}` is not in this build");
            findings.error(key.at, message, "remove it: a fence that can't be enforced whole is refused");
        }
        !empty
    }

    /// A map without entries.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Complains about fields that nobody asked for.
    pub(super) fn close(self, findings: &mut Findings) {
        for (key, _) in self.entries {
            if self.asked.contains(&key.text.as_str()) {
                continue;
            }
            let mend = did_you_mean(&key.text, self.asked.iter().copied(), || {
                if self.asked.is_empty() {
                    "remove it".to_owned()
                } else {
                    format!("known here: {}", self.asked.join(", "))
                }
            });
            findings.error(
                key.at,
                format!("unknown field `{}` in `{}`", abridged(&key.text), self.what),
                mend,
            );
        }
    }
}

/// A scalar's text.
pub(super) fn text<'n>(node: &'n Node, field: &str, findings: &mut Findings) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } if text.trim().is_empty() || node.is_null() => {
            findings.error(node.at, format!("`{field}` is empty"), "give it a value, or remove it");
            None
        }
        Value::Scalar { text, .. } => Some(text),
        Value::List(_) | Value::Map(_) => {
            findings.error(
                node.at,
                format!("`{field}` must be a word, not {}", node.describe()),
                "write one value",
            );
            None
        }
    }
}

/// A scalar's text, to keep.
pub(super) fn word(node: &Node, field: &str, findings: &mut Findings) -> Option<Arc<str>> {
    text(node, field, findings).map(Arc::from)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    node: &Node,
    field: &str,
    choices: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let word = text(node, field, findings)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
        return Some(*value);
    }
    let names = || choices.iter().map(|(name, _)| *name);
    let mend = did_you_mean(word, names(), || format!("one of {}", names().collect::<Vec<_>>().join(", ")));
    findings.error(node.at, format!("`{field}` can't be `{}`", abridged(word)), mend);
    None
}

/// `true` or `false`, without quotes.
pub(super) fn flag(node: &Node, field: &str, findings: &mut Findings) -> Option<bool> {
    match &node.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => {
            let message = format!("`{field}` must be true or false, not {}", node.describe());
            findings.error(node.at, message, "write true or false, without quotes");
            None
        }
    }
}

/// The items of a list.
pub(super) fn list<'n>(node: &'n Node, field: &str, findings: &mut Findings) -> &'n [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Scalar { text, .. } => {
            let message = format!("`{field}` must be a list, not {}", node.describe());
            findings.error(node.at, message, format!("write [{}]", abridged(text)));
            &[]
        }
        Value::Map(_) => {
            let message = format!("`{field}` must be a list, not a map");
            findings.error(node.at, message, "put `- ` before its first field");
            &[]
        }
    }
}

/// A list of words.
pub(super) fn words(node: &Node, field: &str, findings: &mut Findings) -> Vec<Spanned<Arc<str>>> {
    each(node, field, findings, |text| Ok::<Arc<str>, &str>(Arc::from(text)))
}

/// A list of words that are parsed. The parsers' messages are "what: mend", or "what" alone.
pub(super) fn each<T, E: ToString>(
    node: &Node,
    field: &str,
    findings: &mut Findings,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<Spanned<T>> {
    let mut out = Vec::new();
    for item in list(node, field, findings) {
        let Some(text) = text(item, field, findings) else { continue };
        match parse(text) {
            Ok(value) => out.push(Spanned { value, at: item.at }),
            Err(e) => {
                let e = e.to_string();
                let (what, mend) = e.rsplit_once(": ").unwrap_or((&e, "mend it, or remove it"));
                findings.error(item.at, format!("`{field}`: {what}"), mend);
            }
        }
    }
    out
}

/// Lists lose their places where nothing more will be said about them.
pub(super) fn plain<T>(items: Vec<Spanned<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
}
