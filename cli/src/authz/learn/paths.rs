//! From the paths that were asked for to patterns for them.

use std::collections::{BTreeMap, BTreeSet};

/// The longest pattern that is made, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Characters that no path of a policy may have, and the star, which has a meaning there.
const NOT_IN_POLICIES: &str = "%;\\?#*";
/// From this length on a name of letters and digits is taken for an identifier.
const LONG_NAME: usize = 20;
/// From this length on hexadecimal digits with a decimal one among them are taken for an identifier.
const LONG_HEX: usize = 8;

/// Paths by their segments.
#[derive(Default)]
struct Node {
    /// A path ends here.
    is_end: bool,
    children: BTreeMap<String, Node>,
}

/// Patterns that match all of some plain paths: as they are, or with a `*` in place of identifiers, of more than `siblings`
/// names beside each other, and of all that follows.
pub(super) fn generalise<'p>(paths: impl IntoIterator<Item = &'p str>, siblings: usize) -> BTreeSet<String> {
    let mut root = Node::default();
    for path in paths {
        let mut node = &mut root;
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            node = node.children.entry(segment.to_owned()).or_default();
        }
        node.is_end = true;
    }
    let mut patterns = BTreeSet::new();
    root.collect("", siblings, &mut patterns);
    patterns
}

impl Node {
    /// `path` leads here, without a slash at its end.
    fn collect(&self, path: &str, siblings: usize, patterns: &mut BTreeSet<String>) {
        if self.is_end {
            patterns.insert(path.to_owned());
        }
        let too_long = self.children.keys().any(|name| path.len() + name.len() + 2 > MAX_PATTERN_BYTES);
        if too_long || self.children.len() > siblings || self.children.keys().any(|name| is_variable(name)) {
            patterns.insert(format!("{path}/*"));
            return;
        }
        for (name, child) in &self.children {
            child.collect(&format!("{path}/{name}"), siblings, patterns);
        }
    }
}

/// Whether another request is likely to have another name in its place, or a policy cannot have this one.
fn is_variable(name: &str) -> bool {
    if name.chars().any(|c| NOT_IN_POLICIES.contains(c)) || matches!(name, "." | "..") {
        return true;
    }
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let parts_of_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    digits == name.len() || (parts_of_hex && name.len() >= LONG_HEX) || (word && name.len() >= LONG_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paths: &str, expected: &str) {
        let patterns = generalise(paths.split_whitespace(), 3);
        assert_eq!(patterns.into_iter().collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn names_stay_and_what_varies_becomes_a_star() {
        check("/api/a /api/b /healthz", "/api/a /api/b /healthz");
        check("/", "/");
        check("/users/17", "/users/*");
        check("/users/17/orders /users/me /users", "/users /users/*");
        check("/o/123e4567-e89b-12d3-a456-426614174000", "/o/*");
        check("/o/deadbeef1", "/o/*");
        check("/o/decade/facade", "/o/decade/facade");
        check("/f/2Vxk3qRstT9aPzQw7LmN0", "/f/*");
        check("/v1/a /v2/a", "/v1/a /v2/a");
        check("/a /b /c", "/a /b /c");
        check("/a /b /c /d", "/*");
        check("/x/a /x/b /x/c /x/d /y", "/x/* /y");
        check("/shop.Reviews/Get /shop.Reviews/List", "/shop.Reviews/Get /shop.Reviews/List");
        check("/a/ /a", "/a /a/");
        check("/glob/a*b", "/glob/*");
    }
}
