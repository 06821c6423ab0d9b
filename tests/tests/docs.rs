//! What is written for people stays true: the table of metrics is the one the programs register.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::path::Path;

use outrigger_base::telemetry::metrics::{Kind, MetricSpec, Registry};

/// Where the tables stand.
const FILE: &str = "../docs/metrics.md";

fn proxy() -> Vec<MetricSpec> {
    let registry = Registry::new();
    registry.declare(outrigger_proxy::telemetry::METRICS);
    registry.declare(outrigger_proxy::limit::METRICS);
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
