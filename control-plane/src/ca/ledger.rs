//! What was signed and is still good: one leaf for each workload, until it ends or another replaces it.
//!
//! A root may go when no live leaf stands under it; this says which do, and whose. It is in memory only: what was signed before
//! this process began is over when the longest life has passed since. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger_model::identity::SpiffeId;

/// Leaves that are remembered at a time. Of more, only how long they live.
pub const MAX_LEAVES: usize = 50_000;
/// The longest name of a workload, in bytes; a longer one counts as none.
const MAX_WORKLOAD_BYTES: usize = 1024;
/// How often those that are over are looked for when there is no room: a full look costs time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub identity: SpiffeId,
    /// The workload among those of the identity, as it calls itself; empty when it did not say.
    pub workload: Arc<str>,
    /// Its serial number in lower case hexadecimal.
    pub serial: Arc<str>,
    /// SHA-256 of the root it stands under.
    pub root: [u8; 32],
    /// When it was signed.
    pub issued_at: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// What is remembered of leaves.
#[derive(Debug)]
pub struct Ledger {
    since: SystemTime,
    leaves: HashMap<Key, Leaf>,
    bound: usize,
    swept_at: Option<SystemTime>,
    /// Until when leaves live for which there was no room.
    untracked_until: Option<SystemTime>,
}

/// A workload; one without a name is as many as it has certificates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    identity: SpiffeId,
    workload: Arc<str>,
    serial: Option<Arc<str>>,
}

impl Ledger {
    /// An empty one that begins now.
    pub fn new(now: SystemTime) -> Self {
        Self { since: now, leaves: HashMap::new(), bound: MAX_LEAVES, swept_at: None, untracked_until: None }
    }

    /// Since when leaves are remembered.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Until when leaves live that were signed but for which there was no room, if there are any.
    pub fn untracked_until(&self, now: SystemTime) -> Option<SystemTime> {
        self.untracked_until.filter(|until| *until > now)
    }

    /// Remembers a leaf, which replaces the one before it of the same workload.
    pub fn note(&mut self, mut leaf: Leaf) {
        if leaf.workload.len() > MAX_WORKLOAD_BYTES {
            leaf.workload = Arc::default();
        }
        let serial = leaf.workload.is_empty().then(|| leaf.serial.clone());
        let key = Key { identity: leaf.identity.clone(), workload: leaf.workload.clone(), serial };
        if !self.leaves.contains_key(&key) && !self.has_room(leaf.issued_at) {
            self.untracked_until = self.untracked_until.max(Some(leaf.not_after));
            return;
        }
        self.leaves.insert(key, leaf);
    }

    /// Every leaf that is good at `now`, in no order.
    pub fn live(&self, now: SystemTime) -> impl Iterator<Item = &Leaf> {
        self.leaves.values().filter(move |leaf| leaf.not_after > now)
    }

    fn has_room(&mut self, now: SystemTime) -> bool {
        let due =
            self.swept_at.is_none_or(|at| now.duration_since(at).is_ok_and(|past| past >= SWEEP_INTERVAL));
        if self.leaves.len() >= self.bound && due {
            self.leaves.retain(|_, leaf| leaf.not_after > now);
            self.swept_at = Some(now);
        }
        self.leaves.len() < self.bound
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn leaf(workload: &str, serial: &str, issued_at: SystemTime) -> Leaf {
        Leaf {
            identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
            workload: workload.into(),
            serial: serial.into(),
            root: [1; 32],
            issued_at,
            not_after: issued_at + TTL,
        }
    }

    fn serials(ledger: &Ledger, now: SystemTime) -> Vec<String> {
        let mut serials: Vec<String> = ledger.live(now).map(|leaf| leaf.serial.to_string()).collect();
        serials.sort();
        serials
    }

    #[test]
    fn a_workload_has_one_leaf_and_loses_it_when_it_ends() {
        let mut ledger = Ledger::new(at(0));
        ledger.note(leaf("web-1", "a", at(0)));
        ledger.note(leaf("web-2", "b", at(10)));
        ledger.note(leaf("web-1", "c", at(40)));
        assert_eq!(serials(&ledger, at(41)), ["b", "c"]);
        assert_eq!(serials(&ledger, at(70)), ["c"]);
        assert_eq!(serials(&ledger, at(100)), Vec::<String>::new());
        assert_eq!(ledger.since(), at(0));
    }

    #[test]
    fn of_workloads_that_do_not_say_who_they_are_each_leaf_counts() {
        let mut ledger = Ledger::new(at(0));
        ledger.note(leaf("", "a", at(0)));
        ledger.note(leaf("", "b", at(0)));
        ledger.note(leaf(&"x".repeat(MAX_WORKLOAD_BYTES + 1), "c", at(0)));
        assert_eq!(serials(&ledger, at(1)), ["a", "b", "c"]);
    }

    #[test]
    fn when_it_is_full_those_that_are_over_make_room_and_the_rest_is_not_forgotten() {
        let mut ledger = Ledger { bound: 2, ..Ledger::new(at(0)) };
        ledger.note(leaf("web-1", "a", at(0)));
        ledger.note(leaf("web-2", "b", at(50)));
        ledger.note(leaf("web-3", "c", at(51)));
        assert_eq!(serials(&ledger, at(52)), ["a", "b"]);
        assert_eq!(ledger.untracked_until(at(52)), Some(at(51) + TTL));
        ledger.note(leaf("web-4", "d", at(70)));
        assert_eq!(serials(&ledger, at(71)), ["b", "d"], "the one that was over made room");
        assert_eq!(ledger.untracked_until(at(112)), None);
    }
}
