//! What is written for people stays true: the table of metrics is the one the programs register.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::path::Path;

use outrigger_base::telemetry::metrics::{Kind, MetricSpec, Registry};

/// Where the tables of metrics stand.
const FILE: &str = "../docs/metrics.md";
/// What users can say about traffic, and which test shows it.
const FEATURES: &str = "../docs/features.md";
/// What attackers meet, and which test tries it.
const ATTACKS: &str = "../docs/security.md";

fn proxy() -> Vec<MetricSpec> {
    let registry = Registry::new();
    registry.declare(outrigger_proxy::telemetry::METRICS);
    registry.declare(outrigger_proxy::limit::METRICS);
    registry.declare(outrigger_proxy::protection::METRICS);
    registry.declare(outrigger_proxy::jwt::METRICS);
    registry.declare(outrigger_proxy::upstream::METRICS);
    registry.declare(outrigger_proxy::xds::METRICS);
    registry.declare(outrigger_proxy::certificates::METRICS);
    registry.declared()
}

fn control_plane() -> Vec<MetricSpec> {
    let registry = Registry::new();
    registry.declare(&outrigger_control_plane::http::meters::SPECS);
    registry.declared()
}

fn table(mut specs: Vec<MetricSpec>) -> String {
    specs.sort_by_key(|spec| spec.name);
    let mut text = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
    for MetricSpec { name, kind, help, labels } in specs {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" ")));
    }
    text
}

#[test]
fn every_metric_has_its_row() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(path).unwrap();
    for (who, table) in [("the proxy", table(proxy())), ("the control plane", table(control_plane()))] {
        assert!(text.contains(&table), "docs/metrics.md does not have the table of {who}; it is:\n{table}");
    }
}

/// Rows are `| feature | tests |`, tests are `path/of/file.rs` with the name of the function behind two colons.
#[test]
fn every_feature_and_every_attack_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, head) in [(FEATURES, "| feature"), (ATTACKS, "| attack")] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let mut is_within = false;
        for row in text.lines() {
            is_within = row.starts_with('|') && (is_within || row.starts_with(head));
            if is_within && row.starts_with("| ") && !row.starts_with(head) {
                check_row(&root, row);
            }
        }
    }
}

fn check_row(root: &Path, row: &str) {
    let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
    let named: Vec<_> = tests.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(!named.is_empty(), "no test stands in the row: {row}");
    for (file, test) in named {
        let source = std::fs::read_to_string(root.join(file));
        let source = source.unwrap_or_else(|_| panic!("there is no {file}, which is named in: {row}"));
        assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}, named in: {row}");
    }
}
