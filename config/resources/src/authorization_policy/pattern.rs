//! Texts that policies compare with: as they are, or with `*` at the end for anything.

use std::fmt;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::MAX_ENTRIES;
use crate::field::{self, check_trust_domain};

/// How a text is compared, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Pattern {
    /// It is this.
    Exact(Arc<str>),
    /// It begins with this; empty is anything.
    Prefix(Arc<str>),
}

/// The longest pattern, in bytes; as long as a SPIFFE id may be (SPIFFE ID, section 2.3).
const MAX_PATTERN_BYTES: usize = 2048;
/// How every SPIFFE id begins.
const SPIFFE_SCHEME: &str = "spiffe://";

impl Pattern {
    /// What is written before the star, or all of it.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefix(_))
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        if written.is_empty() || written.len() > MAX_PATTERN_BYTES {
            return Err(format!("{} bytes; write 1 to {MAX_PATTERN_BYTES}", written.len()));
        }
        if written.chars().any(char::is_control) {
            return Err(format!("{written:?} has control characters in it"));
        }
        let (text, is_prefix) = match written.strip_suffix('*') {
            Some(text) => (text, true),
            None => (written.as_str(), false),
        };
        if text.contains('*') {
            return Err(format!(
                "{written:?} has a * that is not its end; it stands for anything only there"
            ));
        }
        Ok(if is_prefix { Self::Prefix(text.into()) } else { Self::Exact(text.into()) })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
        }
    }
}

pub(super) fn identities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    checked(deserializer, check_identity)
}

pub(super) fn namespaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    checked(deserializer, check_namespace)
}

pub(super) fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    checked(deserializer, check_method)
}

pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    checked(deserializer, check_path)
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    check: fn(&Pattern) -> Result<(), String>,
) -> Result<Vec<Pattern>, D::Error> {
    let patterns: Vec<Pattern> = field::up_to::<MAX_ENTRIES, _, _>(deserializer)?;
    patterns.iter().try_for_each(check).map_err(D::Error::custom)?;
    Ok(patterns)
}

/// A SPIFFE id (SPIFFE ID, section 2), or how one begins.
fn check_identity(pattern: &Pattern) -> Result<(), String> {
    let wrong = || {
        format!(
            "\"{pattern}\" is no SPIFFE id; write one like spiffe://cluster.local/ns/shop/sa/web, or how it begins and a *"
        )
    };
    let rest = pattern.text().strip_prefix(SPIFFE_SCHEME).ok_or_else(wrong)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !rest.bytes().all(allowed) {
        return Err(wrong());
    }
    match rest.split_once('/') {
        Some((domain, path)) => {
            check_trust_domain(domain)?;
            let segments_are_whole = path.split('/').all(|segment| !segment.is_empty());
            if pattern.is_prefix() || segments_are_whole { Ok(()) } else { Err(wrong()) }
        }
        None if pattern.is_prefix() => Ok(()),
        None => Err(wrong()),
    }
}

fn check_namespace(pattern: &Pattern) -> Result<(), String> {
    let text = pattern.text();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match text.len() <= 63 && text.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!("\"{pattern}\" is no namespace; write 1 to 63 of a-z, 0-9 and -")),
    }
}

/// A token (RFC 9110, section 5.6.2) in upper case, as methods are.
fn check_method(pattern: &Pattern) -> Result<(), String> {
    let allowed =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'+-.^_`|~".contains(&byte);
    match pattern.text().bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!("\"{pattern}\" is no method; write it in upper case, like GET")),
    }
}

/// A path as a request has it after decoding: what could be read in more than one way would protect less than it seems to.
fn check_path(pattern: &Pattern) -> Result<(), String> {
    let text = pattern.text();
    if text.is_empty() {
        return Ok(());
    }
    if !text.starts_with('/') {
        return Err(format!("\"{pattern}\" is no path; it starts with /"));
    }
    if let Some(found) = text.chars().find(|found| "%;\\?#".contains(*found)) {
        return Err(format!("\"{pattern}\" has a {found} in it; write the path as it is after decoding"));
    }
    let is_dots = |segment: &str| matches!(segment, "." | "..");
    let (others, last) = text.rsplit_once('/').unwrap_or_default();
    // How a name begins may be a dot.
    let has_dots = others.split('/').any(is_dots) || (!pattern.is_prefix() && is_dots(last));
    match has_dots || text.contains("//") {
        true => {
            Err(format!("\"{pattern}\" has //, /./ or /../ in it; write the path as it is after decoding"))
        }
        false => Ok(()),
    }
}
