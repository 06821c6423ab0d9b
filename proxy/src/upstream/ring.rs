//! A ring of hashes: each endpoint stands at many points, a key belongs to the first point at or behind it (Karger et al.,
//! "Consistent Hashing and Random Trees", 1997; points by name and number, as in libketama).
//!
//! When an endpoint leaves, only its own keys move; when one cannot be used for a while, its keys go to the next on the
//! ring and come back. Built when endpoints change; a lookup allocates nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::hash::xxh64;

/// Points of an endpoint of mean weight: their shares differ by some percent.
const POINTS_PER_ENDPOINT: usize = 256;
/// The most points of a ring, beyond one an endpoint.
const MAX_POINTS: usize = 1 << 17;

/// Who stands where.
#[derive(Debug)]
pub(super) struct Ring {
    /// In ascending order.
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    index: u32,
}

impl Ring {
    /// Of endpoints by address with their weights; each has a point at least.
    pub(super) fn new(endpoints: &[(SocketAddr, u64)]) -> Self {
        let wanted = (endpoints.len() * POINTS_PER_ENDPOINT).min(MAX_POINTS) as u128;
        let total: u128 = endpoints.iter().map(|(_, weight)| u128::from(*weight)).sum();
        let mut points = Vec::with_capacity(wanted as usize + endpoints.len());
        let mut name = String::new();
        for (index, (address, weight)) in endpoints.iter().enumerate() {
            let share = (u128::from(*weight) * wanted / total.max(1)).max(1);
            for number in 0..share {
                name.clear();
                // Writing to a text does not fail.
                let _ = write!(name, "{address}_{number}");
                points.push(Point { hash: xxh64(name.as_bytes(), 0), index: index as u32 });
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// Those that stand at or behind a key, around the whole ring. Each comes as often as it has points.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|point| point.hash < key);
        let around = self.points[start..].iter().chain(&self.points[..start]);
        around.map(|point| point.index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::support::{keys, named, owners, shares};

    fn owner(ring: &Ring, key: u64) -> usize {
        ring.from(key).next().expect("somebody is on the ring")
    }

    #[test]
    fn keys_are_shared_evenly() {
        let ring = Ring::new(&named(&[1; 10]));
        for share in shares(owners(|key| owner(&ring, key)), 10) {
            assert!((0.75..1.3).contains(&share), "{share} of an equal share");
        }
    }

    #[test]
    fn weight_is_a_share_of_the_keys() {
        let ring = Ring::new(&named(&[3, 1, 1, 1]));
        let shares = shares(owners(|key| owner(&ring, key)), 4);
        assert!((1.7..2.3).contains(&shares[0]), "twice the mean share: {shares:?}");
    }

    #[test]
    fn nobody_elses_keys_move_when_one_leaves() {
        let ten = named(&[1; 10]);
        let nine: Vec<_> = ten.iter().copied().filter(|(address, _)| *address != ten[3].0).collect();
        let (before, after) = (Ring::new(&ten), Ring::new(&nine));
        for key in keys() {
            let owned_by = ten[owner(&before, key)].0;
            if owned_by != ten[3].0 {
                assert_eq!(nine[owner(&after, key)].0, owned_by);
            }
        }
    }

    #[test]
    fn who_is_passed_over_gives_its_keys_to_many() {
        let ring = Ring::new(&named(&[1; 10]));
        let heirs = keys().filter(|key| owner(&ring, *key) == 3);
        let mut heirs: Vec<_> = heirs.map(|key| ring.from(key).find(|index| *index != 3).unwrap()).collect();
        heirs.sort_unstable();
        heirs.dedup();
        assert_eq!(heirs.len(), 9, "{heirs:?}");
    }

    #[test]
    fn a_ring_is_bounded() {
        let weights: Vec<u32> = (0..16_000).map(|at| at % 7 + 1).collect();
        let ring = Ring::new(&named(&weights));
        assert!(ring.points.len() <= MAX_POINTS + weights.len());
        assert!(Ring::new(&[]).from(7).next().is_none());
    }
}
