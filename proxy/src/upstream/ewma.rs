//! Peak EWMA of round trip times: jumps up with a slow answer, falls slowly with fast ones and with time.
//!
//! The estimator of twitter/finagle `PeakEwma`: a sample above the average replaces it, one below moves it by the weight
//! of the time passed. Value and time of the last sample share one atomic, so that workers update and read it without a
//! lock. Time is an argument.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time is kept in ticks of 2^20 ns, about 1 ms: they wrap after 52 days, which only a quieter endpoint could notice.
const TICK_SHIFT: u32 = 20;

/// The moving average of one endpoint.
#[derive(Debug)]
pub(super) struct PeakEwma {
    /// Ticks of the last sample above, the average in nanoseconds as `f32` below; 0 is "never".
    packed: AtomicU64,
}

impl PeakEwma {
    /// Without a sample.
    pub(super) fn new() -> Self {
        Self { packed: AtomicU64::new(0) }
    }

    /// Takes a sample.
    pub(super) fn observe(&self, at: Duration, sample: Duration, decay: Duration) {
        let tick = tick(at);
        let sample = nanos(sample).max(1.0);
        let observed = |packed: u64| {
            let Some((last, average)) = unpack(packed) else { return Some(pack(tick, sample)) };
            if sample >= average {
                return Some(pack(tick, sample));
            }
            let passed = tick.wrapping_sub(last);
            // Within one tick a faster sample weighs nothing; the next one carries the whole time passed.
            let weight = remaining(passed, decay);
            (passed != 0).then(|| pack(tick, average * weight + sample * (1.0 - weight)))
        };
        // An error is "nothing to change".
        let _ = self.packed.fetch_update(Relaxed, Relaxed, observed);
    }

    /// The average in nanoseconds, fallen by the time since the last sample: an endpoint that was slow once is tried again.
    pub(super) fn estimate_ns(&self, at: Duration, decay: Duration) -> Option<f64> {
        let (last, average) = unpack(self.packed.load(Relaxed))?;
        Some(average * remaining(tick(at).wrapping_sub(last), decay))
    }
}

/// A plain moving average, kept in the same way: a sample moves it by the weight of the time passed. Of samples within one
/// tick the first counts.
#[derive(Debug)]
pub(super) struct Ewma {
    packed: AtomicU64,
}

impl Ewma {
    /// Without a sample.
    pub(super) fn new() -> Self {
        Self { packed: AtomicU64::new(0) }
    }

    /// Takes a sample, which is above 0.
    pub(super) fn observe(&self, at: Duration, sample: f64, decay: Duration) {
        let tick = tick(at);
        let sample = sample.max(f64::from(f32::MIN_POSITIVE));
        let observed = |packed: u64| {
            let Some((last, average)) = unpack(packed) else { return Some(pack(tick, sample)) };
            let passed = tick.wrapping_sub(last);
            let weight = remaining(passed, decay);
            (passed != 0).then(|| pack(tick, average * weight + sample * (1.0 - weight)))
        };
        // An error is "nothing to change".
        let _ = self.packed.fetch_update(Relaxed, Relaxed, observed);
    }

    /// The average, `None` when the last sample is older than `expires`.
    pub(super) fn known(&self, at: Duration, expires: Duration) -> Option<f64> {
        let (last, average) = unpack(self.packed.load(Relaxed))?;
        let age = Duration::from_nanos(u64::from(tick(at).wrapping_sub(last)) << TICK_SHIFT);
        (age <= expires).then_some(average)
    }
}

fn remaining(ticks: u32, decay: Duration) -> f64 {
    if ticks == 0 {
        return 1.0;
    }
    let passed_ns = (u64::from(ticks) << TICK_SHIFT) as f64;
    (-passed_ns / nanos(decay).max(1.0)).exp()
}

/// Without the detour over 128 bits, which is slow to convert.
pub(super) fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

fn tick(at: Duration) -> u32 {
    (at.as_nanos() as u64 >> TICK_SHIFT) as u32
}

fn pack(tick: u32, nanos: f64) -> u64 {
    u64::from(tick) << 32 | u64::from((nanos as f32).to_bits())
}

fn unpack(packed: u64) -> Option<(u32, f64)> {
    let nanos = f32::from_bits(packed as u32);
    (packed as u32 != 0).then_some(((packed >> 32) as u32, f64::from(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);
    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn estimate_ms(ewma: &PeakEwma, at: Duration) -> f64 {
        ewma.estimate_ns(at, DECAY).expect("sampled") / 1e6
    }

    #[test]
    fn the_first_sample_is_the_average() {
        let ewma = PeakEwma::new();
        assert_eq!(ewma.estimate_ns(MS(0), DECAY), None);
        ewma.observe(MS(0), MS(5), DECAY);
        assert!((estimate_ms(&ewma, MS(0)) - 5.0).abs() < 0.01);
    }

    #[test]
    fn a_peak_replaces_it_and_fast_answers_bring_it_down_slowly() {
        let ewma = PeakEwma::new();
        ewma.observe(MS(0), MS(1), DECAY);
        ewma.observe(MS(10), MS(100), DECAY);
        assert!((estimate_ms(&ewma, MS(10)) - 100.0).abs() < 0.1);
        for at in (20..5_000).step_by(10) {
            ewma.observe(MS(at), MS(1), DECAY);
        }
        let after_half = estimate_ms(&ewma, MS(5_000));
        assert!((60.0..62.5).contains(&after_half), "e^-0.5 of the way from 100 to 1, not {after_half}");
    }

    #[test]
    fn without_samples_it_falls_by_e_in_the_decay_time() {
        let ewma = PeakEwma::new();
        ewma.observe(MS(0), MS(100), DECAY);
        let fallen = estimate_ms(&ewma, DECAY);
        assert!((36.0..37.5).contains(&fallen), "{fallen}");
    }

    #[test]
    fn a_plain_average_follows_both_ways_and_expires() {
        let ewma = Ewma::new();
        assert_eq!(ewma.known(MS(0), DECAY), None);
        ewma.observe(MS(0), 1.0, DECAY);
        ewma.observe(DECAY, 0.0, DECAY);
        let fallen = ewma.known(DECAY, DECAY).unwrap();
        assert!((0.36..0.38).contains(&fallen), "a time of decay leaves a part of e: {fallen}");
        ewma.observe(DECAY * 2, 1.0, DECAY);
        assert!(ewma.known(DECAY * 2, DECAY).unwrap() > fallen);
        assert_eq!(ewma.known(DECAY * 4, DECAY), None);
    }

    #[test]
    fn many_fast_samples_within_a_tick_do_not_count_more_than_one() {
        let (many, one) = (PeakEwma::new(), PeakEwma::new());
        many.observe(MS(0), MS(100), DECAY);
        one.observe(MS(0), MS(100), DECAY);
        for _ in 0..1000 {
            many.observe(Duration::from_micros(5_300), MS(1), DECAY);
        }
        one.observe(Duration::from_micros(5_300), MS(1), DECAY);
        assert_eq!(estimate_ms(&many, MS(6)), estimate_ms(&one, MS(6)));
    }
}
