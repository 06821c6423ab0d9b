//! Rules for Rust source.

mod shape;

use std::path::Path;

use super::Violation;
use super::mask::{Masked, mask};

/// The longest a function may be, in lines, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;
/// The longest a file may be, in lines, without its tests.
const MAX_FILE_LINES: usize = 600;
/// Files that may be longer, because they are one flat table, each with what the table is.
const FLAT_TABLES: [(&str, &str); 0] = [];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "prelude", "stuff"];
/// Words that must not appear in code, each with what to do instead.
const FORBIDDEN_CODE: [(&str, &str); 5] = [
    ("use crate::*", "name what is used, so that a reader can find it"),
    ("todo!", "write it, or leave the feature out"),
    ("unimplemented!", "write it, or leave the feature out"),
    ("dbg!", "remove it, or log through tracing"),
    ("unsafe", "find a safe way, or a crate that offers one: unsafe is forbidden in every crate of ours"),
];
/// Words that must not appear in comments.
const FORBIDDEN_COMMENTS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Checks one source file.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    let masked = mask(text);
    let mut violations = Vec::new();
    violations.extend(names(file, &masked.code));
    violations.extend(module_doc(file, text));
    violations.extend(file_length(file, &masked.code));
    violations.extend(function_lengths(file, &masked.code));
    violations.extend(forbidden(file, &masked));
    violations
}

fn names(file: &str, code: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let path = Path::new(file);
    if path.ends_with("mod.rs") {
        let message = "no mod.rs: name the file after its module, `foo.rs` beside the directory `foo/`";
        violations.push(Violation::new(file, 1, message));
    }
    let empty = path.with_extension("");
    let empty = empty.iter().filter_map(|part| part.to_str()).find(|part| EMPTY_NAMES.contains(part));
    if let Some(name) = empty {
        violations.push(Violation::new(file, 1, empty_name(name)));
    }
    for (line, name) in shape::inline_modules(code) {
        if EMPTY_NAMES.contains(&name) {
            violations.push(Violation::new(file, line, empty_name(name)));
        }
    }
    violations
}

fn empty_name(name: &str) -> String {
    format!(
        "\"{name}\" says nothing: name the module after what is inside, or put its parts where they are used"
    )
}

fn module_doc(file: &str, text: &str) -> Option<Violation> {
    let message = "the file starts without a `//!`: say what it is for, why, and what it must not know";
    (!text.starts_with("//!")).then(|| Violation::new(file, 1, message))
}

fn file_length(file: &str, code: &str) -> Option<Violation> {
    let lines = code.lines().count() - shape::test_lines(code);
    let is_table = FLAT_TABLES.iter().any(|(table, _)| *table == file);
    let is_long = lines > MAX_FILE_LINES && !is_test(file);
    match (is_long, is_table) {
        (true, false) => {
            let message = format!(
                "{lines} lines without tests, {MAX_FILE_LINES} is the most: move one thought to a file of its own"
            );
            Some(Violation::new(file, MAX_FILE_LINES + 1, message))
        }
        (false, true) => {
            let message = "the exception for a flat table is not needed any more: remove it from FLAT_TABLES";
            Some(Violation::new(file, 1, message))
        }
        _ => None,
    }
}

/// Whether the whole file is tests: `foo/tests.rs`, or in the `tests` directory of a package.
fn is_test(file: &str) -> bool {
    Path::new(file).ends_with("tests.rs") || file.contains("/tests/")
}

fn function_lengths(file: &str, code: &str) -> Vec<Violation> {
    let functions = shape::functions(code).into_iter();
    let long = functions.filter(|function| function.lines > MAX_FUNCTION_LINES);
    let violations = long.map(|shape::Function { name, line, lines }| {
        let message = format!(
            "function {name} has {lines} lines, {MAX_FUNCTION_LINES} is the most: give a part of it a name of its own"
        );
        Violation::new(file, line, message)
    });
    violations.collect()
}

fn forbidden(file: &str, masked: &Masked) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in masked.code.lines().enumerate() {
        let found = FORBIDDEN_CODE.iter().filter(|(word, _)| shape::has_word(line, word));
        violations.extend(
            found.map(|(word, advice)| Violation::new(file, index + 1, format!("no `{word}`: {advice}"))),
        );
    }
    for (index, line) in masked.comments.lines().enumerate() {
        let found = FORBIDDEN_COMMENTS.iter().filter(|word| shape::has_word(line, word));
        let advice = "do it, or open an issue and say in the comment what holds until then";
        violations.extend(found.map(|word| Violation::new(file, index + 1, format!("no {word}: {advice}"))));
    }
    violations
}

#[cfg(test)]
mod tests;
