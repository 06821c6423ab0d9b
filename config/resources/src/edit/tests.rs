//! What is not touched stays, what is wanted is said: by tables, and by texts that nobody thought of.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn only(text: &str) -> Part<'_> {
    let [part] = parts(text).unwrap().try_into().unwrap_or_else(|parts| panic!("{parts:?}"));
    part
}

/// The text after `change` of its value.
fn edited(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let part = only(text);
    let mut after = part.value.clone();
    change(&mut after);
    let text = rewrite(&part, &after);
    assert_eq!(only(&text).value, after, "{text}");
    text
}

const POD: &str = "\
# A pod.
kind: Pod
metadata:
  name: web # the name
  labels: {app: web}
  annotations:   # none yet
spec:
  # What it runs.
  containers:
  # The first one.
  - name: web
    ports: []
    probe:
      # Asks for bytes.
      tcpSocket:
        # By its name.
        port: http
      period: 7   # seconds
  volumes:
    - {name: data}
# The end.
";

#[test]
fn what_is_not_touched_stays_as_it_is_written() {
    let text = edited(POD, |pod| {
        pod["metadata"]["annotations"] = json!({"a/b": "1"});
        pod["metadata"]["labels"]["v"] = "x".into();
        pod["spec"]["containers"].as_array_mut().unwrap().insert(0, json!({"name": "new", "args": [1]}));
        let web = &mut pod["spec"]["containers"][1];
        web["ports"] = json!([{"port": 1}]);
        web["probe"] = json!({"httpGet": {"path": "/x"}, "period": 8});
        pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "more"}));
        pod["spec"]["last"] = true.into();
    });
    let want = "\
# A pod.
kind: Pod
metadata:
  name: web # the name
  labels: {\"app\":\"web\",\"v\":\"x\"}
  annotations:   # none yet
    a/b: \"1\"
spec:
  # What it runs.
  containers:
  - args:
      - 1
    name: new
  # The first one.
  - name: web
    ports:
      - port: 1
    probe:
      # Asks for bytes.
        # By its name.
      period: 8   # seconds
      httpGet:
        path: \"/x\"
  volumes:
    - {name: data}
    - name: more
  last: true
# The end.
";
    assert_eq!(text, want);
}

#[test]
fn what_cannot_be_done_in_place_is_written_anew() {
    for (text, change) in [
        ("# top\na: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 2}})),
        ("# top\na: &x\n  b: 1\nc: *x\n", json!({"a": {"b": 2}, "c": {"b": 1}})),
        ("# top\nbase: &x\n  b: 1\nc:\n  <<: *x\n  d: 1\n", json!({"base": {"b": 1}, "c": {"b": 2, "d": 1}})),
        ("# top\na:\n- - 1\n", json!({"a": [[1, 2]]})),
        ("# top\na:\n- b\n- c\n", json!({"a": ["c", "b"]})),
        ("# top\na:\n  b: 1\n", json!({"a": 1})),
        ("# top\na:\n  b: 1\n", json!({"a": {}})),
        ("# top\n- a\n", json!(["b", "a"])),
        ("# top\na: |+\n  x\n\n", json!({"a": "x\n\n", "b": 1})),
        ("# top\n? a\n: b\n", json!({"a": "b", "c": 1})),
    ] {
        let text = edited(text, |value| *value = change);
        assert!(text.starts_with("# top\n"), "{text}");
    }
    assert_eq!(edited("{\"a\": 1}", |value| value["b"] = 2.into()), "{\"a\":1,\"b\":2}");
}

#[test]
fn every_way_to_write_a_scalar_can_be_replaced() {
    for text in [
        "a: b",
        "a: 'b' # c\n",
        "a: \"b\"\r\nz: 1\r\n",
        "a: |\n  x\n  y\nz: 1\n",
        "a: >-\n  x\n\nz: 1\n",
        "a:\n",
        "a: ~\n",
        "ä: ü\na: é # ö\n",
    ] {
        edited(text, |value| value["a"] = "new value".into());
        edited(text, |value| value["a"] = json!({"b": [1]}));
        edited(text, |value| value["new"] = json!([{"name": "x"}]));
    }
    assert_eq!(edited("ä: ü\na: é # ö\n", |value| value["a"] = "x y".into()), "ä: ü\na: \"x y\" # ö\n");
}

#[test]
fn a_text_falls_into_its_documents() {
    let text = "# one\na: 1\n---\n# nothing\n---\nb: 2\n...\n";
    let all = parts(text).unwrap();
    assert_eq!(all.iter().map(|part| part.text).collect::<String>(), text);
    let values: Vec<_> = all.into_iter().map(|part| part.value).filter(|value| !value.is_null()).collect();
    assert_eq!(values, [json!({"a": 1}), json!({"b": 2})]);
    let error = parts("a: 1\n---\nb: {\n").unwrap_err();
    assert!(error.line >= 3, "{error}");
    assert_eq!(rewrite(&only("a: 1"), &json!({"a": 1})), "a: 1");
}

/// A mapping as people might write it, with comments.
fn texts() -> impl Strategy<Value = String> {
    let scalar =
        prop_oneof![Just("1"), Just("x"), Just("'q'"), Just(""), Just("{a: 1}"), Just("[]"), Just("\"é\"")];
    let leaf = scalar.prop_map(|text| vec![text.to_owned()]);
    let value = leaf.prop_recursive(4, 24, 3, |inner| {
        let entry = |indent: &'static str, (inner, comment): (Vec<String>, bool), key: String| {
            let mut lines = vec![format!(
                "{key}{}",
                if inner.len() == 1 { format!(" {}", inner[0]) } else { String::new() }
            )];
            lines.extend(comment.then(|| "  # inside".to_owned()));
            if inner.len() > 1 {
                lines.extend(inner.iter().map(|line| format!("{indent}{line}")));
            }
            lines
        };
        let item = prop::collection::vec((inner, any::<bool>()), 1..3);
        (item, any::<bool>()).prop_map(move |(items, is_list)| {
            let mut lines = vec!["# of it".to_owned()];
            for (index, item) in items.into_iter().enumerate() {
                let key = if is_list { format!("- name: n{index}\n  k:") } else { format!("k{index}:") };
                let entry = entry(if is_list { "    " } else { "  " }, item, key);
                lines.extend(entry.join("\n").lines().map(str::to_owned));
            }
            lines
        })
    });
    value.prop_map(|lines| {
        format!(
            "# top\nroot:{}\nlast: 1 # end\n",
            if lines.len() == 1 { format!(" {}", lines[0]) } else { format!("\n  {}", lines.join("\n  ")) }
        )
    })
}

/// Changes what a value holds here and there.
fn disturb(value: &mut Value, seed: &mut u32) {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    match (value, *seed >> 29) {
        (Value::Object(map), roll) => {
            map.values_mut().for_each(|value| disturb(value, seed));
            if roll % 3 == 0 {
                map.insert("added".to_owned(), json!({"x": ["y"]}));
            }
        }
        (Value::Array(items), roll) => {
            items.iter_mut().for_each(|value| disturb(value, seed));
            if roll % 2 == 0 {
                items.insert(roll as usize % (items.len() + 1), json!({"name": "added"}));
            }
        }
        (Value::String(name), _) if name.starts_with('n') => {}
        (value, 0..4) => *value = json!("changed"),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_rewritten_text_says_what_is_wanted_and_keeps_its_comments(text in texts(), mut seed in any::<u32>()) {
        let Ok(all) = parts(&text) else { return Err(TestCaseError::reject("not YAML")) };
        let part = all.first().unwrap();
        let mut after = part.value.clone();
        disturb(&mut after, &mut seed);
        let rewritten = rewrite(part, &after);
        prop_assert_eq!(&only(&rewritten).value, &after, "{}\n{}", text, rewritten);
        let comments = |text: &str| text.matches('#').count();
        prop_assert_eq!(comments(&rewritten), comments(&text), "{}\n{}", text, rewritten);
    }
}
