//! Where recorded values are kept: atomics only.
//!
//! Recording a duration is a search in a constant table and two relaxed additions: no lock, no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{HistogramFn, Key};
use metrics_util::registry::Storage;

/// Upper bounds, inclusive, of the buckets of every histogram, in seconds. One more bucket counts what is longer.
pub const DURATION_BUCKETS_SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

const BUCKETS: usize = DURATION_BUCKETS_SECONDS.len() + 1;
const NANOS_PER_SECOND: f64 = 1e9;

/// How `metrics-util` makes a new series.
#[derive(Debug)]
pub(super) struct FixedStorage;

impl Storage<Key> for FixedStorage {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Latencies>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::default()
    }
}

/// One series of a histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    /// An integer, so that adding to it is one instruction; it holds 584 years.
    sum_nanos: AtomicU64,
}

/// What a [`Latencies`] held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    /// Not cumulative; the last one counts what is longer than every bound.
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum_seconds: f64,
}

impl HistogramFn for Latencies {
    fn record(&self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    fn record_many(&self, seconds: f64, count: usize) {
        let bucket = DURATION_BUCKETS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(count as u64, Ordering::Relaxed);
        // The cast saturates, and takes what is not a number or negative as zero.
        let nanos = (seconds * NANOS_PER_SECOND) as u64;
        self.sum_nanos.fetch_add(nanos.saturating_mul(count as u64), Ordering::Relaxed);
    }
}

impl Latencies {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum_seconds: self.sum_nanos.load(Ordering::Relaxed) as f64 / NANOS_PER_SECOND,
        }
    }
}
