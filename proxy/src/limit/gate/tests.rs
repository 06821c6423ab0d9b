//! A simulated application behind the gate: storms and quiet times, without a clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn gate(min: u32, max: u32) -> Arc<Gate> {
    let config = ConcurrencyLimit { name: "InboundPolicy/shop/a".into(), min, max };
    Gate::new(config, Instant::now(), 7, Gauge::noop())
}

#[test]
fn a_place_is_given_back_whatever_becomes_of_the_request() {
    let gate = gate(2, 2);
    let now = gate.origin;
    let mut answered = gate.enter(now, 0).unwrap();
    let given_up = gate.enter(now, 0).unwrap();
    assert!(gate.enter(now, 0).is_none());
    answered.answered(now + MS(5));
    assert_eq!(gate.in_flight(), 2, "until its body is over");
    drop(answered);
    drop(given_up);
    assert_eq!(gate.in_flight(), 0);
}

#[test]
fn lower_classes_find_no_place_first() {
    let gate = gate(16, 16);
    let mut held = Vec::new();
    let mut let_in = [0; 4];
    for class in [3, 2, 1, 0] {
        while let Some(slot) = gate.enter(gate.origin, class) {
            held.push(slot);
            let_in[usize::from(class)] += 1;
        }
    }
    assert_eq!(let_in, [4, 4, 4, 4]);
}

#[test]
fn what_fails_at_once_is_not_taken_for_fast() {
    let gate = gate(1, 100);
    let start = gate.origin;
    for request in 0..25 {
        let now = start + MS(20 * request);
        gate.enter(now, 0).unwrap().answered(now + MS(20));
    }
    let limit = gate.limit();
    assert_eq!(limit, 40, "measured");
    for request in 0..1000 {
        let now = start + MS(600 + request);
        gate.enter(now, 0).unwrap().failed(now + MS(1));
    }
    assert_eq!(gate.sampled.load(Relaxed), 0);
    for request in 0..10 {
        let now = start + MS(2000 + 1000 * request);
        gate.enter(now, 0).unwrap().failed(now + MS(1000));
    }
    assert!(gate.limit() < limit, "what is waited for in vain is slow");
}

/// Callers of one class.
#[derive(Clone, Copy)]
struct Load {
    class: u8,
    per_second: f64,
}

/// An application that works on so many requests at once, each for so long, and lets the others wait in a line.
struct Simulation {
    gate: Arc<Gate>,
    rng: fastrand::Rng,
    workers: usize,
    service: Duration,
    now: Instant,
    /// When requests come, by class, and when the application is done with one.
    events: BinaryHeap<Reverse<(Instant, u32, Option<u8>)>>,
    waiting: VecDeque<(Slot, u8)>,
    working: VecDeque<(Slot, u8)>,
    number: u32,
}

/// What became of the requests of each class.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Outcome {
    came: [u32; 4],
    served: [u32; 4],
    slowest: Duration,
}

impl Outcome {
    fn served_percent(&self, class: usize) -> f64 {
        f64::from(self.served[class]) * 100.0 / f64::from(self.came[class].max(1))
    }

    fn total(&self) -> u32 {
        self.served.iter().sum()
    }
}

impl Simulation {
    fn new(workers: usize, service: Duration) -> Self {
        let gate = gate(4, 1000);
        Self {
            now: gate.origin,
            gate,
            rng: fastrand::Rng::with_seed(42),
            workers,
            service,
            events: BinaryHeap::new(),
            waiting: VecDeque::new(),
            working: VecDeque::new(),
            number: 0,
        }
    }

    /// Adds the next arrival of a class, at exponential distances.
    fn schedule(&mut self, load: Load) {
        let gap = -(1.0 - self.rng.f64()).ln() / load.per_second;
        self.at(self.now + Duration::from_secs_f64(gap), Some(load.class));
    }

    fn at(&mut self, when: Instant, what: Option<u8>) {
        self.number += 1;
        self.events.push(Reverse((when, self.number, what)));
    }

    fn run(&mut self, loads: &[Load], lasts: Duration) -> Outcome {
        let end = self.now + lasts;
        let mut outcome = Outcome::default();
        self.events.retain(|Reverse((_, _, class))| class.is_none());
        loads.iter().for_each(|load| self.schedule(*load));
        while let Some(Reverse((when, _, class))) = self.events.pop() {
            if when > end {
                self.events.push(Reverse((when, 0, class)));
                break;
            }
            self.now = when;
            match class {
                Some(class) => {
                    outcome.came[usize::from(class)] += 1;
                    if let Some(slot) = self.gate.enter(when, class) {
                        self.waiting.push_back((slot, class));
                    }
                    let load = loads.iter().find(|load| load.class == class).unwrap();
                    self.schedule(*load);
                }
                None => self.finish(&mut outcome),
            }
            self.start();
        }
        self.now = end;
        outcome
    }

    fn finish(&mut self, outcome: &mut Outcome) {
        let (mut slot, class) = self.working.pop_front().unwrap();
        slot.answered(self.now);
        outcome.served[usize::from(class)] += 1;
        outcome.slowest = outcome.slowest.max(self.now - slot.came);
    }

    fn start(&mut self) {
        while self.working.len() < self.workers {
            let Some(next) = self.waiting.pop_front() else { return };
            self.working.push_back(next);
            self.at(self.now + self.service, None);
        }
    }
}

/// An application that answers 100 requests a second is sent 300: what it can do is done, and the most important class
/// hardly notices. The time in which the limit is found counts too.
#[test]
fn under_three_times_the_load_the_application_does_what_it_can() {
    for (workers, service_ms) in [(10, 100), (1, 10), (4, 40)] {
        let mut simulation = Simulation::new(workers, MS(service_ms));
        let loads = [
            Load { class: 0, per_second: 50.0 },
            Load { class: 1, per_second: 150.0 },
            Load { class: 2, per_second: 100.0 },
        ];
        let outcome = simulation.run(&loads, Duration::from_secs(180));
        assert!(outcome.total() >= 90 * 180, "goodput: {outcome:?}");
        assert!(outcome.served_percent(0) >= 95.0, "class 0: {outcome:?}");
        assert!(outcome.served_percent(1) > outcome.served_percent(2), "{outcome:?}");
    }
}

/// Only requests of the last class come: they get all there is.
#[test]
fn who_is_alone_is_not_held_back_for_others() {
    let mut simulation = Simulation::new(10, MS(100));
    let outcome = simulation.run(&[Load { class: 3, per_second: 300.0 }], Duration::from_secs(60));
    assert!(outcome.total() >= 90 * 60, "{outcome:?}");
}

/// Nobody is refused by an application that keeps up, however long that goes on.
#[test]
fn below_capacity_nobody_is_refused() {
    let mut simulation = Simulation::new(10, MS(20));
    let outcome = simulation.run(&[Load { class: 1, per_second: 200.0 }], Duration::from_secs(120));
    assert!(outcome.served_percent(1) >= 99.9, "{outcome:?}");
}

/// A quiet time does not lift the limit to where a storm finds the door wide open.
#[test]
fn a_storm_after_a_quiet_time_makes_no_long_line() {
    let mut simulation = Simulation::new(10, MS(100));
    simulation.run(&[Load { class: 1, per_second: 20.0 }], Duration::from_secs(600));
    let outcome = simulation.run(&[Load { class: 1, per_second: 1000.0 }], Duration::from_secs(60));
    assert!(outcome.slowest < Duration::from_secs(1), "{outcome:?}");
    assert!(outcome.total() >= 90 * 60, "{outcome:?}");
}
