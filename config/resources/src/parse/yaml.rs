//! Text to documents. A document that is not YAML costs only itself: the text is cut at document markers first,
//! which YAML allows nowhere else (YAML 1.2, section 9.1.2). Depth and size are bounded, expanded aliases counted.

use saphyr_parser::{Event, Marker, Parser, StrInput};

use crate::parse::node::{Node, Position};
use crate::parse::path::FieldPath;

mod builder;

use builder::Builder;

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// What a document may take in memory once its aliases are expanded, in bytes.
pub const MAX_EXPANDED_BYTES: usize = 64 * 1024 * 1024;
/// How many levels a document may have.
pub const MAX_DEPTH: usize = 64;

/// A document that could be read.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// Keys that are written twice in one mapping; the first stands in the tree.
    pub(crate) duplicates: Vec<Duplicate>,
}

/// A key that is written twice.
#[derive(Debug)]
pub(crate) struct Duplicate {
    pub(crate) path: FieldPath,
    pub(crate) position: Position,
    pub(crate) first: Position,
}

/// Why and where a document could not be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) position: Position,
    pub(crate) message: String,
}

/// The documents of a text, one after the other.
pub(crate) fn documents(text: &str) -> impl Iterator<Item = Result<Document, Unreadable>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    chunks(text).into_iter().flat_map(|chunk| chunk.read())
}

/// A part of a text that holds one document as a rule. All of them together are the text.
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    /// Lines of the text before it.
    lines_before: u32,
}

pub(crate) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut lines_before, mut offset) = (0, 0, 0);
    let mut has_content = false;
    for (number, line) in (0_u32..).zip(text.split_inclusive('\n')) {
        if has_content && is_marker(line, "---") {
            chunks.push(Chunk { text: &text[start..offset], lines_before });
            (start, lines_before, has_content) = (offset, number, false);
        }
        has_content |= is_content(line);
        offset += line.len();
        if is_marker(line, "...") {
            chunks.push(Chunk { text: &text[start..offset], lines_before });
            (start, lines_before, has_content) = (offset, number + 1, false);
        }
    }
    chunks.push(Chunk { text: &text[start..], lines_before });
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line is more than blank, a comment, or a directive, which belong to the document that follows.
fn is_content(line: &str) -> bool {
    let trimmed = line.trim_start();
    !trimmed.is_empty() && !trimmed.starts_with('#') && !line.starts_with('%')
}

impl Chunk<'_> {
    pub(crate) fn read(&self) -> Vec<Result<Document, Unreadable>> {
        if self.text.len() > MAX_DOCUMENT_BYTES {
            let position = Position { line: self.lines_before + 1, column: 1 };
            let message = format!(
                "a document of {} bytes; the limit is {MAX_DOCUMENT_BYTES}: split it with --- lines",
                self.text.len()
            );
            return vec![Err(Unreadable { position, message })];
        }
        let mut documents = Vec::new();
        let mut parser = Parser::new_from_str(self.text);
        loop {
            match self.next_document(&mut parser) {
                Ok(Some(document)) => documents.push(Ok(document)),
                Ok(None) => return documents,
                Err(unreadable) => {
                    documents.push(Err(unreadable));
                    return documents;
                }
            }
        }
    }

    fn next_document(&self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<Option<Document>, Unreadable> {
        let mut builder = Builder::default();
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| Unreadable {
                position: self.position(error.marker()),
                message: format!("not YAML: {}", error.info()),
            })?;
            let position = self.position(&span.start);
            match event {
                Event::DocumentEnd => return Ok(builder.finish()),
                event => builder.take(event, position).map_err(|message| Unreadable { position, message })?,
            }
        }
        Ok(None)
    }

    fn position(&self, marker: &Marker) -> Position {
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let line = bounded(marker.line()).saturating_add(self.lines_before);
        Position { line, column: bounded(marker.col()).saturating_add(1) }
    }
}
