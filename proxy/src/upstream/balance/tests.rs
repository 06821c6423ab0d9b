//! Whom the balancer picks: shares, slow endpoints, and what was tried before.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::upstream::endpoint::EndpointState;
use crate::upstream::orca::Report;
use crate::upstream::set::Purpose;
use crate::upstream::simulation::{Rules, Server, run};
use crate::upstream::support::{endpoint_config, set, set_for};

const PEAK: LoadBalancer =
    LoadBalancer::PeakEwma { default_round_trip: Duration::from_millis(30), decay: Duration::from_secs(10) };
const ALL: [LoadBalancer; 4] =
    [PEAK, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, LoadBalancer::Random];
const NOW: Duration = Duration::from_secs(100);

/// How often each was chosen of `picks`, without the requests ever ending or being counted.
fn shares(set: &EndpointSet, policy: &LoadBalancer, tried: &[u32], picks: usize) -> Vec<usize> {
    let around = Around::at(0);
    let mut rng = fastrand::Rng::with_seed(7);
    let choice = Choice { tried, ..choice(policy, &around) };
    let mut counts = vec![0; set.candidates().len()];
    for _ in 0..picks {
        counts[pick(set, &choice, &mut rng).expect("there are endpoints")] += 1;
    }
    counts
}

/// What a choice goes by beyond its arguments.
struct Around {
    turn: AtomicUsize,
    spill: Spill,
}

impl Around {
    fn at(turn: usize) -> Self {
        Self { turn: AtomicUsize::new(turn), spill: Spill::new() }
    }
}

fn choice<'a>(policy: &'a LoadBalancer, around: &'a Around) -> Choice<'a> {
    Choice {
        policy,
        slow_start: None,
        at: NOW,
        tried: &[],
        affinity: Affinity::default(),
        turn: &around.turn,
        spill: &around.spill,
        reported: false,
    }
}

fn check_share(counts: &[usize], expected_percent: &[f64], within: f64, what: &str) {
    let total: usize = counts.iter().sum();
    for (count, expected) in counts.iter().zip(expected_percent) {
        let percent = *count as f64 * 100.0 / total as f64;
        assert!((percent - expected).abs() <= within, "{what}: {counts:?}, expected {expected_percent:?}");
    }
}

fn answered(set: &EndpointSet, index: usize, millis: u64) {
    set.candidates()[index].state.latency.observe(
        NOW,
        Duration::from_millis(millis),
        Duration::from_secs(10),
    );
}

fn eject(set: &EndpointSet, index: usize) {
    set.candidates()[index].state.eject(NOW + Duration::from_secs(1), 1);
}

#[test]
fn nobody_is_chosen_of_nobody() {
    let around = Around::at(0);
    for policy in &ALL {
        assert_eq!(pick(&set(&[]), &choice(policy, &around), &mut fastrand::Rng::with_seed(1)), None);
    }
}

#[test]
fn equals_get_equal_shares() {
    for policy in &ALL {
        let counts = shares(&set(&[1, 1, 1, 1]), policy, &[], 40_000);
        check_share(&counts, &[25.0; 4], 1.5, &format!("{policy:?}"));
    }
}

#[test]
fn weights_are_honoured() {
    for policy in &ALL {
        let counts = shares(&set(&[6, 3, 1]), policy, &[], 40_000);
        check_share(&counts, &[60.0, 30.0, 10.0], 1.5, &format!("{policy:?}"));
    }
    let counts = shares(&set(&[1_000_000, 3_000_000]), &LoadBalancer::RoundRobin, &[], 4096);
    check_share(&counts, &[25.0, 75.0], 0.1, "weights beyond the longest order are scaled");
}

#[test]
fn round_robin_spreads_turns_evenly() {
    let set = set(&[3, 1]);
    let around = Around::at(0);
    let choice = choice(&LoadBalancer::RoundRobin, &around);
    let mut rng = fastrand::Rng::with_seed(1);
    let order: Vec<_> = (0..8).map(|_| pick(&set, &choice, &mut rng).unwrap()).collect();
    assert_eq!(order, [0, 0, 1, 0, 0, 0, 1, 0]);
}

#[test]
fn a_slow_endpoint_gets_less() {
    let set = set(&[1, 1, 1, 1]);
    for (index, millis) in [(0, 1), (1, 1), (2, 1), (3, 50)] {
        answered(&set, index, millis);
    }
    let counts = shares(&set, &PEAK, &[], 10_000);
    assert_eq!(counts[3], 0, "of two the faster one is always taken: {counts:?}");

    // In proportion: 50 times slower is as good as 50 times as busy.
    for index in 0..3 {
        set.candidates()[index].state.pending.store(60, Relaxed);
    }
    let counts = shares(&set, &PEAK, &[], 10_000);
    assert!(counts[3] > 4_000, "idle and slow beats busy and fast: {counts:?}");
}

#[test]
fn a_busy_endpoint_gets_less_and_weight_says_what_busy_means() {
    let set = set(&[1, 3]);
    set.candidates()[0].state.pending.store(2, Relaxed);
    set.candidates()[1].state.pending.store(3, Relaxed);
    let counts = shares(&set, &LoadBalancer::LeastRequest, &[], 10_000);
    // The heavier one is less busy for its weight: it loses only when both draws are the other one.
    check_share(&counts, &[6.25, 93.75], 1.0, "least request");
}

#[test]
fn a_newcomer_gets_its_share_at_once_but_is_not_flooded() {
    let set = set(&[1, 1]);
    answered(&set, 0, 1);
    let counts = shares(&set, &PEAK, &[], 10_000);
    check_share(&counts, &[50.0, 50.0], 2.0, "never used is as good as the other");
    set.candidates()[1].state.pending.store(1, Relaxed);
    assert_eq!(shares(&set, &PEAK, &[], 1000)[1], 0, "one request in flight there is enough for now");

    let slow = super::super::support::set(&[1, 1]);
    answered(&slow, 0, 500);
    assert_eq!(shares(&slow, &PEAK, &[], 1000)[0], 0, "the default is better than what is known to be slow");
}

#[test]
fn what_was_tried_is_avoided_while_others_are_left() {
    for policy in &ALL {
        let set = set(&[1, 1, 1]);
        let counts = shares(&set, policy, &[1, 3], 100);
        assert_eq!(counts, [0, 100, 0], "{policy:?}");
        let counts = shares(&set, policy, &[1, 2, 3], 300);
        assert!(counts.iter().all(|count| *count > 0), "{policy:?}: all were tried: {counts:?}");
    }
}

#[test]
fn what_is_ejected_is_avoided_while_others_are_left() {
    for policy in &ALL {
        let set = set(&[5, 1, 1]);
        eject(&set, 0);
        let counts = shares(&set, policy, &[], 300);
        assert_eq!(counts[0], 0, "{policy:?}");
        let counts = shares(&set, policy, &[2, 3], 300);
        assert_eq!(counts[0], 0, "{policy:?}: tried is better than ejected");
        eject(&set, 1);
        eject(&set, 2);
        assert_eq!(
            shares(&set, policy, &[], 300).iter().sum::<usize>(),
            300,
            "{policy:?}: better than nobody"
        );
    }
}

proptest! {
    #[test]
    fn whoever_is_chosen_may_be_chosen(
        endpoints in prop::collection::vec((1_u32..100, any::<bool>(), any::<bool>(), 0_u32..50), 1..20),
        policy in prop::sample::select(ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = endpoints.iter().map(|e| e.0).collect();
        let set = set(&weights);
        let mut tried = Vec::new();
        for (index, (_, ejected, was_tried, pending)) in endpoints.iter().enumerate() {
            set.candidates()[index].state.pending.store(*pending, Relaxed);
            if *ejected { eject(&set, index); }
            if *was_tried { tried.push(index as u32 + 1); }
        }
        let around = Around::at(seed as usize);
        let choice = Choice { tried: &tried, ..choice(&policy, &around) };
        let chosen = pick(&set, &choice, &mut fastrand::Rng::with_seed(seed)).unwrap();
        let fresh = endpoints.iter().any(|e| !e.1 && !e.2);
        let in_use = endpoints.iter().any(|e| !e.1);
        if fresh { prop_assert!(!endpoints[chosen].1 && !endpoints[chosen].2); }
        else if in_use { prop_assert!(!endpoints[chosen].1); }
    }
}

/// Both ways of hashing, on the address of the client.
fn hashing() -> [LoadBalancer; 2] {
    let on = outrigger_model::policy::HashOn::SourceIp;
    [LoadBalancer::RingHash(on.clone()), LoadBalancer::Maglev(on)]
}

fn picked(set: &EndpointSet, policy: &LoadBalancer, tried: &[u32], affinity: Affinity) -> usize {
    let around = Around::at(0);
    let choice = Choice { tried, affinity, ..choice(policy, &around) };
    pick(set, &choice, &mut fastrand::Rng::with_seed(3)).expect("there are endpoints")
}

#[test]
fn a_key_keeps_its_endpoint_and_others_keep_theirs_when_one_is_passed_over() {
    for policy in hashing() {
        let set = set_for(&[1; 5], &policy);
        let owner =
            |tried: &[u32], key| picked(&set, &policy, tried, Affinity { key: Some(key), session: None });
        let keys: Vec<u64> = crate::upstream::support::keys().take(500).collect();
        let before: Vec<_> = keys.iter().map(|key| owner(&[], *key)).collect();
        assert_eq!(before, keys.iter().map(|key| owner(&[], *key)).collect::<Vec<_>>(), "{policy:?}");
        for (key, before) in keys.iter().zip(&before) {
            assert_eq!(owner(&[3], *key) == *before, *before != 2, "{policy:?}: tried");
        }
        eject(&set, 2);
        for (key, before) in keys.iter().zip(&before) {
            assert_eq!(owner(&[], *key) == *before, *before != 2, "{policy:?}: ejected");
        }
        (0..5).for_each(|index| eject(&set, index));
        for (key, before) in keys.iter().zip(&before) {
            assert_eq!(owner(&[], *key), *before, "{policy:?}: all are out, and one is as good as another");
        }
    }
}

#[test]
fn without_a_key_hashing_takes_anybody_by_weight() {
    for policy in hashing() {
        let counts = shares(&set_for(&[3, 1], &policy), &policy, &[], 20_000);
        check_share(&counts, &[75.0, 25.0], 4.0, &format!("{policy:?}"));
    }
}

#[test]
fn a_session_finds_its_endpoint_while_that_is_in_use() {
    let set = set(&[1; 5]);
    let affinity = Affinity { key: None, session: Some(set.candidates()[3].token()) };
    for policy in &ALL {
        for _ in 0..20 {
            assert_eq!(picked(&set, policy, &[], affinity), 3, "{policy:?}");
        }
        assert_ne!(picked(&set, policy, &[4], affinity), 3, "{policy:?}: it was tried");
    }
    let gone = Affinity { session: Some(7), ..affinity };
    assert!(picked(&set, &PEAK, &[], gone) < 5);
    eject(&set, 3);
    assert_ne!(picked(&set, &PEAK, &[], affinity), 3, "it is ejected");
}

/// Nine endpoints and one that came a while ago.
fn with_newcomer(policy: &LoadBalancer, slow_start: SlowStart, age: Duration) -> EndpointSet {
    let endpoint = |place: u8| {
        let state = if place == 9 { EndpointState::newcomer(NOW - age) } else { EndpointState::new() };
        std::sync::Arc::new(Endpoint::new(endpoint_config(place + 1), u32::from(place) + 1, 0, state.into()))
    };
    let purpose = Purpose {
        load_balancer: policy,
        slow_start: Some(slow_start),
        locality: None,
        client: &outrigger_model::endpoint::Locality::default(),
    };
    EndpointSet::new((0..10).map(endpoint).collect(), purpose)
}

#[test]
fn a_newcomer_of_ten_grows_from_one_percent_to_its_ten() {
    let slow_start = SlowStart { window: Duration::from_secs(30), min_weight_percent: 10 };
    for policy in &ALL {
        for (age_seconds, weight) in [(0, 0.1), (15, 0.5), (24, 0.8), (30, 1.0), (60, 1.0)] {
            let set = with_newcomer(policy, slow_start, Duration::from_secs(age_seconds));
            let around = Around::at(0);
            let choice = Choice { slow_start: Some(&slow_start), ..choice(policy, &around) };
            let mut rng = fastrand::Rng::with_seed(5);
            let picks = 20_000;
            let new = (0..picks).filter(|_| pick(&set, &choice, &mut rng) == Some(9)).count();
            let (share, expected) = (new as f64 * 100.0 / f64::from(picks), weight * 100.0 / (9.0 + weight));
            assert!(
                (share - expected).abs() < 1.0,
                "{policy:?} after {age_seconds} s: {share} %, not {expected} %"
            );
        }
    }
}

#[test]
fn a_newcomer_alone_takes_everything() {
    let slow_start = SlowStart { window: Duration::from_secs(30), min_weight_percent: 0 };
    for policy in &ALL {
        let set = with_newcomer(policy, slow_start, Duration::ZERO);
        (0..9).for_each(|index| eject(&set, index));
        let around = Around::at(0);
        let choice = Choice { slow_start: Some(&slow_start), ..choice(policy, &around) };
        let mut rng = fastrand::Rng::with_seed(5);
        assert!((0..100).all(|_| pick(&set, &choice, &mut rng) == Some(9)), "{policy:?}");
    }
}

#[test]
fn what_endpoints_report_of_themselves_is_a_weight() {
    for policy in [PEAK, LoadBalancer::LeastRequest] {
        let set = set(&[1, 1]);
        for (index, utilisation) in [(0, 0.25), (1, 0.75)] {
            let report = Report { utilisation: Some(utilisation), requests_per_second: None };
            set.candidates()[index].state.load.observe(NOW, report);
        }
        let around = Around::at(0);
        let reported = Choice { reported: true, ..choice(&policy, &around) };
        let mut rng = fastrand::Rng::with_seed(5);
        let mut counts = [0, 0];
        (0..20_000).for_each(|_| counts[pick(&set, &reported, &mut rng).unwrap()] += 1);
        check_share(&counts, &[75.0, 25.0], 1.5, &format!("{policy:?}"));
        let later = Choice { at: NOW + Duration::from_secs(60), ..reported };
        let mut counts = [0, 0];
        (0..20_000).for_each(|_| counts[pick(&set, &later, &mut rng).unwrap()] += 1);
        check_share(&counts, &[50.0, 50.0], 1.5, "reports are old");
    }
}

/// Five servers of which one is ten times slower: how long the slowest of a hundred answers takes.
fn slowest_of_a_hundred(policy: LoadBalancer) -> Duration {
    let mut servers = vec![Server::new("a", Duration::from_millis(10), 8); 5];
    servers[4].service = Duration::from_millis(100);
    let rules = Rules {
        policy,
        locality: None,
        rate: 100.0,
        reports: false,
        warm_up: Duration::from_secs(5),
        measured: Duration::from_secs(30),
    };
    run(&["a", "a"], servers, &rules).quantile(0.99)
}

#[test]
fn a_slow_endpoint_of_five_is_avoided_where_round_robin_meets_it() {
    let (round_robin, peak) = (slowest_of_a_hundred(LoadBalancer::RoundRobin), slowest_of_a_hundred(PEAK));
    assert!(round_robin >= peak * 3, "round robin {round_robin:?}, peak EWMA {peak:?}");
}
