//! When each endpoint of a cluster is checked next. Time and chance are arguments.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Jitter, as a share of the interval to either side.
const JITTER: f64 = 0.1;

/// The moments of the next checks, by the number of the endpoint.
pub(super) struct Agenda {
    interval: Duration,
    next: HashMap<u32, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    At(Instant),
    UnderWay,
}

impl Agenda {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: HashMap::new() }
    }

    /// Brings it to the endpoints that there are. Those that are new get their first check at any time within one
    /// interval, so that proxies that learn of them together do not ask together.
    pub(super) fn follow(
        &mut self,
        endpoints: impl Iterator<Item = u32> + Clone,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        for number in endpoints.clone() {
            let first = now + self.interval.mul_f64(rng.f64());
            self.next.entry(number).or_insert(Entry::At(first));
        }
        if self.next.len() > endpoints.clone().count() {
            let there: std::collections::HashSet<_> = endpoints.collect();
            self.next.retain(|number, _| there.contains(number));
        }
    }

    /// Whether a check of an endpoint begins now.
    pub(super) fn start(&mut self, number: u32, now: Instant) -> bool {
        match self.next.get_mut(&number) {
            Some(entry @ Entry::At(_)) if *entry <= Entry::At(now) => {
                *entry = Entry::UnderWay;
                true
            }
            _ => false,
        }
    }

    /// A check is over; the next is an interval later, with jitter.
    pub(super) fn done(&mut self, number: u32, now: Instant, rng: &mut fastrand::Rng) {
        if let Some(entry) = self.next.get_mut(&number) {
            *entry = Entry::At(now + self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64()));
        }
    }

    /// When the next check begins; `None` when nothing waits.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.next.values().filter_map(|entry| match entry {
            Entry::At(at) => Some(*at),
            Entry::UnderWay => None,
        });
        waiting.min()
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::At(a), Self::At(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn checks_are_spread_and_an_interval_apart() {
        let (now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(1));
        let mut agenda = Agenda::new(INTERVAL);
        agenda.follow(0..100, now, &mut rng);
        let early = (0..100).filter(|number| agenda.start(*number, now + INTERVAL / 2)).count();
        assert!((30..70).contains(&early), "{early} in the first half");
        let then = now + INTERVAL;
        assert_eq!((0..100).filter(|number| agenda.start(*number, then)).count(), 100 - early);
        assert_eq!(agenda.next(), None, "all are under way");
        for number in 0..100 {
            agenda.done(number, then, &mut rng);
        }
        assert!((0..100).all(|number| !agenda.start(number, then + INTERVAL.mul_f64(0.89))));
        assert!((0..100).all(|number| agenda.start(number, then + INTERVAL.mul_f64(1.11))));
    }

    #[test]
    fn who_leaves_is_forgotten_and_who_stays_keeps_the_time() {
        let (now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(1));
        let mut agenda = Agenda::new(INTERVAL);
        agenda.follow([1, 2].into_iter(), now, &mut rng);
        assert!(agenda.start(1, now + INTERVAL) && agenda.start(2, now + INTERVAL));
        agenda.done(2, now + INTERVAL, &mut rng);
        let next = agenda.next();
        agenda.follow([2].into_iter(), now + INTERVAL, &mut rng);
        agenda.done(1, now + INTERVAL, &mut rng);
        assert_eq!(agenda.next(), next);
        assert!(!agenda.start(1, now + INTERVAL * 5));
    }
}
