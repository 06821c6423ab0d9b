//! A table of hashes that is shared almost evenly (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, section 3.4).
//!
//! Each endpoint has an order of preference of all places, and endpoints take places in turns. When one leaves, its
//! places are shared out and few others change. When one cannot be used for a while, its keys are hashed anew, and no
//! other key moves. Built when endpoints change; a lookup allocates nothing.

use std::net::SocketAddr;

use super::hash::{mix, xxh64};

/// Places of a table: a prime far above the number of endpoints, the smaller one of the paper.
const PLACES: usize = 65_537;
/// The least share of the heaviest's turns: what is lighter counts as if it were so heavy, which bounds the turns.
const MIN_PACE: f64 = 1.0 / 256.0;
/// How often a key is hashed anew before endpoints are taken in turn.
const REHASHES: u64 = 32;

const OFFSET_SEED: u64 = 0;
const SKIP_SEED: u64 = 1;
const REHASH_SEED: u64 = 2;

/// Who has which place.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<u16>,
    endpoints: usize,
}

/// An endpoint that takes places.
struct Taker {
    next: usize,
    skip: usize,
    /// How much of a turn it has for each of the heaviest.
    pace: f64,
    credit: f64,
}

impl Table {
    /// Of endpoints by address with their weights.
    pub(super) fn new(endpoints: &[(SocketAddr, u64)]) -> Self {
        const FREE: u16 = u16::MAX;
        let heaviest = endpoints.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1);
        let mut takers: Vec<Taker> = endpoints
            .iter()
            .map(|(address, weight)| taker(address, *weight as f64 / heaviest as f64))
            .collect();
        let mut places = vec![FREE; if takers.is_empty() { 0 } else { PLACES }];
        let mut left = places.len();
        while left > 0 {
            for (index, taker) in takers.iter_mut().enumerate() {
                taker.credit += taker.pace;
                if taker.credit < 1.0 || left == 0 {
                    continue;
                }
                taker.credit -= 1.0;
                while places[taker.next] != FREE {
                    taker.next = (taker.next + taker.skip) % PLACES;
                }
                places[taker.next] = index as u16;
                left -= 1;
            }
        }
        Self { places, endpoints: endpoints.len() }
    }

    /// The owner of a key, then those it goes to when the ones before cannot be used: everybody comes in the end.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let hashes = std::iter::successors(Some(key), |key| Some(mix(*key, REHASH_SEED)));
        let tries = if self.endpoints == 0 { 0 } else { REHASHES as usize };
        let hashed = hashes.take(tries).map(|hash| usize::from(self.places[(hash % PLACES as u64) as usize]));
        let first = (key % self.endpoints.max(1) as u64) as usize;
        hashed.chain((0..self.endpoints).map(move |step| (first + step) % self.endpoints))
    }
}

fn taker(address: &SocketAddr, pace: f64) -> Taker {
    let name = address.to_string();
    let next = xxh64(name.as_bytes(), OFFSET_SEED) as usize % PLACES;
    let skip = xxh64(name.as_bytes(), SKIP_SEED) as usize % (PLACES - 1) + 1;
    Taker { next, skip, pace: pace.max(MIN_PACE), credit: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::support::{keys, named, owners, shares};

    fn owner(table: &Table, key: u64) -> usize {
        table.from(key).next().expect("somebody is in the table")
    }

    #[test]
    fn keys_are_shared_evenly() {
        let table = Table::new(&named(&[1; 10]));
        for share in shares(owners(|key| owner(&table, key)), 10) {
            assert!((0.9..1.1).contains(&share), "{share} of an equal share");
        }
    }

    #[test]
    fn weight_is_a_share_of_the_keys() {
        let table = Table::new(&named(&[3, 1, 1, 1]));
        let shares = shares(owners(|key| owner(&table, key)), 4);
        assert!((1.9..2.1).contains(&shares[0]), "twice the mean share: {shares:?}");
    }

    #[test]
    fn few_keys_of_others_move_when_one_leaves() {
        let ten = named(&[1; 10]);
        for gone in 0..10 {
            let left: Vec<_> = ten.iter().copied().filter(|(address, _)| *address != ten[gone].0).collect();
            let (before, after) = (Table::new(&ten), Table::new(&left));
            let of_others: Vec<u64> = keys().filter(|key| owner(&before, *key) != gone).collect();
            let moved =
                of_others.iter().filter(|key| left[owner(&after, **key)].0 != ten[owner(&before, **key)].0);
            let percent = moved.count() as f64 * 100.0 / of_others.len() as f64;
            assert!(percent <= 15.0, "{percent} % of the others' keys moved");
        }
    }

    #[test]
    fn who_is_passed_over_gives_its_keys_to_many_and_everybody_comes() {
        let table = Table::new(&named(&[1; 10]));
        let heirs = keys().filter(|key| owner(&table, *key) == 3);
        let mut heirs: Vec<_> = heirs.map(|key| table.from(key).find(|index| *index != 3).unwrap()).collect();
        heirs.sort_unstable();
        heirs.dedup();
        assert_eq!(heirs.len(), 9, "{heirs:?}");
        for wanted in 0..10 {
            assert!(table.from(7).any(|index| index == wanted));
        }
        assert!(Table::new(&[]).from(7).next().is_none());
    }

    #[test]
    fn the_heaviest_and_the_lightest_fill_a_table() {
        let table = Table::new(&named(&[u32::MAX, 1]));
        let light = table.places.iter().filter(|place| **place == 1).count();
        assert!((200..=256).contains(&light), "{light} places of {PLACES}");
    }
}
