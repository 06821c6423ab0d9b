//! Events of the YAML parser to a tree, with every bound kept while it grows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, ScalarStyle, Tag};

use crate::parse::node::{
    Content, Entry, MAPPING_WEIGHT_BYTES, NODE_WEIGHT_BYTES, Node, Position, find, plain,
};
use crate::parse::path::{FieldPath, Step};
use crate::parse::yaml::{Document, Duplicate, MAX_DEPTH, MAX_EXPANDED_BYTES};

/// The key that merges other mappings in (YAML 1.1; common in files that use anchors).
const MERGE_KEY: &str = "<<";
/// At most so many repeated keys are kept for the report.
const MAX_DUPLICATES: usize = 64;

/// A tree under construction.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Frame>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Anchored>,
    weight_bytes: usize,
    duplicates: Vec<Duplicate>,
}

/// A list or mapping that is not closed yet.
struct Frame {
    start: Position,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Mapping(OpenMapping),
}

/// A mapping that is not closed yet.
#[derive(Default)]
struct OpenMapping {
    /// As written.
    entries: Vec<Entry>,
    /// By merges: a key that is written wins over them.
    merged: Vec<Entry>,
    key: Option<Key>,
}

/// A key whose value is still to come.
struct Key {
    text: String,
    start: Position,
    merges: bool,
}

struct Anchored {
    node: Node,
    depth: usize,
    weight_bytes: usize,
}

impl Builder {
    /// Takes the next event of a document.
    pub(super) fn take(&mut self, event: Event<'_>, start: Position) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                // A key is the text that is written: `1.10` must not become the number 1.1.
                let content = match self.expects_key() && !(plain && text.is_empty()) {
                    true => Content::Text(text.into_owned()),
                    false => scalar(text, style, tag.as_deref())?,
                };
                self.scalar(Node { start, content }, anchor, plain)
            }
            Event::SequenceStart(anchor, _) => self.open(start, anchor, FrameKind::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(start, anchor, FrameKind::Mapping(OpenMapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, start),
            _ => Ok(()),
        }
    }

    /// The tree, or nothing if there was no document.
    pub(super) fn finish(self) -> Option<Document> {
        let duplicates = self.duplicates;
        self.root.map(|root| Document { root, duplicates })
    }

    fn scalar(&mut self, node: Node, anchor: usize, plain: bool) -> Result<(), String> {
        self.charge(node.weight_bytes())?;
        self.remember(anchor, &node)?;
        self.place(node, plain)
    }

    fn open(&mut self, start: Position, anchor: usize, kind: FrameKind) -> Result<(), String> {
        if self.expects_key() {
            return Err("a list or mapping as a key; a key is a text".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        let weight_bytes = match kind {
            FrameKind::List(_) => NODE_WEIGHT_BYTES,
            FrameKind::Mapping(_) => MAPPING_WEIGHT_BYTES,
        };
        self.charge(weight_bytes)?;
        self.open.push(Frame { start, anchor, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(frame) = self.open.pop() else {
            return Err("not YAML: something ends that did not begin".to_owned());
        };
        let content = match frame.kind {
            FrameKind::List(items) => Content::List(items),
            FrameKind::Mapping(mapping) => {
                let (entries, repeated) = mapping.close();
                repeated.into_iter().for_each(|repeated| self.report(repeated));
                Content::Mapping(entries)
            }
        };
        let node = Node { start: frame.start, content };
        self.remember(frame.anchor, &node)?;
        self.place(node, false)
    }

    fn alias(&mut self, anchor: usize, start: Position) -> Result<(), String> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err("an alias inside of what it stands for".to_owned());
        };
        if self.open.len() + anchored.depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep by aliases"));
        }
        let weight_bytes = anchored.weight_bytes;
        let mut node = anchored.node.clone();
        node.start = start;
        self.charge(weight_bytes)?;
        self.place(node, false)
    }

    /// Keeps what an anchor names. The parser counts anchors from 1; 0 is none.
    fn remember(&mut self, anchor: usize, node: &Node) -> Result<(), String> {
        if anchor == 0 {
            return Ok(());
        }
        let weight_bytes = node.weight_bytes();
        self.charge(weight_bytes)?;
        self.anchors.insert(anchor, Anchored { node: node.clone(), depth: node.depth(), weight_bytes });
        Ok(())
    }

    fn charge(&mut self, weight_bytes: usize) -> Result<(), String> {
        self.weight_bytes = self.weight_bytes.saturating_add(weight_bytes);
        match self.weight_bytes <= MAX_EXPANDED_BYTES {
            true => Ok(()),
            false => Err(format!(
                "more than {MAX_EXPANDED_BYTES} bytes once aliases are expanded; write it out smaller"
            )),
        }
    }

    fn expects_key(&self) -> bool {
        let top = self.open.last().map(|frame| &frame.kind);
        matches!(top, Some(FrameKind::Mapping(OpenMapping { key: None, .. })))
    }

    /// Puts a finished node where it belongs: into the list, as key or value into the mapping, or as the root.
    fn place(&mut self, node: Node, plain: bool) -> Result<(), String> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.kind {
            FrameKind::List(items) => items.push(node),
            FrameKind::Mapping(mapping) => match mapping.key.take() {
                None => mapping.key = Some(Key::new(node, plain)?),
                Some(key) if key.merges => merge(&mut mapping.merged, node)?,
                Some(key) => mapping.entries.push(Entry { key: key.text, key_start: key.start, value: node }),
            },
        }
        Ok(())
    }

    fn report(&mut self, repeated: Repeated) {
        if self.duplicates.len() >= MAX_DUPLICATES {
            return;
        }
        // The mapping itself is closed; those around it say how to get there.
        let around = self.open.iter().filter_map(Frame::step);
        let path: FieldPath = around.chain([Step::Key(repeated.key)]).collect();
        self.duplicates.push(Duplicate { path, position: repeated.again, first: repeated.first });
    }
}

impl Frame {
    /// The step into what is being read now.
    fn step(&self) -> Option<Step> {
        match &self.kind {
            FrameKind::List(items) => Some(Step::Index(items.len())),
            FrameKind::Mapping(mapping) => mapping.key.as_ref().map(|key| Step::Key(key.text.clone())),
        }
    }
}

impl Key {
    fn new(node: Node, plain: bool) -> Result<Self, String> {
        let start = node.start;
        let text = match node.content {
            Content::Text(text) => text,
            Content::Bool(value) => value.to_string(),
            Content::Number(number) => number.to_string(),
            Content::Null => return Err("an empty key; a key is a text".to_owned()),
            Content::List(_) | Content::Mapping(_) => {
                return Err("a list or mapping as a key; a key is a text".to_owned());
            }
        };
        Ok(Self { merges: plain && text == MERGE_KEY, text, start })
    }
}

/// A key that was there before.
struct Repeated {
    key: String,
    first: Position,
    again: Position,
}

impl OpenMapping {
    /// Its entries in the order of their keys, each key once: written before merged, and the first of a kind.
    fn close(self) -> (Vec<Entry>, Vec<Repeated>) {
        let (mut entries, mut repeated) = (self.entries, Vec::new());
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        entries.dedup_by(|again, first| {
            let same = again.key == first.key;
            if same {
                repeated.push(Repeated {
                    key: again.key.clone(),
                    first: first.key_start,
                    again: again.key_start,
                });
            }
            same
        });
        let mut merged = self.merged;
        merged.retain(|entry| find(&entries, &entry.key).is_none());
        if !merged.is_empty() {
            entries.append(&mut merged);
            entries.sort_by(|one, other| one.key.cmp(&other.key));
            entries.dedup_by(|again, first| again.key == first.key);
        }
        (entries, repeated)
    }
}

/// Takes the entries of a mapping, or of each of a list of mappings.
fn merge(merged: &mut Vec<Entry>, value: Node) -> Result<(), String> {
    match value.content {
        Content::Mapping(mut others) => {
            merged.append(&mut others);
            Ok(())
        }
        Content::List(items) => items.into_iter().try_for_each(|item| match item.content {
            Content::Mapping(_) => merge(merged, item),
            _ => Err("<< with a list of something else than mappings".to_owned()),
        }),
        _ => Err("<< with something else than a mapping; name one with an alias like *defaults".to_owned()),
    }
}

/// What a scalar means by its style and tag.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Content, String> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(&text)),
        None => Ok(Content::Text(text.into_owned())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Content::Text(text.into_owned())),
        Some(tag) if tag.is_yaml_core_schema() => Ok(plain(&text)),
        Some(tag) => Err(format!("the tag {tag} has no meaning here; remove it")),
    }
}
