//! Two counts over a sliding window of time, shared by threads without a lock.
//!
//! The window is cut into slots; each slot is one atomic that holds its epoch and both counts, so that a slot of the past
//! is recognised and started anew by whoever counts into it first. Time is an argument: it passes from an origin that the
//! owner of the window chooses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Slots of a window: the sum covers between 7/8 and all of it.
const SLOTS: u64 = 8;
/// Bits of one count of a slot; it stays at its largest value beyond.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_BITS: u32 = 64 - 2 * COUNT_BITS;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

/// Two counts of what happened within the last `length`.
#[derive(Debug)]
pub(super) struct Window {
    slots: [AtomicU64; SLOTS as usize],
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub(super) first: u32,
    pub(super) second: u32,
}

/// Which of the two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    First,
    Second,
}

impl Window {
    /// A window in which nothing happened. Epoch 0 counts as never used, so epochs start at 1.
    pub(super) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Counts one event at a moment.
    pub(super) fn count(&self, at: Duration, length: Duration, column: Column) {
        let epoch = epoch(at, length);
        let slot = &self.slots[(epoch % SLOTS) as usize];
        let counted = |old: u64| {
            let (mut first, mut second) = if epoch_of(old) == epoch { counts_of(old) } else { (0, 0) };
            match column {
                Column::First => first = COUNT_MAX.min(first + 1),
                Column::Second => second = COUNT_MAX.min(second + 1),
            }
            Some(epoch << (2 * COUNT_BITS) | first << COUNT_BITS | second)
        };
        // The closure always gives a value, so there is no failure to handle.
        let _ = slot.fetch_update(Relaxed, Relaxed, counted);
    }

    /// What was counted within the window that ends at a moment.
    pub(super) fn sums(&self, at: Duration, length: Duration) -> Sums {
        let now = epoch(at, length);
        let mut sums = Sums::default();
        for slot in &self.slots {
            let packed = slot.load(Relaxed);
            let age = now.wrapping_sub(epoch_of(packed)) & EPOCH_MASK;
            if age < SLOTS {
                let (first, second) = counts_of(packed);
                sums.first += first as u32;
                sums.second += second as u32;
            }
        }
        sums
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Relaxed);
        }
    }
}

fn epoch(at: Duration, length: Duration) -> u64 {
    let slot_nanos = (length.as_nanos() as u64 / SLOTS).max(1);
    // Beginning at `SLOTS` keeps slots that were never used (epoch 0) out of the first window.
    (at.as_nanos() as u64 / slot_nanos + SLOTS) & EPOCH_MASK
}

fn epoch_of(packed: u64) -> u64 {
    packed >> (2 * COUNT_BITS)
}

fn counts_of(packed: u64) -> (u64, u64) {
    ((packed >> COUNT_BITS) & COUNT_MAX, packed & COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn sums(first: u32, second: u32) -> Sums {
        Sums { first, second }
    }

    #[test]
    fn counts_fall_out_of_the_window() {
        let window = Window::new();
        assert_eq!(window.sums(Duration::ZERO, TEN), sums(0, 0));
        window.count(Duration::ZERO, TEN, Column::First);
        window.count(Duration::from_secs(5), TEN, Column::First);
        window.count(Duration::from_secs(5), TEN, Column::Second);
        for (seconds, expected) in [(5, sums(2, 1)), (8, sums(2, 1)), (11, sums(1, 1)), (16, sums(0, 0))] {
            assert_eq!(window.sums(Duration::from_secs(seconds), TEN), expected, "after {seconds} s");
        }
    }

    #[test]
    fn a_slot_of_the_past_is_started_anew() {
        let window = Window::new();
        for _ in 0..5 {
            window.count(Duration::ZERO, TEN, Column::Second);
        }
        window.count(TEN, TEN, Column::First);
        assert_eq!(window.sums(TEN, TEN), sums(1, 0));
    }

    #[test]
    fn a_count_stays_at_its_bound() {
        let window = Window::new();
        window.slots[0].store(SLOTS << (2 * COUNT_BITS) | COUNT_MAX, Relaxed);
        window.count(Duration::ZERO, TEN, Column::Second);
        assert_eq!(window.sums(Duration::ZERO, TEN), sums(0, COUNT_MAX as u32));
    }

    #[test]
    fn an_empty_window_divides_by_nothing() {
        let window = Window::new();
        window.count(TEN, Duration::ZERO, Column::First);
        assert_eq!(window.sums(TEN, Duration::ZERO), sums(1, 0));
    }
}
