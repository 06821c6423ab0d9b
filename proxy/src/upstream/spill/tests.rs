//! Who goes on to the next zone, and how much: by load, by health, and over time.

use outrigger_model::policy::{LoadBalancer, LocalityMode};

use super::*;
use crate::upstream::simulation::{Measured, Rules, Server, run};

const RUN: Duration = Duration::from_secs(40);

fn carried(utilisation: f64) -> Carried {
    Carried { endpoints: 5, in_use: 5, utilisation: Some(utilisation), latency_ns: None }
}

fn slow(millis: f64) -> Carried {
    Carried { utilisation: None, latency_ns: Some(millis * 1e6), ..carried(0.0) }
}

#[test]
fn a_share_rises_above_the_margin_falls_below_and_stays_between() {
    for (near, far, expected, what) in [
        (carried(0.9), carried(0.3), 1, "far above the mean"),
        (carried(0.52), carried(0.48), 0, "4 percent above: in between"),
        (carried(0.5), carried(0.5), 0, "equal"),
        (carried(0.4), carried(0.6), -1, "below"),
        (slow(10.0), slow(1.0), 1, "ten times slower"),
        (slow(1.3), slow(1.0), 0, "slower, but within what zones differ"),
        (slow(1.0), slow(2.0), -1, "faster"),
        (carried(0.9), slow(1.0), 0, "nothing to compare"),
        (Carried::default(), Carried::default(), 0, "nothing known"),
    ] {
        let step = next_share(0.5, near, far) - 0.5;
        assert_eq!(
            if step.abs() < 1e-9 { 0.0 } else { step.signum() },
            f64::from(expected),
            "{what}: {step}"
        );
        assert!(step.abs() <= MAX_STEP + 1e-9, "{what}: {step}");
    }
    assert_eq!(next_share(0.0, carried(0.1), carried(0.9)), 0.0);
}

#[test]
fn few_near_endpoints_in_use_spill_in_proportion() {
    for (in_use, expected) in [(10, 0.0), (8, 0.0), (5, 0.3), (1, 0.86), (0, 1.0)] {
        let share = by_health(Carried { endpoints: 10, in_use, ..Carried::default() });
        assert!((share - expected).abs() < 1e-9, "{in_use} of 10: {share}");
    }
}

fn zones(near: usize, far: usize) -> Vec<&'static str> {
    [vec!["a"; near], vec!["b"; far]].concat()
}

/// Ten clients and five servers in each of two zones, which have 60 % of their time to do.
fn simulate(zones: &[&'static str], mode: LocalityMode, reports: bool) -> Measured {
    let server = |zone| Server::new(zone, Duration::from_millis(20), 4);
    let servers = ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b"].map(server).to_vec();
    let rules = Rules {
        policy: LoadBalancer::default(),
        locality: Some(mode),
        rate: 120.0,
        reports,
        warm_up: RUN,
        measured: RUN,
    };
    run(zones, servers, &rules)
}

#[test]
fn zones_with_four_times_the_clients_end_equally_utilised() {
    let measured = simulate(&zones(8, 2), LocalityMode::PreferLocal, true);
    let (a, b) = (measured.utilisation("a", RUN), measured.utilisation("b", RUN));
    assert!((a / b - 1.0).abs() < 0.1, "a {a}, b {b}, local {}", measured.local);
    assert!(measured.local > 0.6, "what need not move stays: {}", measured.local);
}

#[test]
fn nine_of_ten_requests_stay_where_zones_are_balanced() {
    for reports in [true, false] {
        let measured = simulate(&zones(5, 5), LocalityMode::PreferLocal, reports);
        assert!(measured.local > 0.9, "reports {reports}: local {}", measured.local);
    }
}

#[test]
fn without_reports_an_overloaded_zone_is_relieved_too() {
    let strict = simulate(&zones(8, 2), LocalityMode::Strict, false);
    let measured = simulate(&zones(8, 2), LocalityMode::PreferLocal, false);
    assert_eq!(strict.local, 1.0);
    assert!(strict.utilisation("a", RUN) > 0.9, "{}", strict.utilisation("a", RUN));
    assert!(measured.utilisation("a", RUN) < 0.9, "{}", measured.utilisation("a", RUN));
    let (spilt, kept) = (measured.quantile(0.99), strict.quantile(0.99));
    assert!(spilt * 3 < kept * 2, "{spilt:?}, {kept:?}");
}

#[test]
fn where_locality_is_off_half_of_the_requests_leave() {
    let measured = simulate(&zones(5, 5), LocalityMode::Off, true);
    assert!((0.4..0.6).contains(&measured.local), "{}", measured.local);
}
