//! Functions, modules and words in masked code (see [`mask`](super::super::mask)): strings and comments are blank,
//! so that every brace is a brace.

/// Where a function is and how long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// Lines from its `fn` to its closing brace, both counted.
    pub(super) lines: usize,
}

/// Every function that has a body, those inside others too.
pub(super) fn functions(code: &str) -> Vec<Function<'_>> {
    let found = words(code, "fn").filter_map(|at| {
        let name = identifier(&code[at + "fn".len()..])?;
        let body = body(code, at)?;
        let (line, last) = (line_of(code, at), line_of(code, body.end - 1));
        Some(Function { name, line, lines: last - line + 1 })
    });
    found.collect()
}

/// The modules that are written inside this file, with their lines.
pub(super) fn inline_modules(code: &str) -> impl Iterator<Item = (usize, &str)> {
    words(code, "mod").filter_map(|at| {
        let name = identifier(&code[at + "mod".len()..])?;
        body(code, at).map(|_| (line_of(code, at), name))
    })
}

/// How many lines belong to `#[cfg(test)]` modules that are written inside this file.
pub(super) fn test_lines(code: &str) -> usize {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let modules = code.match_indices(ATTRIBUTE).filter_map(|(at, _)| {
        let item = code[at + ATTRIBUTE.len()..].trim_start();
        let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
        if !item.starts_with("mod ") {
            return None;
        }
        let body = body(code, code.len() - item.len())?;
        Some(line_of(code, body.end - 1) - line_of(code, at) + 1)
    });
    modules.sum()
}

/// Whether `word` stands in `line` as a word of its own, with any blanks between its parts.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    words(line, word).next().is_some()
}

/// Where `word` stands as a word of its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let goes_on = |c: Option<char>| c.is_some_and(is_word);
        // `r#fn` is an identifier. What ends in punctuation, as `todo!` does, ends there whatever follows.
        !goes_on(before) && before != Some('#') && (!word.ends_with(is_word) || !goes_on(after))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier that `rest` starts with after blanks; a function pointer type or a macro variable has none.
fn identifier(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    let start = if rest.starts_with("r#") { 2 } else { 0 };
    let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |end| start + end);
    Some(&rest[..end]).filter(|name| name.len() > start)
}

/// The body, with its braces, of the item that starts at `at`; `None` when it ends with a semicolon or never.
fn body(code: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    let mut start = None;
    for (offset, c) in code[at..].char_indices() {
        match (c, start) {
            ('(' | '[', None) => brackets += 1,
            (')' | ']', None) => brackets = brackets.saturating_sub(1),
            (';', None) if brackets == 0 => return None,
            ('{', None) if brackets == 0 => (start, braces) = (Some(at + offset), 1),
            ('{', Some(_)) => braces += 1,
            ('}', Some(start)) => {
                braces -= 1;
                if braces == 0 {
                    return Some(start..at + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(code: &str) -> Vec<(&str, usize, usize)> {
        functions(code).into_iter().map(|Function { name, line, lines }| (name, line, lines)).collect()
    }

    #[test]
    fn a_function_is_counted_from_its_keyword_to_its_brace() {
        let table = [
            ("fn a() {}\n", vec![("a", 1, 1)]),
            (
                "#[inline]\npub async fn a(\n    x: u8,\n) -> u8\nwhere\n    X: Y,\n{\n    x\n}\n",
                vec![("a", 2, 8)],
            ),
            ("fn a() {\n    fn b() {\n    }\n}\n", vec![("a", 1, 4), ("b", 2, 2)]),
            ("trait T {\n    fn a(&self);\n    fn b(&self) {\n    }\n}\n", vec![("b", 3, 2)]),
            ("fn a(x: [u8; { 4 }]) -> [u8; 4] {\n}\n", vec![("a", 1, 2)]),
            ("type F = fn(u8) -> u8;\nfn a() { if x { y } else { z } }\n", vec![("a", 2, 1)]),
            ("fn r#type() {\n}\n", vec![("r#type", 1, 2)]),
            ("macro_rules! m { ($n:ident) => { fn $n() {} } }\n", vec![]),
            ("let fn_name = 1; r#fn {}\n", vec![]),
            ("fn broken() {\n", vec![]),
        ];
        for (code, expected) in table {
            assert_eq!(lengths(code), expected, "{code}");
        }
    }

    #[test]
    fn lines_of_test_modules_are_counted() {
        assert_eq!(test_lines("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n"), 4);
        assert_eq!(test_lines("fn a() {}\n#[cfg(test)]\nmod tests;\n"), 0);
        assert_eq!(test_lines("#[cfg(test)]\nfn only_for_tests() {\n}\n"), 0);
    }

    #[test]
    fn modules_inside_a_file_are_found() {
        let found: Vec<_> = inline_modules("mod a;\npub mod util {\n}\nlet module = 1;\n").collect();
        assert_eq!(found, [(2, "util")]);
    }

    #[test]
    fn a_word_is_a_whole_word() {
        assert!(has_word("let x = unsafe { y };", "unsafe"));
        assert!(has_word("todo!()", "todo!"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(!has_word("not_todo!()", "todo!"));
    }
}
