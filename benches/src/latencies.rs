//! How long requests took: counts in buckets that grow with the value, so that memory is fixed and percentiles are good
//! to one part in 64. The scheme is that of HdrHistogram.

use std::time::Duration;

/// Buckets for each doubling of the value, as a power of two.
const DOUBLING_BITS: u32 = 6;
const BUCKETS_PER_DOUBLING: u64 = 1 << DOUBLING_BITS;
/// Longer is counted as this: 2^36 ns, 68 s.
const MAX_NANOS: u64 = 1 << 36;
/// All buckets, some 16 KiB.
const BUCKETS: usize = bucket(MAX_NANOS) + 1;

/// Counts of durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latencies {
    counts: Box<[u64]>,
    total: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0 }
    }

    /// Counts one.
    pub(crate) fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(MAX_NANOS).min(MAX_NANOS);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// What `percent` of them took at most, in microseconds; 0 when there is none.
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        // A share of a count below 2^53, rounded up: the 99th percentile of ten is the tenth.
        let rank = ((percent * self.total as f64 / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0.0, |index| middle(index) / 1000.0)
    }
}

/// The bucket of a value: values below 64 have one each, then 64 share each doubling.
const fn bucket(nanos: u64) -> usize {
    if nanos < BUCKETS_PER_DOUBLING {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - DOUBLING_BITS;
    (shift as u64 * BUCKETS_PER_DOUBLING + (nanos >> shift)) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(index: usize) -> f64 {
    let index = index as u64;
    if index < 2 * BUCKETS_PER_DOUBLING {
        return index as f64;
    }
    let shift = index / BUCKETS_PER_DOUBLING - 1;
    let low = (index - shift * BUCKETS_PER_DOUBLING) << shift;
    low as f64 + (1_u64 << shift) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        micros.into_iter().for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        let mut last = 0;
        for nanos in 1..200_000 {
            let next = bucket(nanos);
            assert!(next == last || next == last + 1, "{nanos}: {last} then {next}");
            last = next;
        }
    }

    #[test]
    fn the_middle_of_a_bucket_is_near_every_value_in_it() {
        for nanos in [0, 1, 63, 64, 127, 128, 129, 1000, 65_535, 65_536, 999_999_999, MAX_NANOS] {
            let error = (middle(bucket(nanos)) - nanos as f64).abs();
            assert!(error <= nanos as f64 / 64.0, "{nanos}: off by {error}");
        }
    }

    #[test]
    fn percentiles_are_of_the_rank() {
        let near = |found: f64, expected: f64| (found - expected).abs() <= expected / 64.0;
        let hundred = of(1..=100);
        for percent in [1.0, 50.0, 99.0, 100.0] {
            assert!(
                near(hundred.percentile_us(percent), percent),
                "{percent}: {}",
                hundred.percentile_us(percent)
            );
        }
        assert!(near(of([5, 5, 5, 800]).percentile_us(99.0), 800.0));
        assert!(near(of([5, 5, 5, 800]).percentile_us(75.0), 5.0));
        assert_eq!(of([]).percentile_us(50.0), 0.0);
        assert_eq!(of([1, 2]).total(), 2);
        // Of a thousand the 99.9th percentile is the last but one.
        let thousand = of(std::iter::repeat_n(5, 998).chain([600, 800]));
        assert!(near(thousand.percentile_us(99.9), 600.0) && near(thousand.percentile_us(99.91), 800.0));
    }

    #[test]
    fn what_is_too_long_is_counted_as_the_longest() {
        assert!(of([u64::MAX / 1000]).percentile_us(50.0) >= 68e6);
    }
}
