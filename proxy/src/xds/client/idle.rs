//! Which destinations nobody uses. Pure but for the counters it reads: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use crate::demand::IDLE_AFTER;
use crate::snapshot::{DestinationId, Snapshot};

/// Watches destinations for use.
#[derive(Debug)]
pub(super) struct Idle {
    pinned: BTreeSet<u32>,
    watched: BTreeMap<u32, Watched>,
}

/// When a destination was last seen to be in use, and the time stamp it had then.
#[derive(Debug)]
struct Watched {
    since: Instant,
    last_used_seconds: u64,
}

impl Idle {
    /// The destinations of `snapshot` are never idle.
    pub(super) fn pinning(snapshot: &Snapshot) -> Self {
        Self { pinned: snapshot.names.values().map(|id| id.0).collect(), watched: BTreeMap::new() }
    }

    /// The destinations that have not been in use for [`IDLE_AFTER`].
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<DestinationId> {
        let mut gone = Vec::new();
        self.watched.retain(|place, _| snapshot.destination(DestinationId(*place)).is_some());
        for id in snapshot.names.values().filter(|id| !self.pinned.contains(&id.0)) {
            let Some(destination) = snapshot.destination(*id) else { continue };
            let last_used_seconds = destination.usage.last_used_seconds.load(Relaxed);
            let watched = self.watched.entry(id.0).or_insert(Watched { since: now, last_used_seconds });
            let in_use = destination.usage.connections.load(Relaxed) > 0;
            if in_use || watched.last_used_seconds != last_used_seconds {
                *watched = Watched { since: now, last_used_seconds };
            } else if now - watched.since >= IDLE_AFTER {
                gone.push(*id);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demand::{InUse, with_place};

    #[test]
    fn only_what_nobody_uses_and_nobody_pinned_is_idle() {
        let (pinned, _) = with_place(&Snapshot::empty(), "pinned:1".parse().unwrap());
        let mut idle = Idle::pinning(&pinned);
        let (next, unused) = with_place(&pinned, "unused:1".parse().unwrap());
        let (snapshot, used) = with_place(&next, "used:1".parse().unwrap());
        let connection = InUse::new(snapshot.destination(used).unwrap());
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(idle.look(&snapshot, at(0)), []);
        assert_eq!(idle.look(&snapshot, at(299)), []);
        assert_eq!(idle.look(&snapshot, at(300)), [unused]);
        drop(connection);
        assert_eq!(idle.look(&snapshot, at(599)), [unused]);
        assert_eq!(idle.look(&snapshot, at(601)), [unused, used]);
    }
}
