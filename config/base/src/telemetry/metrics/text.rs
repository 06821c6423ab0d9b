//! The text that scrapers read: Prometheus exposition format 0.0.4 and OpenMetrics 1.0.
//!
//! Pure: samples in, text out. Families and series come in a fixed order, so that two scrapes can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use metrics::Key;

use super::histogram::Snapshot;
use super::process::Process;
use super::{DURATION_BUCKETS_SECONDS, Kind, MetricSpec, SERIES_DROPPED};

const BUILD_INFO: &str = "outrigger_build_info";

/// Which text is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for; Prometheus text when it does not say.
    pub fn from_accept(accept: Option<&str>) -> Self {
        let wanted = "application/openmetrics-text";
        let refused = |range: &str| range.split(';').skip(1).any(|part| is_zero_quality(part.trim()));
        let asks = |range: &str| range.trim().starts_with(wanted) && !refused(range);
        match accept {
            Some(accept) if accept.split(',').any(asks) => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The `Content-Type` of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What every process says about itself.
pub(super) const OWN_SPECS: [MetricSpec; 8] = [
    own(BUILD_INFO, Kind::Gauge, "The build that is running; always 1.", &["version", "os", "arch"]),
    own(SERIES_DROPPED, Kind::Counter, "Series that were refused because of the bound on series.", &[]),
    own("process_cpu_seconds_total", Kind::Counter, "User and system CPU time, in seconds.", &[]),
    own("process_max_fds", Kind::Gauge, "File descriptors that may be open.", &[]),
    own("process_open_fds", Kind::Gauge, "File descriptors that are open.", &[]),
    own("process_resident_memory_bytes", Kind::Gauge, "Resident memory, in bytes.", &[]),
    own("process_start_time_seconds", Kind::Gauge, "When the process started, in seconds since 1970.", &[]),
    own("process_threads", Kind::Gauge, "Threads of the process.", &[]),
];

const fn own(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricSpec {
    MetricSpec { name, kind, help, labels }
}

/// Everything there is to render.
pub(super) struct Samples {
    /// By name.
    pub(super) families: Vec<Family>,
    index: BTreeMap<&'static str, usize>,
}

/// One metric and its series.
pub(super) struct Family {
    pub(super) spec: MetricSpec,
    /// Labels as they are written (without braces), and the value.
    rows: Vec<(String, Value)>,
}

/// The value of one series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(u64),
    Float(f64),
    Histogram(Snapshot),
}

impl Samples {
    pub(super) fn new(specs: &[MetricSpec]) -> Self {
        let index = specs.iter().enumerate().map(|(place, spec)| (spec.name, place)).collect();
        let families = specs.iter().map(|spec| Family { spec: *spec, rows: Vec::new() }).collect();
        Self { families, index }
    }

    pub(super) fn push(&mut self, key: &Key, value: Value) {
        let pairs = key.labels().map(|label| (label.key(), label.value()));
        self.add(key.name(), label_text(pairs), value);
    }

    /// Adds what the process itself says.
    pub(super) fn push_own(&mut self, dropped: u64) {
        let build = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("os", std::env::consts::OS),
            ("arch", std::env::consts::ARCH),
        ];
        self.add(BUILD_INFO, label_text(build.into_iter()), Value::Integer(1));
        self.add(SERIES_DROPPED, String::new(), Value::Integer(dropped));
        for (name, value) in Process::read().samples() {
            self.add(name, String::new(), Value::Float(value));
        }
    }

    fn add(&mut self, name: &str, labels: String, value: Value) {
        if let Some(place) = self.index.get(name) {
            self.families[*place].rows.push((labels, value));
        }
    }
}

/// Writes all families that have a series.
pub(super) fn render(samples: &Samples, format: Format) -> String {
    let mut out = String::new();
    for family in samples.families.iter().filter(|family| !family.rows.is_empty()) {
        write_head(&mut out, &family.spec, format);
        let mut rows: Vec<_> = family.rows.iter().collect();
        rows.sort_unstable_by_key(|(labels, _)| labels.as_str());
        for (labels, value) in rows {
            write_value(&mut out, family.spec.name, labels, value);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_head(out: &mut String, spec: &MetricSpec, format: Format) {
    let kind = match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    // OpenMetrics names the family of a counter without the `_total` of its sample.
    let name = match (format, spec.kind) {
        (Format::OpenMetrics, Kind::Counter) => spec.name.strip_suffix("_total").unwrap_or(spec.name),
        _ => spec.name,
    };
    let help = escape(spec.help, format == Format::OpenMetrics);
    put(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn write_value(out: &mut String, name: &str, labels: &str, value: &Value) {
    match value {
        Value::Integer(value) => write_row(out, name, labels, *value as f64),
        Value::Float(value) => write_row(out, name, labels, *value),
        Value::Histogram(snapshot) => write_histogram(out, name, labels, snapshot),
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, snapshot: &Snapshot) {
    let comma = if labels.is_empty() { "" } else { "," };
    let bounds = DURATION_BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
    let mut count = 0;
    for (bound, in_bucket) in bounds.zip(snapshot.buckets) {
        count += in_bucket;
        let bound = Number(bound);
        put(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}\n"));
    }
    write_row(out, &format!("{name}_sum"), labels, snapshot.sum_seconds);
    write_row(out, &format!("{name}_count"), labels, count as f64);
}

fn write_row(out: &mut String, name: &str, labels: &str, value: f64) {
    let value = Number(value);
    if labels.is_empty() {
        put(out, format_args!("{name} {value}\n"));
    } else {
        put(out, format_args!("{name}{{{labels}}} {value}\n"));
    }
}

/// A number as both formats spell it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY {
            return f.write_str("+Inf");
        }
        if self.0 == f64::NEG_INFINITY {
            return f.write_str("-Inf");
        }
        write!(f, "{}", self.0)
    }
}

fn label_text<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        put(&mut text, format_args!("{name}=\"{}\"", escape(value, true)));
    }
    text
}

fn escape(text: &str, quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quotes => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
}

fn is_zero_quality(part: &str) -> bool {
    part.strip_prefix("q=").and_then(|quality| quality.parse::<f32>().ok()) == Some(0.0)
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
