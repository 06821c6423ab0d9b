//! Whom the balancer picks: shares, slow endpoints, and what was tried before.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::upstream::support::set;

const PEAK: LoadBalancer =
    LoadBalancer::PeakEwma { default_round_trip: Duration::from_millis(30), decay: Duration::from_secs(10) };
const ALL: [LoadBalancer; 4] =
    [PEAK, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, LoadBalancer::Random];
const NOW: Duration = Duration::from_secs(100);

/// How often each was chosen of `picks`, without the requests ever ending or being counted.
fn shares(set: &EndpointSet, policy: LoadBalancer, tried: &[u32], picks: usize) -> Vec<usize> {
    let turn = AtomicUsize::new(0);
    let mut rng = fastrand::Rng::with_seed(7);
    let choice = Choice { policy, at: NOW, tried, turn: &turn };
    let mut counts = vec![0; set.candidates().len()];
    for _ in 0..picks {
        counts[pick(set, &choice, &mut rng).expect("there are endpoints")] += 1;
    }
    counts
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
    let turn = AtomicUsize::new(0);
    for policy in ALL {
        let choice = Choice { policy, at: NOW, tried: &[], turn: &turn };
        assert_eq!(pick(&set(&[]), &choice, &mut fastrand::Rng::with_seed(1)), None);
    }
}

#[test]
fn equals_get_equal_shares() {
    for policy in ALL {
        let counts = shares(&set(&[1, 1, 1, 1]), policy, &[], 40_000);
        check_share(&counts, &[25.0; 4], 1.5, &format!("{policy:?}"));
    }
}

#[test]
fn weights_are_honoured() {
    for policy in ALL {
        let counts = shares(&set(&[6, 3, 1]), policy, &[], 40_000);
        check_share(&counts, &[60.0, 30.0, 10.0], 1.5, &format!("{policy:?}"));
    }
    let counts = shares(&set(&[1_000_000, 3_000_000]), LoadBalancer::RoundRobin, &[], 4096);
    check_share(&counts, &[25.0, 75.0], 0.1, "weights beyond the longest order are scaled");
}

#[test]
fn round_robin_spreads_turns_evenly() {
    let set = set(&[3, 1]);
    let turn = AtomicUsize::new(0);
    let choice = Choice { policy: LoadBalancer::RoundRobin, at: NOW, tried: &[], turn: &turn };
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
    let counts = shares(&set, PEAK, &[], 10_000);
    assert_eq!(counts[3], 0, "of two the faster one is always taken: {counts:?}");

    // In proportion: 50 times slower is as good as 50 times as busy.
    for index in 0..3 {
        set.candidates()[index].state.pending.store(60, Relaxed);
    }
    let counts = shares(&set, PEAK, &[], 10_000);
    assert!(counts[3] > 4_000, "idle and slow beats busy and fast: {counts:?}");
}

#[test]
fn a_busy_endpoint_gets_less_and_weight_says_what_busy_means() {
    let set = set(&[1, 3]);
    set.candidates()[0].state.pending.store(2, Relaxed);
    set.candidates()[1].state.pending.store(3, Relaxed);
    let counts = shares(&set, LoadBalancer::LeastRequest, &[], 10_000);
    // The heavier one is less busy for its weight: it loses only when both draws are the other one.
    check_share(&counts, &[6.25, 93.75], 1.0, "least request");
}

#[test]
fn a_newcomer_gets_its_share_at_once_but_is_not_flooded() {
    let set = set(&[1, 1]);
    answered(&set, 0, 1);
    let counts = shares(&set, PEAK, &[], 10_000);
    check_share(&counts, &[50.0, 50.0], 2.0, "never used is as good as the other");
    set.candidates()[1].state.pending.store(1, Relaxed);
    assert_eq!(shares(&set, PEAK, &[], 1000)[1], 0, "one request in flight there is enough for now");

    let slow = super::super::support::set(&[1, 1]);
    answered(&slow, 0, 500);
    assert_eq!(shares(&slow, PEAK, &[], 1000)[0], 0, "the default is better than what is known to be slow");
}

#[test]
fn what_was_tried_is_avoided_while_others_are_left() {
    for policy in ALL {
        let set = set(&[1, 1, 1]);
        let counts = shares(&set, policy, &[1, 3], 100);
        assert_eq!(counts, [0, 100, 0], "{policy:?}");
        let counts = shares(&set, policy, &[1, 2, 3], 300);
        assert!(counts.iter().all(|count| *count > 0), "{policy:?}: all were tried: {counts:?}");
    }
}

#[test]
fn what_is_ejected_is_avoided_while_others_are_left() {
    for policy in ALL {
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
        let turn = AtomicUsize::new(seed as usize);
        let choice = Choice { policy, at: NOW, tried: &tried, turn: &turn };
        let chosen = pick(&set, &choice, &mut fastrand::Rng::with_seed(seed)).unwrap();
        let fresh = endpoints.iter().any(|e| !e.1 && !e.2);
        let in_use = endpoints.iter().any(|e| !e.1);
        if fresh { prop_assert!(!endpoints[chosen].1 && !endpoints[chosen].2); }
        else if in_use { prop_assert!(!endpoints[chosen].1); }
    }
}
