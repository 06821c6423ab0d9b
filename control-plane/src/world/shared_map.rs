//! A map whose copies share what they have in common.
//!
//! A [`crate::world::World`] is never changed while somebody reads it; each change makes a new one. So that one changed
//! endpoint among tens of thousands costs microseconds, entries live in shards and only shards that are written to are
//! copied. It knows nothing of what it holds.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many shards a map has. At 30,000 entries a write copies some 470 of them.
const SHARDS: usize = 64;

/// A map with cheap copies; iteration is in no useful order, [`SharedMap::sorted`] sorts.
#[derive(Debug)]
pub(crate) struct SharedMap<K, V> {
    shards: Vec<Arc<BTreeMap<K, V>>>,
}

/// A map to sets, without empty ones.
pub(crate) type SharedSets<K, V> = SharedMap<K, Arc<BTreeSet<V>>>;

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone() }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::new(BTreeMap::new())).collect() }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard(key)].get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        Arc::make_mut(&mut self.shards[shard(&key)]).insert(key, value)
    }

    pub(crate) fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = &mut self.shards[shard(key)];
        if !shard.contains_key(key) {
            return None;
        }
        Arc::make_mut(shard).remove(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
        entries
    }
}

impl<K: Ord + Hash + Clone, V: Ord + Clone> SharedSets<K, V> {
    /// The set of a key; nothing where there is none.
    pub(crate) fn members<'s>(&'s self, key: &K) -> impl Iterator<Item = &'s V> + use<'s, K, V> {
        self.get(key).into_iter().flat_map(|set| set.iter())
    }

    pub(crate) fn add(&mut self, key: K, value: V) {
        let sets = Arc::make_mut(&mut self.shards[shard(&key)]);
        Arc::make_mut(sets.entry(key).or_default()).insert(value);
    }

    pub(crate) fn discard<Q: Ord + ?Sized>(&mut self, key: &K, value: &Q)
    where
        V: Borrow<Q>,
    {
        let shard = &mut self.shards[shard(key)];
        if !shard.get(key).is_some_and(|set| set.contains(value)) {
            return;
        }
        let sets = Arc::make_mut(shard);
        let Some(set) = sets.get_mut(key) else { return };
        let set = Arc::make_mut(set);
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

fn shard<K: Hash + ?Sized>(key: &K) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // The remainder is below SHARDS, so that it fits whatever the width of usize.
    (hasher.finish() % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_touched_by_what_comes_after() {
        let mut now = SharedMap::default();
        for number in 0..1000 {
            now.insert(number, number);
        }
        let before = now.clone();
        now.insert(7, 70);
        now.remove(&8);
        assert_eq!((before.get(&7), before.get(&8), before.iter().count()), (Some(&7), Some(&8), 1000));
        assert_eq!((now.get(&7), now.get(&8), now.iter().count()), (Some(&70), None, 999));
        let shared = before.shards.iter().zip(&now.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 2, "only {shared} shards are shared");
        assert!(now.sorted().is_sorted());
    }

    #[test]
    fn sets_are_gone_when_they_are_empty() {
        let mut sets = SharedSets::<u8, u8>::default();
        sets.add(1, 2);
        sets.add(1, 3);
        sets.discard(&1, &2);
        sets.discard(&9, &9);
        assert_eq!(sets.members(&1).collect::<Vec<_>>(), [&3]);
        sets.discard(&1, &3);
        assert_eq!(sets, SharedSets::default());
    }
}
