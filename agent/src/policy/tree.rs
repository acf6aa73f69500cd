//! YAML (and JSON, which is YAML) to a tree that knows where every word stands.
//!
//! Why not straight into serde types: serde stops at the first mistake of a document, and a typed scalar has
//! forgotten how it was written. Here `NO` is Norway and never `false`, `1.2` is a TLS version and never a float, and
//! one run reports everything that is wrong. Hostile input meets bounds: size, depth, and the number of nodes after
//! aliases are written out.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StrInput, Tag, options};

use super::finding::{At, Findings};

/// Longest policy file. The largest real ones are CIDR lists of some ten thousand lines.
pub(crate) const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting; the schema itself needs 7.
const MAX_DEPTH: usize = 24;
/// Nodes of one file, after aliases are written out.
const MAX_NODES: usize = 400_000;

/// One node and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A scalar as it was written, after escapes. `plain`: without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map in the order it was written; keys are distinct.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) at: At,
    pub(crate) text: String,
}

impl Node {
    /// Whether this is YAML's null.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null"),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// A list without items.
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(items) if items.is_empty())
    }

    /// What a message calls this node.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", abridged(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// A value as a message shows it: on one line, and not the whole of a long one.
pub(crate) fn abridged(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

/// Reads all documents of one file. What can't be read is a finding; documents before it are returned.
pub(crate) fn parse(file: u32, bytes: &[u8], findings: &mut Findings) -> Vec<Node> {
    let start = At { file, line: 1, column: 1 };
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!("the file has more than {MAX_FILE_BYTES} bytes");
        findings.error(start, message, "split it into several files");
        return Vec::new();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            let at = At { file, line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
            findings.error(at, "not UTF-8 text", "save the file as UTF-8");
            return Vec::new();
        }
    };
    let options = options! { emit_comments: false, disallow_directives: true };
    let mut reader = Reader {
        file,
        events: Parser::new_from_str_with_options(text, options),
        last: start,
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(node)) => {
                if !node.is_null() {
                    documents.push(node);
                }
            }
            Ok(None) => return documents,
            Err(bad) => {
                findings.error(bad.at, bad.message, bad.mend);
                return documents;
            }
        }
    }
}

/// Why a file can't be read on.
struct Bad {
    at: At,
    message: String,
    mend: &'static str,
}

struct Reader<'a> {
    file: u32,
    events: Parser<'a, StrInput<'a>>,
    last: At,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn at(&self, span: &Span) -> At {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At {
            file: self.file,
            line: number(span.start.line()),
            column: number(span.start.col()).saturating_add(1),
        }
    }

    fn bad(&self, message: impl Into<String>, mend: &'static str) -> Bad {
        Bad { at: self.last, message: message.into(), mend }
    }

    fn next(&mut self) -> Result<Option<Event<'a>>, Bad> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.last = self.at(&span);
                Ok(Some(event))
            }
            Some(Err(e)) => {
                self.last = self.at(&Span::empty(*e.marker()));
                // The parser looks ahead: it meets its own bound before ours sees the level.
                if *e.kind() == ErrorKind::RecursionLimitExceeded {
                    return Err(self.too_deep());
                }
                Err(self
                    .bad(format!("not YAML: {}", e.info()), "check indentation, quotes and brackets here"))
            }
        }
    }

    fn too_deep(&self) -> Bad {
        self.bad(format!("nested deeper than {MAX_DEPTH} levels"), "no policy needs this")
    }

    /// The next document, or `None` at the end.
    fn document(&mut self) -> Result<Option<Node>, Bad> {
        loop {
            match self.next()? {
                None | Some(Event::StreamEnd) => return Ok(None),
                Some(Event::DocumentStart(..)) => {
                    self.anchors.clear();
                    let Some(event) = self.next()? else { return Ok(None) };
                    return self.node(event, 0).map(Some);
                }
                Some(_) => {}
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's enum is non-exhaustive")]
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, Bad> {
        self.spend(1)?;
        if depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let at = self.last;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = self.tag(tag.as_deref(), "str")?;
                let plain = style == ScalarStyle::Plain && !string;
                (anchor, Value::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "seq")?;
                (anchor, Value::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "map")?;
                (anchor, Value::Map(self.map(depth)?))
            }
            Event::Alias(id) => {
                // Not there yet: the alias stands inside what it names.
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(self.bad("this alias contains itself", "write the value out"));
                };
                self.spend(size(&node))?;
                return Ok(Node { at, value: node.value });
            }
            // Documents' ends and whatever the parser may add: nothing of it can stand where a value is due.
            _ => return Err(self.bad("a value is missing here", "give one")),
        };
        let node = Node { at, value };
        if anchor != 0 {
            // The copy is memory too, and anchors nest.
            self.spend(size(&node))?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn spend(&mut self, nodes: usize) -> Result<(), Bad> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values once aliases are written out");
            return Err(self.bad(message, "split the file, or write the values out where they are used"));
        }
        Ok(())
    }

    /// Accepts no tag but the one that says what the node is anyway; says whether it was there.
    fn tag(&self, tag: Option<&Tag>, core: &str) -> Result<bool, Bad> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema_tag(core) => Ok(true),
            Some(tag) => {
                Err(self
                    .bad(format!("the tag `{}` means nothing here", abridged(&tag.original())), "remove it"))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Bad> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                None | Some(Event::SequenceEnd) => return Ok(items),
                Some(event) => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Bad> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashMap::new();
        loop {
            let event = match self.next()? {
                None | Some(Event::MappingEnd) => return Ok(entries),
                Some(event) => event,
            };
            let node = self.node(event, depth + 1)?;
            let at = node.at;
            let Value::Scalar { text, .. } = node.value else {
                self.last = at;
                return Err(self
                    .bad("a field's name must be a word", "put quotes around it if it begins with [ or {"));
            };
            if text == "<<" {
                self.last = at;
                return Err(self.bad("merge keys (`<<`) are not read", "write the fields out"));
            }
            if let Some(first) = seen.insert(text.clone(), at.line) {
                self.last = at;
                let message = format!("`{}` is given twice; the first is in line {first}", abridged(&text));
                return Err(self.bad(message, "keep one of them"));
            }
            let value = match self.next()? {
                None => return Err(self.bad("a value is missing here", "give one")),
                Some(event) => self.node(event, depth + 1)?,
            };
            entries.push((Key { at, text }, value));
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Map(entries) => entries.iter().map(|(_, n)| size(n) + 1).sum::<usize>() + 1,
    }
}
