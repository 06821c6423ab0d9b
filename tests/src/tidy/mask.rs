//! Splits Rust source into code and comments without parsing it.
//!
//! Both come back with the shape of the source: same lines, same columns in characters, everything that is not
//! theirs blanked out. So a brace in a string is no brace, and a word in a comment is no keyword.

/// Rust source, taken apart.
#[derive(Debug)]
pub(super) struct Masked {
    /// The code; the inside of strings and characters, and all comments, are blanks.
    pub(super) code: String,
    /// The comments; everything else is blanks.
    pub(super) comments: String,
}

/// Takes `source` apart. Source that ends inside a string or a comment is taken as far as it goes.
pub(super) fn mask(source: &str) -> Masked {
    let chars: Vec<char> = source.chars().collect();
    let mut masked = Masked { code: String::new(), comments: String::new() };
    let mut at = 0;
    while at < chars.len() {
        let (kind, length) = token(&chars[at..], at.checked_sub(1).map(|before| chars[before]));
        // A token is never empty, so this ends.
        let end = (at + length.max(1)).min(chars.len());
        masked.push(&chars[at..end], kind);
        at = end;
    }
    masked
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Masked {
    fn push(&mut self, token: &[char], kind: Kind) {
        for &c in token {
            let blank = if c == '\n' { '\n' } else { ' ' };
            self.code.push(if kind == Kind::Code { c } else { blank });
            self.comments.push(if kind == Kind::Comment { c } else { blank });
        }
    }
}

/// The kind and length of what `rest` starts with; `before` is the character in front of it.
fn token(rest: &[char], before: Option<char>) -> (Kind, usize) {
    let is_inside_word = before.is_some_and(is_word);
    match rest {
        ['/', '/', ..] => (Kind::Comment, rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => (Kind::Comment, block_comment(rest)),
        ['"', ..] => (Kind::Literal, quoted(rest, '"')),
        ['\'', ..] => character(rest),
        ['b' | 'c' | 'r', ..] if !is_inside_word => match raw_string(rest) {
            Some(length) => (Kind::Literal, length),
            None => (Kind::Code, 1),
        },
        _ => (Kind::Code, 1),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal from its opening to its closing quote, past escaped characters.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or the tick of a lifetime or label, which is code.
fn character(rest: &[char]) -> (Kind, usize) {
    match rest {
        ['\'', '\\', ..] => (Kind::Literal, quoted(rest, '\'')),
        ['\'', _, '\'', ..] => (Kind::Literal, 3),
        _ => (Kind::Code, 1),
    }
}

/// The length of a raw string (`r"`, `br##"`, `cr#"`), if this is one. Prefixes without `r` need no care: what
/// follows them is an ordinary string.
fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().take(2).position(|&c| c == 'r')? + 1;
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let is_close =
        |at: usize| rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    let close = (open + 1..rest.len()).find(|&at| is_close(at));
    Some(close.map_or(rest.len(), |at| at + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `source` as code, with runs of blanks made one.
    fn code(source: &str) -> String {
        mask(source).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let table = [
            ("let a = 1; // {", "let a = 1;"),
            ("a /* { /* nested } */ still */ b", "a b"),
            ("/// doc \"with a quote\nfn f() {}", "fn f() {}"),
            (r#"say("{ // \" }", x)"#, "say( , x)"),
            ("say(\"two\nlines {\")", "say( )"),
            (r##"say(r"\", 1)"##, "say( , 1)"),
            (r###"say(r#"a "quoted" {"#, 1)"###, "say( , 1)"),
            (r###"say(br##"a "# {"##, 1)"###, "say( , 1)"),
            (r#"say(b"{\"", c"}")"#, "say(b , c )"),
            ("let open = '{';", "let open = ;"),
            (r"let tick = '\''; let brace = '}';", "let tick = ; let brace = ;"),
            (r"let u = '\u{7b}';", "let u = ;"),
            ("let quote = '\"'; f()", "let quote = ; f()"),
            ("let slash = b'/'; g()", "let slash = b ; g()"),
            ("fn f<'a>(x: &'a str) -> &'a str { x }", "fn f<'a>(x: &'a str) -> &'a str { x }"),
            ("'outer: loop { break 'outer }", "'outer: loop { break 'outer }"),
            ("let r#type = var; number\"x\"", "let r#type = var; number"),
            ("bar / baz * 2", "bar / baz * 2"),
            ("b'r' + r", "b + r"),
        ];
        for (source, expected) in table {
            assert_eq!(code(source), expected, "{source}");
        }
    }

    #[test]
    fn both_parts_keep_the_shape_of_the_source() {
        let source = "fn f() { // ünïcode\n    \"a\nb\" /* c */\n}\n";
        let masked = mask(source);
        for part in [&masked.code, &masked.comments] {
            assert_eq!(part.lines().count(), source.lines().count());
            let widths = |text: &str| text.lines().map(|line| line.chars().count()).collect::<Vec<_>>();
            assert_eq!(widths(part), widths(source));
        }
        assert_eq!(
            masked.comments.split_whitespace().collect::<Vec<_>>(),
            ["//", "ünïcode", "/*", "c", "*/"]
        );
    }

    #[test]
    fn source_that_breaks_off_does_not_panic() {
        for source in ["\"open", "'", "'\\", "/* open", "r#\"open", "br", "r", "\"\\", "b'", "/"] {
            assert_eq!(mask(source).code.chars().count(), source.chars().count(), "{source}");
        }
    }
}
