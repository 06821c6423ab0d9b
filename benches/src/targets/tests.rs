//! A verdict follows from the median of the ratios, and from nothing less.

use super::*;
use crate::sheet::{Round, Turns};

fn turns(scenario: Scenario, (contender, measure): (Contender, Measure), figures: &[Option<f64>]) -> Turns {
    let round =
        |figure: &Option<f64>| figure.map(|figure| Round::from([(measure, figure)])).ok_or("void".to_owned());
    Turns { scenario, contender, rounds: figures.iter().map(round).collect() }
}

/// The ratio, the number of rounds and the verdict on each target of S1, S6 or S9.
fn judged(scenario: Scenario, figures: &[(Contender, &[Option<f64>])]) -> Vec<(Option<f64>, usize, Verdict)> {
    let measure = Measure::keys(scenario)[0];
    let all = figures.iter().map(|&(contender, figures)| turns(scenario, (contender, measure), figures));
    let judged = judge(&Sheet::new(all.collect()), &[scenario]);
    let of_measure = judged.iter().filter(|judgement| judgement.target.measure == measure);
    of_measure.map(|found| (found.found.map(|spread| spread.median), found.rounds, found.verdict)).collect()
}

#[test]
fn the_median_of_the_ratios_is_judged() {
    let ours: &[_] = &[Some(30.0), Some(35.0), Some(90.0)];
    let envoy: &[_] = &[Some(100.0), Some(100.0), Some(100.0)];
    // The median of HAProxy's own figures would let this pass; its ratios are 1.0, 1.4 and 1.5.
    let haproxy: &[_] = &[Some(30.0), Some(25.0), Some(60.0)];
    let found = judged(S1, &[(Outrigger, ours), (Envoy, envoy), (Haproxy, haproxy)]);
    assert_eq!(found, [(Some(0.35), 3, Verdict::Held), (Some(1.4), 3, Verdict::Missed)]);
}

#[test]
fn nothing_is_held_without_a_round_to_judge_by() {
    let found = judged(S1, &[(Outrigger, &[Some(1.0), None]), (Envoy, &[None, Some(100.0)])]);
    assert_eq!(found, [(None, 0, Verdict::Unknown); 2]);
}

#[test]
fn the_best_peer_is_who_needs_least() {
    let all = |nginx: &[Option<f64>]| {
        let one = |figure: f64| vec![Some(figure)];
        judged(S6, &[(Outrigger, &one(0.50)), (Envoy, &one(0.47)), (Nginx, nginx), (Haproxy, &one(0.40))])
    };
    assert_eq!(all(&[Some(0.84)])[1], (Some(0.50 / 0.40), 1, Verdict::Missed));
    assert_eq!(all(&[Some(0.25)])[1], (Some(2.0), 1, Verdict::Missed));
    assert_eq!(all(&[None])[1], (None, 0, Verdict::Unknown));
}

#[test]
fn a_figure_can_have_a_bound_of_its_own() {
    assert_eq!(judged(S9, &[(Outrigger, &[Some(500.0)])]), [(Some(500.0), 1, Verdict::Held)]);
    assert_eq!(judged(S9, &[(Outrigger, &[Some(500.1)])]), [(Some(500.1), 1, Verdict::Missed)]);
    assert_eq!(judged(S9, &[(Outrigger, &[None])]), [(None, 0, Verdict::Unknown)]);
}

#[test]
fn only_what_was_planned_is_judged() {
    let judged = judge(&Sheet::default(), &[S9]);
    assert!(judged.len() == 3 && judged.iter().all(|judgement| judgement.target.scenario == S9));
}

#[test]
fn every_scenario_has_a_target_on_what_it_is_judged_by_and_only_on_who_takes_part() {
    for scenario in Scenario::ALL {
        let of: Vec<&Target> = ALL.iter().filter(|target| target.scenario == scenario).collect();
        for key in Measure::keys(scenario) {
            assert!(of.iter().any(|target| target.measure == *key), "{scenario} {key:?}");
        }
        for target in of {
            assert!(Measure::keys(scenario).contains(&target.measure), "{target:?}");
            if let Bound::Times(_, other) = target.bound {
                assert!(scenario.contenders().contains(&other), "{target:?}");
            }
        }
    }
}

#[test]
fn targets_are_in_the_order_of_the_scenarios() {
    let place = |target: &Target| Scenario::ALL.iter().position(|scenario| *scenario == target.scenario);
    assert!(ALL.is_sorted_by_key(place));
}
