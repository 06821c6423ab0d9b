//! The metrics of one process: declared once, recorded without locks, rendered on request.
//!
//! Handles are those of the `metrics` crate. Getting one takes a lock and is for start-up and configuration changes;
//! callers keep it and record through it. A histogram is a fixed row of atomics, so that neither recording nor the
//! time between two scrapes costs memory. The number of series is bounded: a series beyond the bound is refused and
//! counted. This module does not know what any metric means; each crate declares its own table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use metrics::{Counter, Gauge, Histogram, SharedString};
use metrics::{Key, Label};
use metrics_util::registry::Registry as Series;

use histogram::{FixedStorage, Latencies};

mod histogram;
mod process;
mod text;

pub use histogram::DURATION_BUCKETS_SECONDS;
pub use text::Format;

/// How many series a process keeps unless told otherwise.
pub const DEFAULT_MAX_SERIES: usize = 10_000;

/// The metric that counts series refused because of the bound.
pub const SERIES_DROPPED: &str = "outrigger_metric_series_dropped_total";

/// One metric as it is declared: a row of the table in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSpec {
    /// Its name, with unit and, for a counter, `_total`.
    pub name: &'static str,
    /// What it measures with.
    pub kind: Kind,
    /// One sentence for people.
    pub help: &'static str,
    /// The labels it may carry.
    pub labels: &'static [&'static str],
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, counted in [`DURATION_BUCKETS_SECONDS`].
    Histogram,
}

/// Names and values of the labels of one series.
pub type Labels = Vec<(&'static str, SharedString)>;

/// All series of the process.
pub struct Registry {
    series: Series<Key, FixedStorage>,
    /// How many series there are. The lock also makes creating and removing series take turns.
    live: Mutex<usize>,
    max_series: usize,
    dropped: AtomicU64,
    specs: RwLock<BTreeMap<&'static str, MetricSpec>>,
}

impl Registry {
    /// An empty registry that keeps [`DEFAULT_MAX_SERIES`] series.
    pub fn new() -> Arc<Self> {
        Self::with_max_series(DEFAULT_MAX_SERIES)
    }

    /// An empty registry that keeps `max_series` series.
    pub fn with_max_series(max_series: usize) -> Arc<Self> {
        let registry = Self {
            series: Series::new(FixedStorage),
            live: Mutex::new(0),
            max_series,
            dropped: AtomicU64::new(0),
            specs: RwLock::new(BTreeMap::new()),
        };
        registry.declare(&text::OWN_SPECS);
        Arc::new(registry)
    }

    /// Declares metrics. Doing so twice is harmless; of two declarations that differ the first stays in force.
    pub fn declare(&self, specs: &[MetricSpec]) {
        let mut known = self.specs.write().unwrap_or_else(PoisonError::into_inner);
        for spec in specs {
            let first = *known.entry(spec.name).or_insert(*spec);
            if first != *spec {
                tracing::error!(metric.name = spec.name, "metric is declared twice, differently");
            }
        }
    }

    /// Every declared metric, by name.
    pub fn declared(&self) -> Vec<MetricSpec> {
        self.specs.read().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }

    /// The counter of this name and these labels. A handle without effect when the bound on series is reached or the
    /// metric is not declared so. Takes a lock: keep the handle.
    pub fn counter(&self, name: &'static str, labels: Labels) -> Counter {
        let Some((key, mut live)) = self.admit(name, Kind::Counter, labels) else { return Counter::noop() };
        let known = self.series.get_counter(&key);
        if known.is_none() && !self.claim(&mut live) {
            return Counter::noop();
        }
        self.series.get_or_create_counter(&key, |series| Counter::from_arc(Arc::clone(series)))
    }

    /// The gauge of this name and these labels; as [`counter`](Self::counter).
    pub fn gauge(&self, name: &'static str, labels: Labels) -> Gauge {
        let Some((key, mut live)) = self.admit(name, Kind::Gauge, labels) else { return Gauge::noop() };
        let known = self.series.get_gauge(&key);
        if known.is_none() && !self.claim(&mut live) {
            return Gauge::noop();
        }
        self.series.get_or_create_gauge(&key, |series| Gauge::from_arc(Arc::clone(series)))
    }

    /// The histogram of this name and these labels; as [`counter`](Self::counter). Values are seconds.
    pub fn histogram(&self, name: &'static str, labels: Labels) -> Histogram {
        let Some((key, mut live)) = self.admit(name, Kind::Histogram, labels) else {
            return Histogram::noop();
        };
        let known = self.series.get_histogram(&key);
        if known.is_none() && !self.claim(&mut live) {
            return Histogram::noop();
        }
        self.series.get_or_create_histogram(&key, |series| Histogram::from_arc(Arc::clone(series)))
    }

    /// Forgets the series of which `gone` says so, for example those of a destination that is no longer there, and
    /// says how many. Handles that are still held record into nothing.
    pub fn remove_matching(&self, gone: impl Fn(&SeriesRef<'_>) -> bool) -> usize {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        let mut keep = |key: &Key| {
            let go = gone(&SeriesRef { key });
            removed += usize::from(go);
            !go
        };
        self.series.retain_counters(|key, _| keep(key));
        self.series.retain_gauges(|key, _| keep(key));
        self.series.retain_histograms(|key, _| keep(key));
        *live = live.saturating_sub(removed);
        removed
    }

    /// The whole state as text.
    pub fn render(&self, format: Format) -> String {
        let samples = self.collect();
        text::render(&samples, format)
    }

    /// The whole state in Prometheus text, followed by `other`, the text of the application behind this process. When
    /// the application has process metrics of its own, ours are left out: the name of a metric appears once.
    pub fn render_with(&self, other: &str) -> String {
        let mut samples = self.collect();
        if other.lines().any(|line| line.starts_with("process_")) {
            samples.families.retain(|family| !family.spec.name.starts_with("process_"));
        }
        let mut text = text::render(&samples, Format::Prometheus);
        text.push_str(other);
        if !other.is_empty() && !other.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// The key of a series that is declared as `kind`, with the lock under which it may be created.
    fn admit(
        &self,
        name: &'static str,
        kind: Kind,
        mut labels: Labels,
    ) -> Option<(Key, MutexGuard<'_, usize>)> {
        let spec = self.specs.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        let fits = |spec: &MetricSpec| {
            spec.kind == kind && labels.iter().all(|(label, _)| spec.labels.contains(label))
        };
        if !spec.is_some_and(|spec| fits(&spec)) {
            tracing::error!(metric.name = name, ?kind, ?labels, "metric is not declared with these labels");
            return None;
        }
        labels.sort_unstable_by_key(|(label, _)| *label);
        let labels: Vec<Label> = labels.into_iter().map(|(label, value)| Label::new(label, value)).collect();
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Some((Key::from_parts(name, labels), live))
    }

    /// Takes one place under the bound, or counts that there was none.
    fn claim(&self, live: &mut usize) -> bool {
        if *live >= self.max_series {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        *live += 1;
        true
    }

    fn collect(&self) -> text::Samples {
        let specs = self.declared();
        let mut samples = text::Samples::new(&specs);
        self.series.visit_counters(|key, value| {
            samples.push(key, text::Value::Integer(value.load(Ordering::Relaxed)));
        });
        self.series.visit_gauges(|key, value| {
            samples.push(key, text::Value::Float(f64::from_bits(value.load(Ordering::Relaxed))));
        });
        self.series.visit_histograms(|key, value: &Arc<Latencies>| {
            samples.push(key, text::Value::Histogram(value.snapshot()));
        });
        samples.push_own(self.dropped.load(Ordering::Relaxed));
        samples
    }
}

/// A series as [`Registry::remove_matching`] shows it.
#[derive(Debug)]
pub struct SeriesRef<'a> {
    key: &'a Key,
}

impl SeriesRef<'_> {
    /// The name of the metric.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The value of a label, when the series has it.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.key.labels().find(|label| label.key() == name).map(Label::value)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("max_series", &self.max_series).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
