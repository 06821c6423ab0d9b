//! Which namespaces get the roots, and when.

use super::*;
use crate::world::samples::world;

#[test]
fn what_differs_is_due() {
    let wanted: Namespaces = ["a", "b", "c"].map(Arc::from).into();
    let present = [("a", "new"), ("b", "old"), ("z", "old")];
    let present = present.into_iter().map(|(namespace, text)| (namespace.into(), text.to_owned())).collect();
    let due: Vec<_> = due(&wanted, &present, "new");
    assert_eq!(due.iter().map(|it| &**it).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn namespaces_with_meshed_pods_need_the_roots() {
    let namespace = |name: &str, rest: &str| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}{rest}}}}}\n---\n")
    };
    let pod = |namespace: &str, annotations: &str, container: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: {namespace}{annotations}}}, \
             spec: {{containers: [{{name: {container}}}]}}}}\n---\n"
        )
    };
    let labelled = |word: &str| format!(", labels: {{outrigger.dev/inject: {word}}}");
    let annotated = |word: &str| format!(", annotations: {{outrigger.dev/inject: {word}}}");
    let leaving = labelled("enabled") + ", deletionTimestamp: '2026-01-01T00:00:00Z'";
    let yaml = [
        namespace("labelled", &labelled("enabled")),
        namespace("refused", &labelled("disabled")),
        namespace("leaving", &leaving),
        namespace("plain", ""),
        pod("annotated", &annotated("enabled"), "app"),
        pod("meshed", "", "outrigger-proxy"),
        pod("plain", &annotated("disabled"), "app"),
    ];
    let found = namespaces(&world(&yaml.concat()));
    assert_eq!(found.iter().map(|it| &**it).collect::<Vec<_>>(), ["annotated", "labelled", "meshed"]);
}

#[test]
fn a_list_replaces_what_was_known_when_it_is_complete() {
    let bundle = |namespace: &str, text: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": TRUST_BUNDLE, "namespace": namespace},
                                      "data": {"ca.crt": text}}))
        .unwrap()
    };
    let known =
        |present: &Present| present.known.as_ref().map(|known| known.keys().cloned().collect::<Vec<_>>());
    let mut present = Present::default();
    present.take_in(Event::Init);
    present.take_in(Event::InitApply(bundle("a", "one")));
    assert_eq!(known(&present), None, "nothing is written before all is known");
    present.take_in(Event::InitDone);
    present.take_in(Event::Apply(bundle("b", "one")));
    assert_eq!(known(&present), Some(vec!["a".into(), "b".into()]));
    present.take_in(Event::Delete(bundle("a", "one")));
    assert_eq!(known(&present), Some(vec!["b".into()]));
    present.take_in(Event::Init);
    present.take_in(Event::InitApply(bundle("c", "two")));
    assert_eq!(known(&present), Some(vec!["b".into()]), "the old stays until the new is complete");
    present.take_in(Event::InitDone);
    assert_eq!(known(&present), Some(vec!["c".into()]));
}
