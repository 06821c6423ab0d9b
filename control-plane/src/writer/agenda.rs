//! Which statuses wait to be written, and when. The newest state wins: what waits is a name, not what was to be said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_resources::ObjectRef;
use tokio::time::Instant;

use super::wanted::Wanted;

/// How long to wait after a write that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What should be there, and what of it is not known to be there. Bounded by the objects of the world.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    wanted: BTreeMap<ObjectRef, Arc<Wanted>>,
    waiting: BTreeMap<ObjectRef, Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    at: Instant,
    attempts: u32,
}

impl Agenda {
    /// Takes in what should be there now. What differs from before waits to be written; what is gone is forgotten.
    pub(super) fn take_in(&mut self, wanted: BTreeMap<ObjectRef, Wanted>, now: Instant) {
        self.wanted.retain(|object, _| wanted.contains_key(object));
        self.waiting.retain(|object, _| wanted.contains_key(object));
        for (object, wanted) in wanted {
            if self.wanted.get(&object).is_none_or(|known| **known != wanted) {
                self.waiting.insert(object.clone(), Waiting { at: now, attempts: 0 });
                self.wanted.insert(object, Arc::new(wanted));
            }
        }
    }

    /// What should be said of an object.
    pub(super) fn wanted(&self, object: &ObjectRef) -> Option<&Arc<Wanted>> {
        self.wanted.get(object)
    }

    /// When there is something to do next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.at).min()
    }

    /// What to write now.
    pub(super) fn next(&self, now: Instant) -> Option<(ObjectRef, Arc<Wanted>)> {
        let (object, waiting) = self.waiting.iter().min_by_key(|(_, waiting)| waiting.at)?;
        let wanted = self.wanted.get(object).filter(|_| waiting.at <= now)?;
        Some((object.clone(), wanted.clone()))
    }

    /// The status of an object says what it should.
    pub(super) fn done(&mut self, object: &ObjectRef) {
        self.waiting.remove(object);
    }

    /// The status of an object was found to say something else.
    pub(super) fn differs(&mut self, object: &ObjectRef, now: Instant) {
        if self.wanted.contains_key(object) {
            self.waiting.entry(object.clone()).or_insert(Waiting { at: now, attempts: 0 });
        }
    }

    /// A write failed; `random` between 0 and 1 spreads the next ones. Says whether it was the first.
    pub(super) fn failed(&mut self, object: &ObjectRef, now: Instant, random: f64) -> Attempt {
        let Some(waiting) = self.waiting.get_mut(object) else { return Attempt::Further };
        let pause = FIRST_PAUSE.saturating_mul(1 << waiting.attempts.min(6)).min(LONGEST_PAUSE);
        waiting.attempts = waiting.attempts.saturating_add(1);
        waiting.at = now + pause.mul_f64(0.75 + random / 2.0);
        if waiting.attempts == 1 { Attempt::First } else { Attempt::Further }
    }
}

/// Which failure of a write it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The first since the wanted status changed.
    First,
    /// A further one.
    Further,
}

#[cfg(test)]
mod tests;
