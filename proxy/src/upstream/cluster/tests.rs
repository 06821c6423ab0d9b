//! Clusters under changes of configuration: state that stays, limits that hold, counts that come back.

use std::sync::Barrier;
use std::time::Duration;

use outrigger_model::endpoint::Health;
use outrigger_model::policy::{Limits, LoadBalancer, OutlierDetection, RetryBudget};

use super::*;
use crate::upstream::support::{cluster, config, endpoint_config, endpoints, metric, telemetry};
use crate::upstream::{Affinity, EndpointStateView, Outcome};

/// A cluster under a clock that is moved by hand.
struct Hand {
    telemetry: Telemetry,
    cluster: Arc<Cluster>,
    now: Instant,
    rng: fastrand::Rng,
}

impl Hand {
    fn new(change: impl FnOnce(&mut Config), count: u8) -> Self {
        let telemetry = telemetry();
        let cluster = cluster(&telemetry, change, count);
        let now = cluster.live.origin;
        Self { telemetry, cluster, now, rng: fastrand::Rng::with_seed(3) }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn lease(&mut self, tried: &[u32]) -> Result<Lease, Reason> {
        let mut context =
            PickContext { now: self.now, rng: &mut self.rng, tried, affinity: Affinity::default() };
        self.cluster.lease(&mut context)
    }

    /// One request to one endpoint, by keeping away from all others.
    fn request(&mut self, number: u32, outcome: Outcome) {
        let others: Vec<u32> = (1..=10).filter(|other| *other != number).collect();
        let lease = self.lease(&others).unwrap();
        assert_eq!(lease.endpoint().number(), number);
        lease.outcome(self.now, outcome);
    }

    fn fail_until_ejected(&mut self, number: u32) {
        for _ in 0..7 {
            if self.state(number) != EndpointStateView::Ejected {
                self.request(number, Outcome::Failure);
            }
        }
        assert_eq!(self.state(number), EndpointStateView::Ejected);
    }

    fn state(&self, number: u32) -> EndpointStateView {
        self.cluster.view(self.now).endpoints[number as usize - 1].state
    }

    fn ejected_for(&self, number: u32) -> Duration {
        let view = self.cluster.view(self.now).endpoints[number as usize - 1].clone();
        Duration::from_millis(view.ejected_for_ms.expect("ejected"))
    }

    fn endpoints_metric(&self, state: &str) -> f64 {
        metric(&self.telemetry, "outrigger_upstream_endpoints", &format!("state=\"{state}\""))
    }
}

#[test]
fn nothing_is_leased_of_nothing() {
    let mut hand = Hand::new(|_| {}, 0);
    assert_eq!(hand.lease(&[]).err(), Some(Reason::NoEndpoint));
    assert_eq!(hand.cluster.view(hand.now).limits.requests.current, 0);
}

#[test]
fn a_lease_counts_until_it_is_dropped() {
    let mut hand = Hand::new(|_| {}, 1);
    let lease = hand.lease(&[]).unwrap();
    let view = hand.cluster.view(hand.now);
    assert_eq!((view.endpoints[0].pending, view.limits.requests.current), (1, 1));
    drop(lease);
    let view = hand.cluster.view(hand.now);
    assert_eq!((view.endpoints[0].pending, view.limits.requests.current), (0, 0));
    assert_eq!((view.endpoints[0].requests_total, view.endpoints[0].ewma_ms), (0, None), "neither nor");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_while_waiting_gives_its_counts_back() {
    let mut hand = Hand::new(|_| {}, 1);
    let lease = hand.lease(&[]).unwrap();
    let request = async move {
        let _held = lease;
        std::future::pending::<()>().await;
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
    let view = hand.cluster.view(hand.now);
    assert_eq!((view.endpoints[0].pending, view.limits.requests.current), (0, 0));
}

#[test]
fn latency_is_counted_from_sending_and_only_once() {
    let mut hand = Hand::new(|_| {}, 1);
    let lease = hand.lease(&[]).unwrap();
    lease.sent(hand.now + Duration::from_millis(100));
    lease.outcome(hand.now + Duration::from_millis(104), Outcome::Success);
    lease.outcome(hand.now + Duration::from_secs(9), Outcome::Failure);
    drop(lease);
    let view = hand.cluster.view(hand.now + Duration::from_millis(104)).endpoints.remove(0);
    assert!((3.9..4.1).contains(&view.ewma_ms.unwrap()), "{view:?}");
    assert_eq!((view.requests_total, view.requests_failed), (1, 0));
}

#[test]
fn failing_fast_does_not_look_fast() {
    let mut hand = Hand::new(|config| config.outlier = None, 2);
    hand.request(1, Outcome::Success);
    hand.request(2, Outcome::Failure);
    let view = hand.cluster.view(hand.now);
    assert!(view.endpoints[1].ewma_ms.unwrap() > 29.0, "the default at least: {view:?}");
}

#[test]
fn the_limit_on_requests_is_reached_and_counted() {
    let limits = Limits { max_requests: 2, ..Limits::default() };
    let mut hand = Hand::new(|config| config.limits = limits, 1);
    let one = hand.lease(&[]).unwrap();
    let _two = hand.lease(&[]).unwrap();
    assert_eq!(hand.lease(&[]).err(), Some(Reason::Overflow));
    assert_eq!(metric(&hand.telemetry, "outrigger_upstream_overflow_total", "limit=\"requests\""), 1.0);
    drop(one);
    assert!(hand.lease(&[]).is_ok());
}

#[test]
fn retries_are_bounded_by_the_budget_and_by_the_limit() {
    let budget = RetryBudget { percent: 50.0, min_retries_per_second: 0, interval: Duration::from_secs(10) };
    let mut hand = Hand::new(|config| config.retry_budget = budget, 1);
    assert!(hand.cluster.allow_retry(hand.now).is_none(), "no request yet");
    for _ in 0..20 {
        drop(hand.lease(&[]));
    }
    for _ in 0..20 {
        drop(hand.lease(&[1]));
    }
    let held: Vec<_> = (0..3).map(|_| hand.cluster.allow_retry(hand.now).expect("within both")).collect();
    assert!(hand.cluster.allow_retry(hand.now).is_none(), "three in flight are the limit");
    drop(held);
    let allowed = (0..20).filter(|_| hand.cluster.allow_retry(hand.now).is_some()).count();
    assert_eq!(allowed, 7, "half of 20 requests, 3 were used; an attempt that is a retry is no request");
    for (outcome, count) in [("allowed", 10.0), ("limit", 1.0), ("budget", 14.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(metric(&hand.telemetry, "outrigger_upstream_retries_total", &label), count, "{outcome}");
    }
    assert_eq!(hand.cluster.view(hand.now).limits.retries.current, 0);
}

#[test]
fn an_endpoint_is_ejected_probed_ejected_for_longer_and_restored() {
    let mut hand = Hand::new(|_| {}, 3);
    hand.fail_until_ejected(2);
    assert_eq!(hand.endpoints_metric("ejected"), 1.0);
    assert_eq!(metric(&hand.telemetry, "outrigger_upstream_ejections_total", "reviews"), 1.0);
    let first = hand.ejected_for(2);
    assert!((900..=1100).contains(&first.as_millis()), "{first:?}");
    for _ in 0..50 {
        assert_ne!(hand.lease(&[]).unwrap().endpoint().number(), 2);
    }

    hand.pass(first + Duration::from_millis(1));
    let probe = hand.lease(&[]).unwrap();
    assert_eq!(probe.endpoint().number(), 2, "the first request after the time is the probe");
    assert_eq!((hand.state(2), hand.endpoints_metric("probing")), (EndpointStateView::Probing, 1.0));
    for _ in 0..50 {
        assert_ne!(hand.lease(&[]).unwrap().endpoint().number(), 2, "one at a time");
    }
    probe.outcome(hand.now, Outcome::ServerError);
    drop(probe);
    let second = hand.ejected_for(2);
    assert!((1800..=2200).contains(&second.as_millis()), "{second:?}");

    hand.pass(second + Duration::from_millis(1));
    drop(hand.lease(&[]).unwrap());
    let probe = hand.lease(&[]).unwrap();
    assert_eq!(probe.endpoint().number(), 2, "a probe that was given up is made again");
    probe.outcome(hand.now, Outcome::Success);
    assert_eq!((hand.state(2), hand.endpoints_metric("healthy")), (EndpointStateView::Healthy, 3.0));
    for _ in 0..4 {
        hand.request(2, Outcome::Failure);
    }
    assert_eq!(hand.state(2), EndpointStateView::Healthy, "errors of before are forgotten");
}

#[test]
fn a_request_that_was_under_way_neither_restores_nor_lengthens_an_ejection() {
    let mut hand = Hand::new(|_| {}, 2);
    let early: Vec<Lease> = (0..2).map(|_| hand.lease(&[2]).unwrap()).collect();
    hand.fail_until_ejected(1);
    let before = hand.ejected_for(1);
    early[0].outcome(hand.now, Outcome::Success);
    early[1].outcome(hand.now, Outcome::Failure);
    assert_eq!(hand.ejected_for(1), before);
}

#[test]
fn a_low_success_rate_ejects() {
    let mut hand = Hand::new(|_| {}, 2);
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Success, Outcome::ServerError] {
        hand.request(1, outcome);
    }
    assert_eq!(hand.state(1), EndpointStateView::Healthy, "too few requests to tell");
    hand.request(1, Outcome::Failure);
    assert_eq!(hand.state(1), EndpointStateView::Ejected);
}

#[test]
fn the_last_endpoint_stays_and_half_of_many() {
    let mut hand = Hand::new(|_| {}, 1);
    for _ in 0..100 {
        hand.request(1, Outcome::Failure);
    }
    assert_eq!(hand.state(1), EndpointStateView::Healthy);

    let mut hand = Hand::new(|_| {}, 4);
    hand.fail_until_ejected(1);
    hand.fail_until_ejected(2);
    for _ in 0..100 {
        hand.request(3, Outcome::Failure);
    }
    assert_eq!(hand.state(3), EndpointStateView::Healthy);
}

#[test]
fn two_workers_at_once_do_not_eject_the_last_two() {
    let all =
        OutlierDetection { max_ejection_percent: 100, consecutive_errors: 1, ..OutlierDetection::default() };
    for round in 0..200 {
        let mut hand = Hand::new(|config| config.outlier = Some(all), 2);
        let leases = [hand.lease(&[2]).unwrap(), hand.lease(&[1]).unwrap()];
        let (barrier, now) = (Barrier::new(2), hand.now);
        std::thread::scope(|scope| {
            for lease in leases {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    lease.outcome(now, Outcome::Failure);
                });
            }
        });
        let healthy = [1, 2].into_iter().filter(|n| hand.state(*n) == EndpointStateView::Healthy).count();
        assert!(healthy >= 1, "round {round}");
    }
}

/// Who takes requests, by number.
fn takers(hand: &mut Hand) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..200).map(|_| hand.lease(&[]).unwrap().endpoint().number()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn who_asks_for_patience_is_left_alone_for_so_long() {
    let mut hand = Hand::new(|_| {}, 4);
    hand.request(1, Outcome::AskedToWait(Some(Duration::from_secs(20))));
    assert_eq!(takers(&mut hand), [2, 3, 4]);
    let view = hand.cluster.view(hand.now).endpoints[0].clone();
    assert_eq!(view.state, EndpointStateView::Healthy, "it is no ejection");
    assert!((20_000..=22_000).contains(&view.resting_for_ms.unwrap()), "{view:?}");
    assert_eq!(metric(&hand.telemetry, "outrigger_upstream_ejections_total", ""), 0.0);
    hand.pass(Duration::from_secs(19));
    assert_eq!(takers(&mut hand), [2, 3, 4]);
    hand.pass(Duration::from_secs(3));
    assert_eq!(takers(&mut hand), [1, 2, 3, 4]);
    // Asking again does not lengthen anything by itself, and without a time it is as long as the first ejection.
    hand.request(1, Outcome::AskedToWait(None));
    hand.pass(Duration::from_millis(900));
    assert_eq!(takers(&mut hand), [2, 3, 4]);
    hand.pass(Duration::from_millis(201));
    assert_eq!(takers(&mut hand), [1, 2, 3, 4]);
}

#[test]
fn patience_has_a_bound_and_enough_endpoints_stay() {
    let mut hand = Hand::new(|_| {}, 4);
    for number in 1..=4 {
        hand.request(number, Outcome::AskedToWait(Some(Duration::from_secs(86_400))));
    }
    assert_eq!(takers(&mut hand), [3, 4], "half of them stay");
    // The longest ejection is 60 s; a tenth of jitter comes on top.
    hand.pass(Duration::from_secs(67));
    assert_eq!(takers(&mut hand), [1, 2, 3, 4]);
    let mut last = Hand::new(|_| {}, 1);
    last.request(1, Outcome::AskedToWait(Some(Duration::from_secs(20))));
    assert_eq!(last.cluster.view(last.now).endpoints[0].resting_for_ms, None, "never the last one");
    let mut off = Hand::new(|config| config.outlier = None, 4);
    off.request(1, Outcome::AskedToWait(Some(Duration::from_secs(20))));
    assert_eq!(takers(&mut off), [1, 2, 3, 4]);
}

#[test]
fn draining_endpoints_are_used_only_when_nothing_else_is_left() {
    let mut hand = Hand::new(|_| {}, 0);
    let draining = |last| EndpointConfig { health: Health::Draining, ..endpoint_config(last) };
    hand.cluster.set_endpoints(&endpoints(vec![draining(1), endpoint_config(2)]), &hand.telemetry);
    for _ in 0..50 {
        assert_eq!(hand.lease(&[]).unwrap().endpoint().config().address.to_string(), "10.0.0.2:80");
    }
    assert_eq!((hand.endpoints_metric("draining"), hand.endpoints_metric("healthy")), (1.0, 1.0));
    hand.cluster.set_endpoints(&endpoints(vec![draining(1)]), &hand.telemetry);
    assert_eq!(hand.lease(&[]).unwrap().endpoint().config().address.to_string(), "10.0.0.1:80");
}

#[test]
fn what_is_known_of_endpoints_survives_changes() {
    let mut hand = Hand::new(|_| {}, 3);
    hand.fail_until_ejected(1);
    hand.request(2, Outcome::Success);
    let held = hand.lease(&[1, 3]).unwrap();
    let before = hand.cluster.view(hand.now).endpoints;

    let heavier = EndpointConfig { weight: 9, ..endpoint_config(2) };
    let new = vec![endpoint_config(1), heavier, endpoint_config(4)];
    hand.cluster.set_endpoints(&endpoints(new.clone()), &hand.telemetry);
    let after = hand.cluster.view(hand.now).endpoints;
    assert_eq!(after[0], before[0], "still ejected");
    assert_eq!((after[1].weight, after[1].pending, after[1].requests_total), (9, 1, 1));
    assert_eq!(hand.lease(&[1, 2]).unwrap().endpoint().number(), 4, "numbers are not given twice");

    let random = config(|config| config.load_balancer = LoadBalancer::Random);
    let next = Cluster::new(random, Some(&hand.cluster), &hand.telemetry);
    assert_eq!(next.view(hand.now).endpoints, hand.cluster.view(hand.now).endpoints);
    drop(held);
    assert_eq!(next.view(hand.now).endpoints[1].pending, 0, "given back to the endpoint it was taken from");
    assert_eq!(next.view(hand.now).limits.requests.current, 0);

    drop(std::mem::replace(&mut hand.cluster, next));
    assert_eq!((hand.endpoints_metric("ejected"), hand.endpoints_metric("healthy")), (1.0, 2.0));
}

#[test]
fn another_identity_at_the_same_address_is_another_endpoint() {
    let mut hand = Hand::new(|_| {}, 2);
    hand.fail_until_ejected(1);
    let identity = Some("spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap());
    let renamed = EndpointConfig { identity, ..endpoint_config(1) };
    hand.cluster.set_endpoints(&endpoints(vec![renamed.clone(), renamed]), &hand.telemetry);
    let view = hand.cluster.view(hand.now);
    assert_eq!(view.endpoints.len(), 1, "listed twice, one endpoint");
    assert_eq!(view.endpoints[0].state, EndpointStateView::Healthy);
}

#[test]
fn ejection_turned_off_takes_everybody_back() {
    let mut hand = Hand::new(|_| {}, 2);
    hand.fail_until_ejected(1);
    let next = Cluster::new(config(|config| config.outlier = None), Some(&hand.cluster), &hand.telemetry);
    hand.cluster = next;
    assert_eq!(hand.state(1), EndpointStateView::Healthy);
    for _ in 0..20 {
        hand.request(1, Outcome::Failure);
    }
    assert_eq!(hand.state(1), EndpointStateView::Healthy);
}

#[test]
fn an_ejection_that_outlives_its_policy_ends_with_the_next_answer() {
    let strict = OutlierDetection { consecutive_errors: 1, ..OutlierDetection::default() };
    let mut hand = Hand::new(|config| config.outlier = Some(strict), 2);
    let early = hand.lease(&[2]).unwrap();
    hand.cluster = Cluster::new(config(|config| config.outlier = None), Some(&hand.cluster), &hand.telemetry);
    early.outcome(hand.now, Outcome::Failure);
    assert_eq!(hand.state(1), EndpointStateView::Ejected, "by the policy it was leased under");
    hand.pass(Duration::from_secs(2));
    let probe = hand.lease(&[]).unwrap();
    assert_eq!(probe.endpoint().number(), 1);
    probe.outcome(hand.now, Outcome::ServerError);
    assert_eq!(hand.state(1), EndpointStateView::Healthy);
}

#[test]
fn the_gauges_of_a_service_add_up_and_go_with_its_clusters() {
    let telemetry = telemetry();
    let one = cluster(&telemetry, |_| {}, 3);
    let other = cluster(&telemetry, |config| config.name = "outbound|9090|reviews.shop".into(), 2);
    let healthy = || metric(&telemetry, "outrigger_upstream_endpoints", "state=\"healthy\"");
    assert_eq!(healthy(), 5.0);
    let moved = config(|config| config.service.namespace = "other".into());
    let moved = Cluster::new(moved, Some(&one), &telemetry);
    assert_eq!(moved.view(moved.live.origin).endpoints.len(), 3);
    drop(one);
    assert_eq!(
        metric(
            &telemetry,
            "outrigger_upstream_endpoints",
            "namespace=\"shop\",destination_service=\"reviews\",state=\"healthy\""
        ),
        2.0
    );
    drop(other);
    drop(moved);
    assert_eq!(healthy(), 0.0);
}

#[test]
fn a_view_is_plain_json() {
    let hand = Hand::new(|_| {}, 1);
    let json = serde_json::to_value(hand.cluster.view(hand.now)).unwrap();
    assert_eq!(json["endpoints"][0]["state"], "healthy");
    assert_eq!(json["endpoints"][0]["address"], "10.0.0.1:80");
    assert_eq!(json["limits"]["requests"], serde_json::json!({"current": 0, "max": 1024}));
}
