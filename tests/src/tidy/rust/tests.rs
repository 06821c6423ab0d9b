//! Each rule against a file that breaks it, and one that nearly does.

use super::*;

/// The messages for a file of this name and text, after its module doc.
fn messages(file: &str, rest: &str) -> Vec<String> {
    check(file, &format!("//! Doc.\n{rest}")).iter().map(ToString::to_string).collect()
}

/// Asserts that exactly one rule is broken, at this line, with these words in the message.
fn broken(file: &str, rest: &str, line: usize, words: &str) {
    let messages = messages(file, rest);
    let is_it = messages.len() == 1 && messages[0].starts_with(&format!("{file}:{line}: "));
    assert!(is_it && messages[0].contains(words), "{file}: {messages:?}");
}

fn fine(file: &str, rest: &str) {
    assert_eq!(messages(file, rest), Vec::<String>::new());
}

fn function_of(lines: usize) -> String {
    format!("fn f() {{\n{}}}\n", "    f();\n".repeat(lines - 2))
}

#[test]
fn names_that_say_nothing_are_found() {
    broken("proxy/src/inbound/mod.rs", "", 1, "no mod.rs");
    broken("proxy/src/util.rs", "", 1, "\"util\" says nothing");
    broken("proxy/src/helpers/http.rs", "", 1, "\"helpers\" says nothing");
    broken("proxy/src/lib.rs", "mod misc {\n}\n", 2, "\"misc\" says nothing");
    fine("proxy/src/utilisation.rs", "mod common_name {\n}\n");
}

#[test]
fn a_file_without_module_doc_is_found() {
    let violations = check("proxy/src/lib.rs", "// A comment.\nfn f() {}\n");
    assert_eq!(violations.len(), 1);
    assert!(violations[0].message.contains("//!"));
}

#[test]
fn functions_have_an_end() {
    broken("proxy/src/lib.rs", &function_of(71), 2, "function f has 71 lines");
    fine("proxy/src/lib.rs", &function_of(70));
    broken("proxy/src/pool/tests.rs", &function_of(71), 2, "function f has 71 lines");
}

#[test]
fn files_have_an_end_without_their_tests() {
    let lines = "const A: u8 = 1;\n".repeat(600);
    broken("proxy/src/lib.rs", &lines, 601, "601 lines without tests");
    for test in ["proxy/src/pool/tests.rs", "tests/tests/mesh.rs", "proxy/src/pool/tests/retry.rs"] {
        fine(test, &lines);
    }
    broken("tests/src/origin.rs", &lines, 601, "601 lines without tests");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n");
    fine("proxy/src/lib.rs", &tests);
}

#[test]
fn forbidden_words_are_found_in_code_alone() {
    for (word, _) in FORBIDDEN_CODE {
        broken("proxy/src/lib.rs", &format!("fn f() {{\n    {word} ;\n}}\n"), 3, &format!("no `{word}`"));
        fine("proxy/src/lib.rs", &format!("// {word}\nconst A: &str = \"{word}\";\n"));
    }
    for word in FORBIDDEN_COMMENTS {
        broken("proxy/src/lib.rs", &format!("\n// {word}: later\n"), 3, &format!("no {word}"));
        fine("proxy/src/lib.rs", &format!("const A: &str = \"{word}\";\n"));
    }
}
