//! Which URLs are fetched when, and what of it is told. No I/O and no clock: times are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::jwt::KeySet;
use tokio::time::Instant;

use super::fetch::Fetched;
use crate::world::{Fact, Held};

/// The most URLs that are fetched; policies that name further ones let nobody in.
pub(super) const MAX_URLS: usize = 256;
/// How long a set is taken to be the newest, unless its issuer says something else within the bounds.
const REFRESH: Duration = Duration::from_secs(5 * 60);
const LEAST_REFRESH: Duration = Duration::from_secs(60);
const LONGEST_REFRESH: Duration = Duration::from_secs(3600);
/// How long to wait after a fetch that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So long the last good set is used, in seconds.
const USABLE_SECONDS: u64 = 24 * 3600;

/// URLs with the policies that name them.
pub(super) type Named = BTreeMap<Arc<str>, Vec<Arc<Held>>>;

/// What is to be fetched.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeMap<Arc<str>, Entry>,
    /// URLs that are too many; bounded by the policies that name them.
    beyond: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    by: Vec<Arc<Held>>,
    /// `None` while it is being fetched.
    due: Option<Instant>,
    failures: u32,
    /// What proxies were told last.
    told: Option<KeySet>,
    /// It is to be fetched once more, as soon as the fetch that is under way is over.
    again: bool,
}

impl Agenda {
    /// Takes in which URLs are named now. A new one is fetched at once, and so is one whose policies changed: who changes a
    /// policy wants to see what becomes of it.
    pub(super) fn name(&mut self, mut named: Named, now: Instant) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.entries.retain(|url, _| {
            let stays = named.contains_key(url);
            if !stays {
                facts.push(Fact::Keys(url.clone(), None));
                facts.push(Fact::KeysFault(url.clone(), None));
            }
            stays
        });
        for (url, entry) in &mut self.entries {
            if let Some(by) = named.remove(url)
                && entry.by != by
            {
                entry.by = by;
                entry.soon(now);
            }
        }
        let mut beyond = BTreeSet::new();
        for (url, by) in named {
            let is_solved = self.beyond.remove(&url);
            if self.entries.len() < MAX_URLS {
                let entry = Entry { by, due: Some(now), failures: 0, told: None, again: false };
                if is_solved {
                    facts.push(Fact::KeysFault(url.clone(), None));
                }
                self.entries.insert(url, entry);
            } else {
                let why = format!("policies name more than {MAX_URLS} URLs of keys");
                beyond.insert(url.clone());
                facts.push(Fact::KeysFault(url, Some(why.into())));
            }
        }
        let gone = std::mem::replace(&mut self.beyond, beyond);
        facts.extend(gone.into_iter().map(|url| Fact::KeysFault(url, None)));
        facts
    }

    /// When there is something to fetch next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// What to fetch now; it is under way from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        let (url, entry) = due.min_by_key(|(_, entry)| entry.due)?;
        entry.due = None;
        Some(url.clone())
    }

    /// A set was fetched and is good. `now` is the moment, and the same in seconds since 1970. Proxies are told of a set that
    /// differs, and before half of the time is over for which they believe the last one.
    pub(super) fn fetched(&mut self, url: &Arc<str>, fetched: Fetched, now: (Instant, u64)) -> Vec<Fact> {
        let Some(entry) = self.entries.get_mut(url) else { return Vec::new() };
        let (now, now_unix) = now;
        entry.failures = 0;
        let refresh = fetched.max_age.unwrap_or(REFRESH).clamp(LEAST_REFRESH, LONGEST_REFRESH);
        entry.done(now, refresh);
        let mut facts = vec![Fact::KeysFault(url.clone(), None)];
        let half = now_unix + USABLE_SECONDS / 2;
        let is_fresh = |told: &KeySet| {
            *told.json == *fetched.json && told.usable_until.is_some_and(|until| until > half)
        };
        if !entry.told.as_ref().is_some_and(is_fresh) {
            let keys = KeySet { json: fetched.json.into(), usable_until: Some(now_unix + USABLE_SECONDS) };
            entry.told = Some(keys.clone());
            facts.push(Fact::Keys(url.clone(), Some(keys)));
        }
        facts
    }

    /// A fetch failed. What was good before stays.
    pub(super) fn failed(&mut self, url: &Arc<str>, why: &str, now: Instant) -> Vec<Fact> {
        let Some(entry) = self.entries.get_mut(url) else { return Vec::new() };
        let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16)).min(LONGEST_PAUSE);
        entry.failures = entry.failures.saturating_add(1);
        entry.done(now, pause);
        vec![Fact::KeysFault(url.clone(), Some(why.into()))]
    }
}

impl Entry {
    fn soon(&mut self, now: Instant) {
        match &mut self.due {
            Some(due) => *due = now,
            None => self.again = true,
        }
    }

    fn done(&mut self, now: Instant, pause: Duration) {
        let pause = if std::mem::take(&mut self.again) { FIRST_PAUSE } else { pause };
        self.due = Some(now + pause);
    }
}

#[cfg(test)]
mod tests;
