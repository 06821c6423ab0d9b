//! Texts that nobody meant to write, and some that somebody did on purpose.

use super::*;

const GOOD: &str = "# comment
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  selector: {app: reviews}
  ports:
  - {name: http, port: 9080, targetPort: http}
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: reviews-v1, namespace: shop, labels: &labels {app: reviews, \"version\": 'v1'}}
spec: {address: 127.0.1.2, ports: {http: 9080}, meshed: true}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs:
  - {group: '', kind: Service, name: reviews, port: 9080}
  rules:
  - matches:
    - path: {type: PathPrefix, value: /api}
    timeouts: {request: 1m30s}
    backendRefs:
    - {name: reviews, port: 9080, weight: 90}
";

#[test]
fn every_prefix_of_a_good_text_is_read_or_reported() {
    let whole = check(GOOD, "");
    assert_eq!(whole.objects.len(), 3);
    for end in (0..GOOD.len()).filter(|end| GOOD.is_char_boundary(*end)) {
        let parsed = parse_yaml("f", &GOOD[..end]);
        // What was complete before the cut is not harmed by it.
        let complete = GOOD[..end].matches("\n---\n").count();
        assert!(parsed.objects.len() >= complete, "cut at {end}");
        assert!(parsed.problems.iter().all(|problem| !problem.to_string().contains('\n')));
    }
}

#[test]
fn every_byte_may_be_lost_or_doubled() {
    for (index, c) in GOOD.char_indices() {
        let rest = &GOOD[index + c.len_utf8()..];
        for changed in [
            String::new(),
            format!("{c}{c}"),
            "\t".into(),
            "\u{0}".into(),
            "{".into(),
            "&".into(),
            "*".into(),
        ] {
            let text = format!("{}{changed}{rest}", &GOOD[..index]);
            let parsed = parse_yaml("f", &text);
            assert!(parsed.objects.len() <= 3 + 1);
        }
    }
}

#[test]
fn a_broken_document_costs_only_itself() {
    let parsed = check(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a}}
---
apiVersion: v1
kind: Service
metadata: {name: [}
---
{apiVersion: v1, kind: Namespace, metadata: {name: c}}
",
        "f:5:19: not YAML: while parsing a node, did not find expected node content",
    );
    assert!(parsed.broken);
    assert_eq!(names(&parsed), ["Namespace/a", "Namespace/c"]);
    assert_eq!(parsed.problems[0].effect, Effect::DocumentDropped);
}

#[test]
fn nothing_is_not_a_problem() {
    for text in
        ["", "\n\n", "# only a comment\n", "---\n---\n# x\n---\n", "\u{feff}", "...\n", "null\n", "--- ~\n"]
    {
        let parsed = check(text, "");
        assert!(parsed.objects.is_empty() && !parsed.broken, "{text:?}");
    }
}

#[test]
fn line_ends_marks_and_directives_are_those_of_yaml() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n";
    for text in [
        namespace.replace('\n', "\r\n"),
        format!("\u{feff}{namespace}"),
        format!("%YAML 1.2\n---\n{namespace}...\n"),
        format!("# hello\n\n--- # here\n{namespace}"),
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}"#.to_owned(),
        "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n"
            .to_owned(),
    ] {
        assert_eq!(only(&text).reference().to_string(), "Namespace/a", "{text:?}");
    }
    let parsed = check(&format!("{namespace}---\r\n{namespace}--- # again\n{namespace}...\n{namespace}"), "");
    assert_eq!(
        parsed.objects.iter().map(|sourced| sourced.location.line).collect::<Vec<_>>(),
        [1, 6, 11, 16]
    );
}

#[test]
fn anchors_and_merges_stand_for_what_they_name() {
    let object = only(
        "apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: a, labels: &base {app: x, version: v1}, annotations: {<<: [*base, {z: z, app: y}], version: v2}}
spec: {address: &ip 10.0.0.1, serviceAccount: web}
",
    );
    let meta = object.meta();
    assert_eq!(meta.annotations.get("app").map(String::as_str), Some("x"));
    assert_eq!(meta.annotations.len(), 3);
    assert_eq!(meta.annotations.get("version").map(String::as_str), Some("v2"));
}

#[test]
fn keys_are_texts_and_stand_once() {
    let object =
        only("{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {1.10: x, true: y, null: z}}}");
    let labels: Vec<&str> = object.meta().labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["1.10", "null", "true"]);
    for (text, expected) in [
        (
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    a: x\n    b: y\n    a: z\n",
            "f:8:5: Namespace/a: metadata.labels.a: written twice, first in line 6; remove one",
        ),
        ("[a]: b", "f:1:1: a list or mapping as a key; a key is a text"),
        ("{a: b}: c", "f:1:1: a list or mapping as a key; a key is a text"),
        (": b", "f:1:1: an empty key; a key is a text"),
        ("a: !secret b", "f:1:4: the tag !secret has no meaning here; remove it"),
        ("<<: 7", "f:1:5: << with something else than a mapping; name one with an alias like *defaults"),
    ] {
        assert!(check(text, expected).objects.is_empty(), "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
        let levels = 100_000;
        let text = format!("{}x{}", open.repeat(levels), close.repeat(levels));
        let parsed = parse_yaml("f", &text);
        assert!(parsed.broken && parsed.objects.is_empty());
        assert_eq!(parsed.problems.len(), 1);
        let message = &parsed.problems[0].message;
        assert!(message.contains("levels deep") || message.contains("recursion limit"), "{message}");
    }
}

#[test]
fn aliases_cannot_blow_a_document_up() {
    let mut bomb = "a0: &a0 [xxxxxxxxxxxxxxxx]\n".to_owned();
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let parsed = parse_yaml("f", &bomb);
    assert!(parsed.problems[0].message.contains("once aliases are expanded"), "{}", parsed.problems[0]);

    let mut deep = "a0: &a0 [x]\n".to_owned();
    for level in 1..100 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let parsed = parse_yaml("f", &deep);
    assert!(parsed.problems[0].message.contains("levels deep by aliases"), "{}", parsed.problems[0]);

    check("a: &a [*a]", "f:1:8: an alias inside of what it stands for");
    assert!(parse_yaml("f", "a: *nobody").broken);
}

#[test]
fn large_documents_are_read_up_to_a_limit() {
    let note = "x".repeat(1200);
    let item = |number: usize| {
        format!(
            "- {{apiVersion: v1, kind: Namespace, metadata: {{name: n{number}, labels: {{a: {note}}}}}}}\n"
        )
    };
    let items: String = (0..1000).map(item).collect();
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    assert!(text.len() > 1024 * 1024);
    assert_eq!(check(&text, "").objects.len(), 1000);

    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}";
    let text =
        format!("{namespace}\n---\n# {}\n{namespace}\n---\n{namespace}\n", "x".repeat(MAX_DOCUMENT_BYTES));
    let parsed =
        check(&text, "f:2:1: a document of 4194366 bytes; the limit is 4194304: split it with --- lines");
    assert_eq!((names(&parsed).len(), parsed.broken), (2, true));

    let dense = format!("[{}]", "{},".repeat(MAX_EXPANDED_BYTES / 512));
    let message = parse_yaml("f", &dense).problems.remove(0).message;
    assert!(message.contains("once aliases are expanded"), "{message}");
}

#[test]
fn a_long_value_makes_a_short_message() {
    let text =
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: \"{}\"}}}}", "x".repeat(100_000));
    let message = parse_yaml("f", &text).problems.remove(0).to_string();
    assert!(message.len() < 1000, "{}", message.len());
}
