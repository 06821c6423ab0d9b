//! Where the parts of a document stand in its text.

use saphyr_parser::{Event, Parser, Span, StrInput};

use crate::parse::yaml::MAX_DEPTH;

/// A value in a text.
#[derive(Debug)]
pub(super) struct Layout {
    /// Where it starts, in bytes.
    pub(super) start: usize,
    /// Behind its last character.
    pub(super) end: usize,
    pub(super) shape: Shape,
}

/// How a value is written.
#[derive(Debug)]
pub(super) enum Shape {
    Scalar,
    /// Between brackets or braces.
    Flow,
    /// Items behind dashes.
    List(Vec<Layout>),
    /// Keys, each with a line of its own.
    Mapping(Vec<Entry>),
    /// Something that is written elsewhere.
    Alias,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key starts, in bytes.
    pub(super) start: usize,
    /// Its column in characters, from 0.
    pub(super) column: usize,
    /// Behind the colon.
    pub(super) colon: usize,
    pub(super) value: Layout,
}

/// Reads a text that is known to be one document. `None` when it is written in a way that nobody edits.
pub(super) fn read(text: &str) -> Option<Layout> {
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]).collect();
    let mut reader = Reader { text, starts, parser: Parser::new_from_str(text) };
    loop {
        match reader.parser.next_event()?.ok()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (event, span) => return reader.value(event, span, MAX_DEPTH),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Where each character starts, in bytes.
    starts: Vec<usize>,
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Layout> {
        let start = self.byte(span.start.index())?;
        let depth = depth.checked_sub(1)?;
        match event {
            Event::Scalar(..) => {
                let end = self.byte(span.end.index())?;
                // A block scalar ends where the next thing starts.
                let end = start + self.text.get(start..end)?.trim_end().len();
                Some(Layout { start, end, shape: Shape::Scalar })
            }
            Event::Alias(_) => Some(Layout { start, end: self.byte(span.end.index())?, shape: Shape::Alias }),
            Event::SequenceStart(..) => self.list(start, depth),
            Event::MappingStart(..) => self.mapping(start, depth),
            _ => None,
        }
    }

    fn list(&mut self, start: usize, depth: usize) -> Option<Layout> {
        let is_flow = self.text.get(start..)?.starts_with('[');
        let mut items: Vec<Layout> = Vec::new();
        loop {
            match self.parser.next_event()?.ok()? {
                (Event::SequenceEnd, span) => {
                    let end = if is_flow { self.byte(span.end.index())? } else { items.last()?.end };
                    let shape = if is_flow { Shape::Flow } else { Shape::List(items) };
                    return Some(Layout { start, end, shape });
                }
                (event, span) => items.push(self.value(event, span, depth)?),
            }
        }
    }

    fn mapping(&mut self, start: usize, depth: usize) -> Option<Layout> {
        let is_flow = self.text.get(start..)?.starts_with('{');
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.parser.next_event()?.ok()?;
            if matches!(event, Event::MappingEnd) {
                let end = if is_flow { self.byte(span.end.index())? } else { entries.last()?.value.end };
                let shape = if is_flow { Shape::Flow } else { Shape::Mapping(entries) };
                return Some(Layout { start, end, shape });
            }
            let Event::Scalar(key, ..) = event else { return None };
            let (start, end) = (self.byte(span.start.index())?, self.byte(span.end.index())?);
            // In braces a key may go without a colon; nothing is edited there.
            let colon = self.text.get(end..)?.find(':').map_or(end, |colon| end + colon + 1);
            let (event, span_of_value) = self.parser.next_event()?.ok()?;
            let mut value = self.value(event, span_of_value, depth)?;
            if matches!(value.shape, Shape::Scalar) && value.start == value.end {
                (value.start, value.end) = (colon, colon);
            }
            let (key, column) = (key.into_owned(), span.start.col());
            entries.push(Entry { key, start, column, colon, value });
        }
    }

    fn byte(&self, character: usize) -> Option<usize> {
        self.starts.get(character).copied()
    }
}
