//! Readings of paths: the usual ones, the tricks, and no server that is surprised.

use proptest::prelude::*;

use super::*;

fn readings(path: &str) -> String {
    match Readings::of(path) {
        Readings::One(one) => format!("one {}", String::from_utf8_lossy(one)),
        Readings::Several(several) => {
            let mut texts: Vec<_> =
                several.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            texts.sort();
            texts.join(" ")
        }
        Readings::Unreadable => "unreadable".to_owned(),
    }
}

#[test]
fn a_plain_path_is_read_in_one_way() {
    for (path, expected) in [
        ("/", "/"),
        ("", "/"),
        ("?x", "/"),
        ("/a/b.c/d-e_f~g?x=/../%2e", "/a/b.c/d-e_f~g"),
        ("/a/b/", "/a/b/"),
        ("/a..b/c.", "/a..b/c."),
        ("/caf\u{e9}", "/caf\u{e9}"),
    ] {
        assert_eq!(readings(path), format!("one {expected}"), "{path}");
    }
}

#[test]
fn each_trick_has_its_readings() {
    for (path, expected) in [
        ("/.well-known/x", "/.well-known/x"),
        ("/%61dmin", "/admin"),
        ("/caf%C3%A9", "/caf\u{e9}"),
        ("//admin", "//admin /admin"),
        ("/a///b", "/a///b /a/b"),
        ("/./admin", "/./admin /admin"),
        ("/x/../admin", "/admin /x/../admin"),
        ("/x/%2e%2E/admin", "/admin /x/../admin"),
        ("/../admin", "/../admin /admin"),
        ("/admin/.", "/admin/ /admin/."),
        ("/a/..", "/ /a/.."),
        ("/a%2Fb", "/a%2fb /a/b"),
        ("/a%5cb", "/a/b /a\\b"),
        ("/a\\b", "/a/b /a\\b"),
        ("/admin;x=1", "/admin /admin;x=1"),
        ("/;x/admin", "//admin /;x/admin /admin"),
        ("/a%3Bb/c", "/a/c /a;b/c"),
        ("/admin%3Fx", "/admin /admin?x"),
        ("/admin%23x", "/admin /admin#x"),
        ("/%2561dmin", "/%61dmin /admin"),
        ("/100%25", "/100%"),
        ("/a%252Fb", "/a%2Fb /a%2fb /a/b"),
    ] {
        assert_eq!(readings(path), expected, "{path}");
    }
}

#[test]
fn what_nobody_can_tell_is_unreadable() {
    let deep = format!("/%{}61", "25".repeat(MAX_ROUNDS));
    let long = format!("/{};", "a".repeat(MAX_BYTES));
    for path in [
        "*",
        "x",
        "/%",
        "/%4",
        "/%zz",
        "/%+1",
        "/%u0061dmin",
        "/%00",
        "/a%0ab",
        "/%ff",
        "/%c0%ae%c0%ae/admin",
        "/%2500",
        "/x/..;/admin",
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x/..\\admin",
        "//x/../admin",
        "/x/%252e%252e/admin",
        "/x/%2e%2e/../admin",
        "/x/.%2e/../admin",
        "/x/..%3b/admin",
        "/x/..%3fy",
        &deep,
        &long,
    ] {
        assert_eq!(readings(path), "unreadable", "{path}");
    }
    let deepest = format!("/%{}61", "25".repeat(MAX_ROUNDS - 1));
    assert_eq!(readings(&deepest).split(' ').next_back(), Some("/a"));
    let longest = format!("/{};", "a".repeat(MAX_BYTES - 2));
    assert_ne!(readings(&longest), "unreadable");
}

#[test]
fn folding_takes_no_memory_for_ordinary_paths() {
    let mut buffer = [0; 8];
    assert!(matches!(folded(b"/a/b/c/d/e/f/g", &mut buffer), Cow::Borrowed(_)));
    assert!(matches!(folded(b"/A/b", &mut buffer), Cow::Borrowed(b"/a/b")));
    assert_eq!(&*folded(b"/A/B/C/D/E", &mut buffer), b"/a/b/c/d/e");
}

/// Takes percent encoding off, as servers do that leave what is none.
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%').and_then(|digits| hex(*digits));
        bytes.push(digits.unwrap_or(*first));
        rest = if digits.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cut(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn drop_parameters(text: &str) -> String {
    let segments = text.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn merge(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    text
}

fn resolve(text: &str) -> String {
    String::from_utf8_lossy(&without_dots(text.as_bytes())).into_owned()
}

fn backslashes(text: &str) -> String {
    text.replace('\\', "/")
}

/// What a server does to a path.
type Step = fn(&str) -> String;

/// Steps that servers take, in the order in which they are said to.
const SERVERS: &[&[Step]] = &[
    &[],
    &[decode],
    &[resolve],
    &[decode, resolve],
    &[resolve, decode],
    &[resolve, decode, resolve],
    &[merge, decode, resolve],
    &[decode, merge, resolve],
    &[decode, backslashes, merge, resolve],
    &[backslashes, decode, resolve],
    &[drop_parameters, decode, resolve],
    &[drop_parameters, resolve, decode],
    &[decode, drop_parameters, merge, resolve],
    &[decode, drop_parameters, resolve, merge],
    &[decode, decode, resolve],
    &[decode, resolve, decode, resolve],
    &[decode, cut, resolve],
    &[decode, cut, drop_parameters, merge, resolve],
    &[decode, decode, decode, decode, backslashes, drop_parameters, merge, resolve],
];

/// Whether a Deny of `/admin/*` would be applied.
fn is_denied(path: &str) -> bool {
    let admin = |reading: &[u8]| {
        let text = String::from_utf8_lossy(reading).to_lowercase();
        text == "/admin" || text.starts_with("/admin/")
    };
    match Readings::of(path) {
        Readings::One(one) => admin(one),
        Readings::Several(several) => several.iter().any(|reading| admin(reading)),
        Readings::Unreadable => true,
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "//",
        "admin",
        "Admin",
        "%61dmin",
        "a%64min",
        "adm%2569n",
        "x",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "%252e",
        ";",
        ";p=1",
        "%3b",
        "%2f",
        "%2F",
        "%252f",
        "\\",
        "%5c",
        "%3f",
        "%23",
        "?",
        "%20",
        "%",
        "%25",
        "%zz",
        "/../",
        "/./",
        "..;",
        "public",
    ]);
    prop::collection::vec(piece, 1..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_server_finds_what_is_denied(path in pieces()) {
        let before_query = path.split('?').next().unwrap_or_default();
        for steps in SERVERS {
            let read = steps.iter().fold(before_query.to_owned(), |text, step| step(&text));
            let lower = read.to_lowercase();
            if lower == "/admin" || lower.starts_with("/admin/") {
                prop_assert!(is_denied(&path), "{path} is {read}, which nobody denies");
            }
        }
    }

    #[test]
    fn no_path_is_too_much(path in "/[ -~]{0,40}") {
        if let Readings::Several(several) = Readings::of(&path) {
            prop_assert!(!several.is_empty() && several.len() <= 64);
            prop_assert!(several.iter().all(|reading| reading.first() == Some(&b'/')));
        }
    }
}
