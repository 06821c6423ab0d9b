//! Counts by key: a table of fixed size that workers share without a lock.
//!
//! A key is a hash with a seed of the process, so that nothing a client sends is kept and nobody can choose keys that
//! collide. It has a few places in the table (a set, as in a processor's cache). When all of them are taken, the one whose
//! count is nearest to being forgotten anyway gives way; a count that has run out is worth as much as none, so as long as
//! no more keys are active than there are places nothing is lost. Beyond that the limit lets through more, never less.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Places in the table.
pub(super) const PLACES: usize = 8_192;
/// Places that one key may have.
const WAYS: usize = 8;
const SETS: usize = PLACES / WAYS;

/// Nobody's place.
const FREE: u64 = 0;
/// A place that is being given to another key.
const TAKEN: u64 = 1;

/// The counts of one limit, by key.
#[derive(Debug)]
pub(super) struct Table {
    places: Box<[Place]>,
    /// Stands in for a place when others were faster at all of them.
    spare: AtomicU64,
}

#[derive(Debug)]
struct Place {
    /// What is left of the hash once it has chosen the set, above [`TAKEN`].
    tag: AtomicU64,
    count: AtomicU64,
}

impl Table {
    /// Without keys.
    pub(super) fn new() -> Self {
        let place = || Place { tag: AtomicU64::new(FREE), count: AtomicU64::new(0) };
        Self { places: std::iter::repeat_with(place).take(PLACES).collect(), spare: AtomicU64::new(0) }
    }

    /// The count of a key; a key that is new begins at 0. While a place changes hands, one request may be counted for the
    /// key that had it.
    pub(super) fn count(&self, hash: u64) -> &AtomicU64 {
        let set = hash as usize % SETS * WAYS;
        let places = &self.places[set..set + WAYS];
        let tag = hash / SETS as u64 + TAKEN + 1;
        for _ in 0..WAYS {
            if let Some(place) = places.iter().find(|place| place.tag.load(Acquire) == tag) {
                return &place.count;
            }
            if let Some(count) = take_over(places, tag) {
                return count;
            }
        }
        &self.spare
    }
}

/// `None` when another worker was faster.
fn take_over(places: &[Place], tag: u64) -> Option<&AtomicU64> {
    let known = places.iter().map(|place| (place, place.tag.load(Acquire)));
    let settled = known.filter(|(_, tag)| *tag != TAKEN);
    let (place, before) = settled.min_by_key(|(place, tag)| (*tag != FREE, place.count.load(Relaxed)))?;
    place.tag.compare_exchange(before, TAKEN, AcqRel, Relaxed).ok()?;
    place.count.store(0, Relaxed);
    place.tag.store(tag, Release);
    Some(&place.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_apart_and_found_again() {
        let table = Table::new();
        for key in 0..100 {
            table.count(key * 1_000_003).store(key, Relaxed);
        }
        for key in 0..100 {
            assert_eq!(table.count(key * 1_000_003).load(Relaxed), key);
        }
    }

    #[test]
    fn a_full_set_forgets_what_is_nearest_to_being_forgotten_anyway() {
        let table = Table::new();
        let key = |number: u64| number * SETS as u64;
        for number in 0..WAYS as u64 {
            table.count(key(number)).store(100 - number, Relaxed);
        }
        assert_eq!(table.count(key(1000)).load(Relaxed), 0, "a new key begins anew");
        table.count(key(1000)).store(1000, Relaxed);
        assert_eq!(table.count(key(0)).load(Relaxed), 100, "the oldest debt is kept");
        assert_eq!(table.count(key(7)).load(Relaxed), 0, "the smallest gave way");
    }

    #[test]
    fn any_number_of_keys_takes_the_same_room_from_several_threads() {
        let table = Table::new();
        std::thread::scope(|scope| {
            for thread in 0..2_u64 {
                let table = &table;
                scope.spawn(move || {
                    for key in 0..3 * PLACES as u64 {
                        table.count(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread).fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(table.places.len(), PLACES);
        assert!(table.places.iter().all(|place| place.tag.load(Relaxed) != TAKEN));
    }
}
