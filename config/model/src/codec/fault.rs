//! What is wrong with a message and where, before the resource around it is known.

use std::fmt::Display;

use super::MAX_ERROR_TEXT_BYTES;

/// What reading a part of a message gives.
pub(super) type Decoded<T> = Result<T, Fault>;

/// A field and what is wrong with it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) why: String,
}

impl Fault {
    /// Something wrong with a field.
    pub(super) fn new(field: impl Display, why: impl Display) -> Self {
        Self { field: field.to_string(), why: why.to_string() }
    }

    /// Something wrong with the whole of what was being read.
    pub(super) fn whole(why: impl Display) -> Self {
        Self::new("", why)
    }

    /// The same fault, seen from the message that has the part as its field `outer`.
    pub(super) fn within(self, outer: impl Display) -> Self {
        let field = match self.field.as_str() {
            "" => outer.to_string(),
            inner => format!("{outer}.{inner}"),
        };
        Self { field, why: self.why }
    }
}

/// Refuses a message when one of the fields that we cannot honour is set in it.
pub(super) fn refuse(fields: &[(&str, bool)]) -> Decoded<()> {
    match fields.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(Fault::new(field, "is not supported")),
        None => Ok(()),
    }
}

/// Checks the length of a list against its bound.
pub(super) fn at_most(field: &str, count: usize, bound: usize) -> Decoded<()> {
    match count <= bound {
        true => Ok(()),
        false => Err(Fault::new(field, format!("has {count} entries, at most {bound} are read"))),
    }
}

/// A text that is safe to repeat in an error.
pub(super) fn shorten(text: &str) -> String {
    if text.len() <= MAX_ERROR_TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(MAX_ERROR_TEXT_BYTES)])
}
