//! How long answers took lately: a histogram that forgets, shared by threads without a lock.
//!
//! Buckets grow with what they count, eight to a doubling, so that a percentile is right within an eighth (as in HdrHistogram, Gil
//! Tene). When there are [`HALVE_AT`] entries all counts are halved: what is older weighs less and less.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to a doubling, as a power of two.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;
/// The longest time that is told apart, in microseconds: a bit more than a minute.
const LONGEST: u64 = (1 << 26) - 1;
const BUCKETS: usize = index(LONGEST) + 1;
/// Entries at which all counts are halved.
const HALVE_AT: u32 = 2048;

/// How long answers took lately.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [AtomicU32; BUCKETS],
    entries: AtomicU32,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), entries: AtomicU32::new(0) }
    }

    pub(super) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        self.counts[index(micros)].fetch_add(1, Relaxed);
        // Only one thread sees this number.
        if self.entries.fetch_add(1, Relaxed) + 1 == HALVE_AT {
            self.halve();
        }
    }

    /// The time within which so many percent of answers came; `None` when fewer than `least` did.
    pub(super) fn percentile(&self, percent: f64, least: u32) -> Option<Duration> {
        let total: u32 = self.counts.iter().map(|count| count.load(Relaxed)).sum();
        if total < least.max(1) {
            return None;
        }
        let wanted = (f64::from(total) * percent / 100.0).ceil() as u32;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count.load(Relaxed);
            seen >= wanted.max(1)
        });
        // Counts may be halved meanwhile; then all of them are within.
        Some(Duration::from_micros(end(found.unwrap_or(BUCKETS - 1))))
    }

    fn halve(&self) {
        for count in &self.counts {
            count.fetch_sub(count.load(Relaxed) / 2, Relaxed);
        }
        self.entries.fetch_sub(HALVE_AT / 2, Relaxed);
    }
}

/// The bucket of a time in microseconds.
const fn index(micros: u64) -> usize {
    if micros < SUB {
        return micros as usize;
    }
    let exponent = micros.ilog2() - SUB_BITS;
    ((exponent as u64 + 1) * SUB + ((micros >> exponent) & (SUB - 1))) as usize
}

/// Where a bucket ends, in microseconds: the start of the next.
const fn end(index: usize) -> u64 {
    let next = index as u64 + 1;
    if next < 2 * SUB {
        return next;
    }
    (SUB + next % SUB) << (next / SUB - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_one_bucket_that_is_right_within_an_eighth() {
        let mut before = 0;
        for micros in (0..5000).chain((0..40).map(|step| 5000 + step * step * 40_000)) {
            let bucket = index(micros.min(LONGEST));
            assert!(bucket >= before && bucket < BUCKETS, "{micros}");
            assert!(end(bucket) > micros.min(LONGEST), "{micros} ends at {}", end(bucket));
            assert!(end(bucket) <= micros + 1 + micros / 8, "{micros} ends at {}", end(bucket));
            before = bucket;
        }
        assert_eq!(index(LONGEST), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latencies = Latencies::new();
        assert_eq!(latencies.percentile(50.0, 0), None);
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        for percent in [50.0, 90.0, 95.0, 99.0] {
            let found = latencies.percentile(percent, 1).unwrap().as_secs_f64() * 1000.0;
            let exact = percent * 10.0;
            assert!((exact..=exact * 1.13).contains(&found), "p{percent} is {found} ms");
        }
        assert_eq!(latencies.percentile(50.0, 1001), None);
    }

    #[test]
    fn the_past_is_forgotten() {
        let latencies = Latencies::new();
        for _ in 0..HALVE_AT {
            latencies.record(Duration::from_secs(1));
        }
        for _ in 0..4 * HALVE_AT {
            latencies.record(Duration::from_millis(1));
        }
        assert!(latencies.percentile(95.0, 1).unwrap() < Duration::from_millis(2));
        let total: u32 = latencies.counts.iter().map(|count| count.load(Relaxed)).sum();
        assert!(total <= HALVE_AT + 200, "{total} entries are kept");
    }
}
