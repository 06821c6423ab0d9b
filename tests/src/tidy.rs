//! The style of this repository, kept by a test: sizes, names, dependency arrows, things that must not appear.
//!
//! It reads text, line by line; what needs types is clippy's part (`clippy.toml`). It must not know what the code is
//! for. [`check`] is the entry; each rule is a function that takes text and returns [`Violation`]s.

mod files;
mod manifest;
mod mask;
mod rust;
mod text;

use std::fmt;
use std::path::Path;

use anyhow::Result;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, relative to the root of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule, and what to do.
    pub message: String,
}

impl Violation {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, message } = self;
        write!(f, "{file}:{line}: {message}")
    }
}

/// Checks every file of the repository at `root`; the violations come in order of file and line.
///
/// # Errors
/// When the repository cannot be read.
pub fn check(root: &Path) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for file in files::list(root)? {
        let Some(text) = files::read(root, &file)? else { continue };
        violations.extend(text::check(&file, &text));
        if file.ends_with(".rs") {
            violations.extend(rust::check(&file, &text));
        }
        if file.ends_with("Cargo.toml") {
            violations.extend(manifest::check(&file, &text));
        }
    }
    violations.sort();
    Ok(violations)
}
