//! Files get what pods in a cluster get, and keep what people wrote.

use super::*;

const SHOP: &str = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  replicas: 2   # two
  template:
    metadata:
      labels: {app: web}
    spec:
      # Our own.
      containers:
      # It answers.
      - name: web
        image: web:1
        readinessProbe:
          httpGet: {path: /ready, port: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports:
  - port: 80   # plain
---
# It ends.
apiVersion: batch/v1
kind: CronJob
metadata:
  name: night
spec:
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          initContainers:
          # First of all.
          - name: prepare
            image: prepare:1
          containers:
          - {name: night, image: 'night:1'}
";

fn run_with(options: InjectorOptions) -> Run {
    let settings = options.settings(DEFAULT_NAMESPACE);
    Run { settings, namespace: "default".to_owned(), said: Vec::new(), refused: 0 }
}

fn source(text: &str) -> Source {
    Source { name: "shop.yaml".to_owned(), text: text.to_owned() }
}

fn injected(text: &str) -> (String, Run) {
    let mut run = run_with(InjectorOptions::default());
    let text = run.all(&[source(text)], Format::Yaml).unwrap();
    (text, run)
}

fn values(text: &str) -> Vec<Value> {
    let parts = edit::parts(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    parts.into_iter().map(|part| part.value).filter(|value| !value.is_null()).collect()
}

/// What the webhook makes of a pod.
fn by_webhook(pod: &Value, namespace: &str) -> Value {
    let facts = NamespaceFacts { name: namespace.to_owned(), wish: Wish::Enabled };
    match inject(pod, &InjectorOptions::default().settings(DEFAULT_NAMESPACE), &facts) {
        Ok(Outcome::Injected(pod)) => pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_get_what_the_webhook_gives_and_stay_as_they_are_otherwise() {
    let (text, run) = injected(SHOP);
    let (before, after) = (values(SHOP), values(&text));
    assert_eq!(after.len(), 3);
    for (index, pointer, namespace) in
        [(0, "/spec/template", "shop"), (2, "/spec/jobTemplate/spec/template", "default")]
    {
        let (before, after) =
            (before[index].pointer(pointer).unwrap(), after[index].pointer(pointer).unwrap());
        assert_eq!(*after, by_webhook(before, namespace));
    }
    assert_eq!(before[1], after[1]);
    // Every line is there in its order, but for the probe, which asks the sidecar.
    let mut lines = text.lines();
    for line in SHOP.lines().filter(|line| !line.contains("httpGet")) {
        assert!(lines.any(|found| found == line), "{line:?} is not in its place:\n{text}");
    }
    assert_eq!(run.said, ["shop.yaml: Deployment/shop/web: injected", "shop.yaml: CronJob/night: injected"]);
}

#[test]
fn injecting_twice_is_injecting_once() {
    let (once, _) = injected(SHOP);
    let (twice, run) = injected(&once);
    assert_eq!(once, twice);
    assert!(run.said.iter().all(|line| line.contains("skipped: it has a sidecar already")), "{:?}", run.said);
}

#[test]
fn lists_json_and_what_stays_as_it_is() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": values(SHOP)}).to_string();
    let (text, run) = injected(&list);
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["items"][0], values(&injected(SHOP).0)[0]);
    assert_eq!(run.said.len(), 2);
    let mut run = run_with(InjectorOptions::default());
    let json = run.all(&[source(SHOP), source("")], Format::Json).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["kind"].as_str(), json["items"].as_array().map(Vec::len)), (Some("List"), Some(3)));
    let host = SHOP.replace("      # Our own.\n", "      hostNetwork: true\n");
    let (_, run) = injected(&host);
    assert!(
        run.said[0].starts_with("shop.yaml: Deployment/shop/web: skipped: ")
            && run.said[0].contains("hostNetwork")
    );
}

#[test]
fn what_is_refused_is_named_with_its_file_and_object() {
    let bad = SHOP
        .replace("      labels: {app: web}\n", "      annotations: {outrigger.dev/proxy-cpu-limit: lots}\n");
    let (_, run) = injected(&bad);
    assert_eq!(run.refused, 1);
    assert!(run.said[0].starts_with("shop.yaml: Deployment/shop/web: refused: "), "{}", run.said[0]);
    assert!(
        run.said[0].contains("outrigger.dev/proxy-cpu-limit") && run.said[0].contains("100m"),
        "{}",
        run.said[0]
    );
    let error =
        run_with(InjectorOptions::default()).all(&[source("a: 1\n---\n: {")], Format::Yaml).unwrap_err();
    assert!(error.to_string().starts_with("shop.yaml:3:"), "{error}");
}

#[test]
fn several_files_become_one_text() {
    let mut run = run_with(InjectorOptions::default());
    let text =
        run.all(&[source("a: 1"), source("# b\nb: 2\n"), source("---\nc: 3\n")], Format::Yaml).unwrap();
    assert_eq!(text, "a: 1\n---\n# b\nb: 2\n---\nc: 3\n");
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("b.yml", "b: 1"), ("a.json", "{}"), ("c.txt", "c")] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let sources = read(&[directory.path().to_owned()]).unwrap();
    assert_eq!(sources.iter().map(|source| source.text.as_str()).collect::<Vec<_>>(), ["{}", "b: 1"]);
    assert!(read(&[directory.path().join("no.yaml")]).is_err());
}
