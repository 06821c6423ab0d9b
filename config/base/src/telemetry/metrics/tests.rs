//! The registry from registration to text: what is counted is what is written, within the bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SPECS: [MetricSpec; 3] = [
    MetricSpec {
        name: "outrigger_requests_total",
        kind: Kind::Counter,
        help: "Requests, with a \\ and\na second line.",
        labels: &["route", "status"],
    },
    MetricSpec {
        name: "outrigger_upstream_connections",
        kind: Kind::Gauge,
        help: "Open connections.",
        labels: &["route"],
    },
    MetricSpec {
        name: "outrigger_request_duration_seconds",
        kind: Kind::Histogram,
        help: "How long requests took.",
        labels: &["route"],
    },
];

fn registry(max_series: usize) -> Arc<Registry> {
    let registry = Registry::with_max_series(max_series);
    registry.declare(&SPECS);
    registry
}

fn labels(route: &str) -> Labels {
    vec![("route", route.to_owned().into())]
}

/// A strict reader of the text: every sample belongs to the family announced last, no family and no series comes twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            family = head.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "family {family} comes twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        assert!(series.starts_with(&family), "{series} stands below {family}");
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line:?}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }
    samples
}

#[test]
fn what_is_recorded_is_rendered() {
    let registry = registry(100);
    registry.counter("outrigger_requests_total", labels("a")).increment(2);
    registry.counter("outrigger_requests_total", labels("a")).increment(1);
    registry.gauge("outrigger_upstream_connections", labels("a")).set(-1.5);
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples[r#"outrigger_requests_total{route="a"}"#], 3.0);
    assert_eq!(samples[r#"outrigger_upstream_connections{route="a"}"#], -1.5);
    assert_eq!(samples["outrigger_metric_series_dropped_total"], 0.0);
    assert!(samples["process_resident_memory_bytes"] > 0.0);
    assert!(samples.keys().any(|series| series.starts_with("outrigger_build_info{version=")));
}

#[test]
fn the_order_of_labels_does_not_make_a_second_series() {
    let registry = registry(100);
    let status = || ("status", SharedString::from("200"));
    let route = || ("route", SharedString::from("a"));
    registry.counter("outrigger_requests_total", vec![route(), status()]).increment(1);
    registry.counter("outrigger_requests_total", vec![status(), route()]).increment(1);
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples[r#"outrigger_requests_total{route="a",status="200"}"#], 2.0);
}

#[test]
fn a_histogram_counts_up_to_and_including_each_bound() {
    let registry = registry(100);
    let histogram = registry.histogram("outrigger_request_duration_seconds", labels("a"));
    for seconds in [0.0004, 0.0005, 0.3, 60.0, 61.0] {
        histogram.record(seconds);
    }
    let samples = parse(&registry.render(Format::Prometheus));
    let bucket =
        |le| samples[&format!(r#"outrigger_request_duration_seconds_bucket{{route="a",le="{le}"}}"#)];
    assert_eq!(
        (bucket("0.0005"), bucket("0.25"), bucket("0.5"), bucket("60"), bucket("+Inf")),
        (2.0, 2.0, 3.0, 4.0, 5.0)
    );
    assert_eq!(samples[r#"outrigger_request_duration_seconds_count{route="a"}"#], 5.0);
    assert!((samples[r#"outrigger_request_duration_seconds_sum{route="a"}"#] - 121.3009).abs() < 1e-9);
}

#[test]
fn odd_values_do_not_spoil_a_histogram() {
    let registry = registry(100);
    let histogram = registry.histogram("outrigger_request_duration_seconds", labels("a"));
    for seconds in [f64::NAN, -1.0, 1.0] {
        histogram.record(seconds);
    }
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples[r#"outrigger_request_duration_seconds_sum{route="a"}"#], 1.0);
    assert_eq!(samples[r#"outrigger_request_duration_seconds_count{route="a"}"#], 3.0);
}

#[test]
fn label_values_and_help_are_escaped() {
    let registry = registry(100);
    registry.counter("outrigger_requests_total", labels("a\"b\\c\nd")).increment(1);
    let text = registry.render(Format::Prometheus);
    assert!(text.contains(r#"outrigger_requests_total{route="a\"b\\c\nd"} 1"#), "{text}");
    assert!(
        text.contains(r"# HELP outrigger_requests_total Requests, with a \\ and\na second line."),
        "{text}"
    );
}

#[test]
fn series_beyond_the_bound_are_refused_and_counted() {
    let registry = registry(2);
    registry.counter("outrigger_requests_total", labels("a")).increment(1);
    registry.gauge("outrigger_upstream_connections", labels("a")).set(1);
    registry.histogram("outrigger_request_duration_seconds", labels("a")).record(1.0);
    registry.counter("outrigger_requests_total", labels("b")).increment(1);
    registry.counter("outrigger_requests_total", labels("a")).increment(1);
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples["outrigger_metric_series_dropped_total"], 2.0);
    assert_eq!(samples[r#"outrigger_requests_total{route="a"}"#], 2.0);
    assert!(!samples.keys().any(|series| series.contains(r#""b""#) || series.contains("duration")));
}

#[test]
fn removed_series_make_room() {
    let registry = registry(2);
    let old = registry.counter("outrigger_requests_total", labels("a"));
    registry.histogram("outrigger_request_duration_seconds", labels("a")).record(1.0);
    assert_eq!(registry.remove_matching(|series| series.label("route") == Some("a")), 2);
    old.increment(1);
    registry.counter("outrigger_requests_total", labels("b")).increment(1);
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples[r#"outrigger_requests_total{route="b"}"#], 1.0);
    assert!(!samples.keys().any(|series| series.contains(r#""a""#)));
}

#[test]
fn a_metric_that_is_not_declared_so_is_refused() {
    let registry = registry(100);
    registry.counter("outrigger_unknown_total", labels("a")).increment(1);
    registry.gauge("outrigger_requests_total", labels("a")).set(1);
    registry.counter("outrigger_requests_total", vec![("user", "x".into())]).increment(1);
    let text = registry.render(Format::Prometheus);
    assert!(!text.contains("unknown") && !text.contains("outrigger_requests_total"), "{text}");
}

#[test]
fn open_metrics_names_counters_without_total_and_ends() {
    let registry = registry(100);
    registry.counter("outrigger_requests_total", labels("a")).increment(1);
    let text = registry.render(Format::OpenMetrics);
    assert!(text.contains("# TYPE outrigger_requests counter\n"), "{text}");
    assert!(text.contains("outrigger_requests_total{route=\"a\"} 1\n"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    parse(&text);
}

#[test]
fn the_accept_header_chooses_the_format() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    for (accept, format) in [
        (None, Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("text/plain"), Format::Prometheus),
        (Some(prometheus), Format::OpenMetrics),
        (Some("text/plain, application/openmetrics-text"), Format::OpenMetrics),
        (Some("application/openmetrics-text;q=0"), Format::Prometheus),
    ] {
        assert_eq!(Format::from_accept(accept), format, "{accept:?}");
    }
}

#[test]
fn the_process_metrics_of_the_application_take_the_place_of_ours() {
    let registry = registry(100);
    let merged = parse(&registry.render_with("# TYPE process_threads gauge\nprocess_threads 77"));
    assert_eq!(merged["process_threads"], 77.0);
    assert!(!merged.contains_key("process_open_fds"));
    let merged = parse(&registry.render_with("# TYPE app_total counter\napp_total 1\n"));
    assert_eq!(merged["app_total"], 1.0);
    assert!(merged.contains_key("process_open_fds"));
}

#[test]
fn threads_that_ask_for_the_same_series_share_it() {
    let registry = registry(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| registry.counter("outrigger_requests_total", labels("a")).increment(1));
        }
    });
    let samples = parse(&registry.render(Format::Prometheus));
    assert_eq!(samples[r#"outrigger_requests_total{route="a"}"#], 8.0);
    assert_eq!(samples["outrigger_metric_series_dropped_total"], 0.0);
}
