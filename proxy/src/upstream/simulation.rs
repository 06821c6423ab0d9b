//! Clients and servers in simulated time, for tests of the balancer's figures: the real choice, the real statistics, no
//! clock and chance by a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use outrigger_model::endpoint::{Endpoint as EndpointConfig, Locality};
use outrigger_model::policy::{LoadBalancer, LocalityMode, SlowStart};

use super::balance::{self, Choice};
use super::endpoint::{Endpoint, EndpointState};
use super::lease::Affinity;
use super::orca::Report;
use super::set::{EndpointSet, Purpose};
use super::spill::Spill;
use super::support::endpoint_config;

/// One step of simulated time.
const STEP: Duration = Duration::from_micros(500);
/// How fast a server's own view of its utilisation follows.
const UTILISATION_OVER: Duration = Duration::from_secs(1);

/// Something that answers.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) zone: &'static str,
    /// How long it works on a request.
    pub(super) service: Duration,
    /// When each of its hands is free.
    hands: Vec<Duration>,
    utilisation: f64,
    last: Duration,
    /// Requests it was given in the part that is measured.
    pub(super) requests: usize,
}

/// How clients behave.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) policy: LoadBalancer,
    pub(super) locality: Option<LocalityMode>,
    /// Of each client, in a second.
    pub(super) rate: f64,
    /// Whether servers report their utilisation.
    pub(super) reports: bool,
    /// How long the simulation runs before it is measured, and how long it is measured.
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) servers: Vec<Server>,
    /// Of every answer.
    pub(super) latencies: Vec<Duration>,
    /// Requests that stayed in the zone of their client, of 1.
    pub(super) local: f64,
}

/// One proxy with its own view of all endpoints.
struct Client {
    zone: &'static str,
    set: EndpointSet,
    spill: Spill,
    turn: AtomicUsize,
}

/// An answer on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    at: Duration,
    client: usize,
    index: usize,
    sent: Duration,
    utilisation_permille: u64,
}

impl Server {
    pub(super) fn new(zone: &'static str, service: Duration, hands: usize) -> Self {
        let hands = vec![Duration::ZERO; hands];
        Self { zone, service, hands, utilisation: 0.0, last: Duration::ZERO, requests: 0 }
    }

    /// Takes a request; when its answer is there.
    fn take(&mut self, now: Duration, rng: &mut fastrand::Rng) -> Duration {
        let passed = (now - self.last).as_secs_f64() / UTILISATION_OVER.as_secs_f64();
        self.last = now;
        // Times of service vary evenly between a half and one and a half of the mean.
        let service = self.service.mul_f64(0.5 + rng.f64());
        let added = service.as_secs_f64() / self.hands.len() as f64 / UTILISATION_OVER.as_secs_f64();
        self.utilisation = self.utilisation * (-passed).exp() + added;
        let hand = self.hands.iter_mut().min().expect("a server has a hand");
        *hand = (*hand).max(now) + service;
        *hand
    }
}

impl Client {
    fn new(zone: &'static str, servers: &[Server], rules: &Rules) -> Self {
        let endpoints = servers.iter().enumerate().map(|(place, server)| {
            let locality = Locality { region: "eu".into(), zone: server.zone.into() };
            let config = EndpointConfig { locality, ..endpoint_config(place as u8 + 1) };
            Arc::new(Endpoint::new(config, place as u32, 0, Arc::new(EndpointState::new())))
        });
        let here = Locality { region: "eu".into(), zone: zone.into() };
        let purpose = Purpose {
            load_balancer: &rules.policy,
            slow_start: None::<SlowStart>,
            locality: rules.locality,
            client: &here,
        };
        let set = EndpointSet::new(endpoints.collect(), purpose);
        Self { zone, set, spill: Spill::new(), turn: AtomicUsize::new(0) }
    }

    fn pick(&self, at: Duration, rules: &Rules, rng: &mut fastrand::Rng) -> usize {
        let choice = Choice {
            policy: &rules.policy,
            slow_start: None,
            at,
            tried: &[],
            affinity: Affinity::default(),
            turn: &self.turn,
            spill: &self.spill,
            reported: rules.reports,
        };
        balance::pick(&self.set, &choice, rng).expect("there are endpoints")
    }

    /// What `Live` and `Lease` do with the end of an attempt.
    fn answered(&self, answer: &Answer, rules: &Rules) {
        let state = &self.set.candidates()[answer.index].state;
        state.pending.fetch_sub(1, Relaxed);
        let took = answer.at - answer.sent;
        if let LoadBalancer::PeakEwma { decay, .. } = rules.policy {
            state.latency.observe(answer.at, took, decay);
        }
        self.spill.observe(usize::from(state.rank.load(Relaxed)), answer.at, took);
        if rules.reports {
            let utilisation = Some(answer.utilisation_permille as f64 / 1000.0);
            state.load.observe(answer.at, Report { utilisation, requests_per_second: None });
        }
    }
}

/// Runs clients in these zones against servers.
pub(super) fn run(zones: &[&'static str], mut servers: Vec<Server>, rules: &Rules) -> Measured {
    let clients: Vec<_> = zones.iter().map(|zone| Client::new(zone, &servers, rules)).collect();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut answers = BinaryHeap::new();
    let (mut latencies, mut local, mut sent) = (Vec::new(), 0_usize, 0_usize);
    let chance = rules.rate * STEP.as_secs_f64();
    let mut now = Duration::from_secs(1);
    let (begin, end) = (now + rules.warm_up, now + rules.warm_up + rules.measured);
    while now < end {
        now += STEP;
        while answers.peek().is_some_and(|Reverse(answer): &Reverse<Answer>| answer.at <= now) {
            let Some(Reverse(answer)) = answers.pop() else { break };
            clients[answer.client].answered(&answer, rules);
            if answer.sent >= begin {
                latencies.push(answer.at - answer.sent);
            }
        }
        for (number, client) in clients.iter().enumerate() {
            if rng.f64() >= chance {
                continue;
            }
            let index = client.pick(now, rules, &mut rng);
            let endpoint = &client.set.candidates()[index];
            endpoint.state.pending.fetch_add(1, Relaxed);
            let server = &mut servers[endpoint.number() as usize];
            let at = server.take(now, &mut rng);
            if now >= begin {
                server.requests += 1;
                sent += 1;
                local += usize::from(server.zone == client.zone);
            }
            let utilisation_permille = (server.utilisation * 1000.0) as u64;
            answers.push(Reverse(Answer { at, client: number, index, sent: now, utilisation_permille }));
        }
    }
    latencies.sort_unstable();
    Measured { servers, latencies, local: local as f64 / sent.max(1) as f64 }
}

impl Measured {
    /// How much the servers of a zone had to do, 1 being all their time.
    pub(super) fn utilisation(&self, zone: &str, measured: Duration) -> f64 {
        let of_zone = self.servers.iter().filter(|server| server.zone == zone);
        let work = |server: &Server| {
            server.service.as_secs_f64() * server.requests as f64 / server.hands.len() as f64
        };
        let count = of_zone.clone().count() as f64;
        of_zone.map(work).sum::<f64>() / measured.as_secs_f64() / count
    }

    /// The time that this part of the answers took at most.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * part) as usize]
    }
}
