//! Which lines ask for a path: exact ones by hash, prefixes by their order.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use outrigger_model::authorization::TextPattern;

/// The lines of one path or prefix, in ascending order.
type Lines = Box<[u32]>;

/// The paths of a set of lines.
#[derive(Debug)]
pub(super) struct PathIndex {
    exact: HashMap<Box<[u8]>, Lines, FixedState>,
    /// In ascending order of their texts.
    prefixes: Vec<Prefix>,
    comparison: Comparison,
}

/// How paths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Byte by byte.
    Strict,
    /// In lower case, which is the caller's part, and without regard to a slash at the end.
    Loose,
}

#[derive(Debug)]
struct Prefix {
    text: Box<[u8]>,
    /// The longest other prefix that it begins with.
    outer: Option<usize>,
    lines: Lines,
}

impl PathIndex {
    /// Of patterns and the lines that have them, in ascending order of lines.
    pub(super) fn new<'p>(
        patterns: impl Iterator<Item = (u32, &'p TextPattern)>,
        comparison: Comparison,
    ) -> Self {
        let (mut exact, mut prefixes) = (Written::default(), Written::default());
        for (line, pattern) in patterns {
            match pattern {
                TextPattern::Exact(text) => exact.add(comparison.key(text), line),
                TextPattern::Prefix(text) => {
                    let text = comparison.text(text);
                    if comparison == Comparison::Loose && text.ends_with(b"/") {
                        exact.add(comparison.trim(&text).into(), line);
                    }
                    prefixes.add(text, line);
                }
            }
        }
        let exact = exact.0.into_iter().map(|(text, lines)| (text, lines.into())).collect();
        Self { exact, prefixes: nested(prefixes), comparison }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// The lines that a path fulfils; some perhaps twice.
    pub(super) fn find(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        let exact = self.exact.get(self.comparison.trim(path));
        // Whatever sorts between a prefix of the path and the path begins with that prefix: so the longest one is the last
        // that is not after the path, or encloses it.
        let last = self.prefixes.partition_point(|prefix| *prefix.text <= *path).checked_sub(1);
        let outwards = |place: &usize| self.prefixes[*place].outer;
        let longest =
            std::iter::successors(last, outwards).find(|place| path.starts_with(&self.prefixes[*place].text));
        let prefixes = std::iter::successors(longest, outwards).map(|place| &self.prefixes[place].lines);
        exact.into_iter().chain(prefixes).flatten().map(|line| *line as usize)
    }
}

impl Comparison {
    fn text(self, pattern: &str) -> Box<[u8]> {
        match self {
            Self::Strict => pattern.as_bytes().into(),
            Self::Loose => pattern.to_ascii_lowercase().into_bytes().into(),
        }
    }

    fn key(self, pattern: &str) -> Box<[u8]> {
        self.trim(&self.text(pattern)).into()
    }

    fn trim(self, path: &[u8]) -> &[u8] {
        match self {
            Self::Strict => path,
            Self::Loose => path.strip_suffix(b"/").unwrap_or(path),
        }
    }
}

/// Texts and their lines, while they are collected.
#[derive(Default)]
struct Written(BTreeMap<Box<[u8]>, Vec<u32>>);

impl Written {
    fn add(&mut self, text: Box<[u8]>, line: u32) {
        self.0.entry(text).or_default().push(line);
    }
}

fn nested(written: Written) -> Vec<Prefix> {
    let mut prefixes: Vec<Prefix> = Vec::new();
    for (text, lines) in written.0 {
        let before = prefixes.len().checked_sub(1);
        let outer = std::iter::successors(before, |place| prefixes[*place].outer)
            .find(|place| text.starts_with(&prefixes[*place].text));
        prefixes.push(Prefix { text, outer, lines: lines.into() });
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], comparison: Comparison, path: &str) -> Vec<usize> {
        let written: Vec<TextPattern> = patterns.iter().map(|text| TextPattern::written(text)).collect();
        let index = PathIndex::new((0..).zip(&written), comparison);
        let mut lines: Vec<usize> = index.find(path.as_bytes()).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    #[test]
    fn every_prefix_and_the_exact_path_are_found() {
        let patterns = ["/a*", "/a/b*", "/a/bc", "/a/bb*", "/b*", "*", "/a/b", "/a/b*"];
        for (path, expected) in [
            ("/a/b", &[0, 1, 5, 6, 7][..]),
            ("/a/bc", &[0, 1, 2, 5, 7]),
            ("/a/bbb", &[0, 1, 3, 5, 7]),
            ("/a/bd", &[0, 1, 5, 7]),
            ("/az", &[0, 5]),
            ("/c", &[5]),
            ("", &[5]),
        ] {
            assert_eq!(found(&patterns, Comparison::Strict, path), expected, "{path}");
        }
        assert!(found(&["/b*", "/c"], Comparison::Strict, "/a").is_empty());
    }

    #[test]
    fn a_slash_at_the_end_makes_no_difference_to_a_loose_comparison() {
        let patterns = ["/Admin", "/admin/", "/admin/*", "/admin*", "/*", "/"];
        for (path, expected) in [
            ("/admin", &[0, 1, 2, 3, 4][..]),
            ("/admin/", &[0, 1, 2, 3, 4]),
            ("/admin/x", &[2, 3, 4]),
            ("/adminx", &[3, 4]),
            ("/", &[4, 5]),
        ] {
            assert_eq!(found(&patterns, Comparison::Loose, path), expected, "{path}");
        }
        assert_eq!(found(&patterns, Comparison::Strict, "/admin"), [3, 4]);
    }
}
