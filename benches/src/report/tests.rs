//! The report as a reader gets it.

use super::*;
use crate::contender::Contender;
use crate::measure::Measure;
use crate::sheet::{Round, Turns};

fn round(cpu: f64) -> Result<Round, String> {
    Ok(Round::from([
        (Measure::CpuPerRequest, cpu),
        (Measure::Requests, 1e6 / cpu),
        (Measure::Megabytes, 1e3 / cpu),
        (Measure::P50, 1500.0),
        (Measure::P99, 3000.0),
        (Measure::P999, 5000.4),
        (Measure::Rss, 12.34),
        (Measure::ProxyCore, 98.7),
        (Measure::WorkCore, 61.2),
        (Measure::Others, 0.8),
    ]))
}

fn s1() -> Sheet {
    let turns = |contender, rounds| Turns { scenario: Scenario::S1, contender, rounds };
    Sheet::new(vec![
        turns(Contender::Floor, vec![round(8.0), round(10.0), round(8.0)]),
        turns(Contender::Outrigger, vec![round(16.0), round(15.0), round(20.0)]),
        turns(Contender::Envoy, vec![round(50.0), Err("envoy ended\n# with a log".to_owned()), round(40.0)]),
        turns(Contender::Nginx, vec![round(12.5), round(12.5), round(12.5)]),
        turns(Contender::Haproxy, vec![round(16.0), round(15.0), round(16.0)]),
    ])
}

fn report(sheet: &Sheet, scenarios: &[Scenario]) -> Report {
    let plan = Plan { scenarios: scenarios.to_vec(), rounds: 3, ..Plan::quick() };
    make(&plan, &["a machine".to_owned()], sheet)
}

#[test]
fn a_report_has_targets_first_then_a_section_for_each_scenario() {
    let report = report(&s1(), &[Scenario::S1]);
    let (_, text) = report.markdown.split_once("\n## Targets\n").unwrap();
    assert_eq!(
        text,
        r#"
1 held, 1 missed.

|    | figure         | target            | verdict    |               found | rounds |
|----|----------------|-------------------|------------|---------------------|--------|
| S1 | CPU µs/request | <= 0.35 x Envoy   | **missed** | 0.410 (0.320–0.500) |      2 |
| S1 | CPU µs/request | <= 1.00 x HAProxy | held       | 1.000 (1.000–1.250) |      3 |

## Made on

- a machine

## S1: one hop, HTTP/1.1, 1 KiB, 64 connections

![S1: one hop, HTTP/1.1, 1 KiB, 64 connections](charts/s1.svg)

The byte relay is one process that copies between connections.

|            |    CPU µs/request | Outrigger / this |                requests/s | p50 µs | p99 µs | p99.9 µs | RSS MiB |
|------------|-------------------|------------------|---------------------------|--------|--------|----------|---------|
| byte relay | 8.00 (8.00–10.00) | 2.00 (1.50–2.50) | 125,000 (100,000–125,000) |  1,500 |  3,000 |    5,000 |    12.3 |
| Outrigger  |  16.0 (15.0–20.0) |                  |    62,500 (50,000–66,667) |  1,500 |  3,000 |    5,000 |    12.3 |
| Envoy      |  45.0 (40.0–50.0) | 0.41 (0.32–0.50) |    22,500 (20,000–25,000) |  1,500 |  3,000 |    5,000 |    12.3 |
| nginx      |              12.5 | 1.28 (1.20–1.60) |                    80,000 |  1,500 |  3,000 |    5,000 |    12.3 |
| HAProxy    |  16.0 (15.0–16.0) | 1.00 (1.00–1.25) |    62,500 (62,500–66,667) |  1,500 |  3,000 |    5,000 |    12.3 |

|            | proxies' core % | load's core % | others % |  limited by | valid runs |
|------------|-----------------|---------------|----------|-------------|------------|
| byte relay |              99 |            61 |        1 | the proxies |     3 of 3 |
| Outrigger  |              99 |            61 |        1 | the proxies |     3 of 3 |
| Envoy      |              99 |            61 |        1 | the proxies |     2 of 3 |
| nginx      |              99 |            61 |        1 | the proxies |     3 of 3 |
| HAProxy    |              99 |            61 |        1 | the proxies |     3 of 3 |

Void: Envoy, round 2:

    envoy ended
    # with a log
"#
    );
}

#[test]
fn a_verdict_on_what_others_disturbed_is_not_taken_for_one() {
    let calm = report(&s1(), &[Scenario::S1]);
    assert!(!calm.markdown.contains("disturbed"), "{}", calm.markdown);
    let busy = |contender, rounds: &[f64], others: f64| {
        let round = |&cpu: &f64| {
            let mut figures = round(cpu)?;
            figures.insert(Measure::Others, others);
            Ok(figures)
        };
        Turns { scenario: Scenario::S1, contender, rounds: rounds.iter().map(round).collect() }
    };
    let sheet =
        Sheet::new(vec![busy(Contender::Outrigger, &[15.0], 40.0), busy(Contender::Envoy, &[50.0], 1.0)]);
    let report = report(&sheet, &[Scenario::S1]);
    for line in [
        "1 held, 0 missed, 1 not known. **Not for quoting: S1**, where others took 10 % of a core or more while contenders had \
         their turns.",
        "| S1 | CPU µs/request | <= 0.35 x Envoy   | held, disturbed | 0.300 |      1 |",
        "| S1 | CPU µs/request | <= 1.00 x HAProxy | not known       |     - |      0 |",
    ] {
        assert!(report.markdown.lines().any(|found| found == line), "{line}\nis not in\n{}", report.markdown);
    }
}

#[test]
fn charts_are_linked_where_there_is_a_figure() {
    let sheet = s1();
    let report = report(&sheet, &[Scenario::S1, Scenario::S2]);
    let names: Vec<&str> = report.charts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["s1.svg"]);
    assert!(report.markdown.contains("](charts/s1.svg)\n"), "{}", report.markdown);
    assert!(!report.markdown.contains("s2.svg"), "{}", report.markdown);
}

#[test]
fn memory_and_the_control_plane_have_their_own_figures() {
    let of = |scenario, contender, figures: &[(Measure, f64)]| {
        let round = figures.iter().copied().collect::<Round>();
        Turns { scenario, contender, rounds: vec![Ok(round)] }
    };
    let held = |idle, each| [(Measure::IdleMib, idle), (Measure::KibPerConnection, each)];
    let fleet =
        [(Measure::ConvergeP99, 612.0), (Measure::ControlPlanePeakMib, 210.5), (Measure::CpuPerChange, 0.4)];
    let sheet = Sheet::new(vec![
        of(Scenario::S7, Contender::Outrigger, &held(12.0, 6.0)),
        of(Scenario::S7, Contender::Envoy, &held(60.0, 54.0)),
        of(Scenario::S7, Contender::Haproxy, &held(15.0, 2.125)),
        of(Scenario::S9, Contender::Outrigger, &fleet),
    ]);
    let report = report(&sheet, &[Scenario::S7, Scenario::S9]);
    for line in [
        "5 held, 1 missed.",
        "| S7 | KiB/connection       | <= 0.12 x Envoy   | held       | 0.111 |      1 |",
        "| S9 | acknowledged p99, ms | <= 500            | **missed** |   612 |      1 |",
        "|           | RSS idle, MiB | Outrigger / this | KiB/connection | Outrigger / this |",
        "| Envoy     |          60.0 |             0.20 |           54.0 |             0.11 |",
        "| HAProxy   |          15.0 |             0.80 |           2.12 |             2.82 |",
        "|           | acknowledged p99, ms | peak RSS MiB | CPU s/change |",
        "| Outrigger |                  612 |          210 |        0.400 |",
    ] {
        assert!(report.markdown.lines().any(|found| found == line), "{line}\nis not in\n{}", report.markdown);
    }
    let (_, chart) = report.charts.iter().find(|(name, _)| name == "s9.svg").unwrap();
    for text in [">612</text>", ">target</text>", ">500</text>"] {
        assert!(chart.contains(text), "{text} is not in {chart}");
    }
}

#[test]
fn what_has_no_valid_round_is_not_known() {
    let void = Turns {
        scenario: Scenario::S9,
        contender: Contender::Outrigger,
        rounds: vec![Err("proxy 17 was refused".to_owned())],
    };
    let report = report(&Sheet::new(vec![void]), &[Scenario::S9]);
    assert!(report.markdown.contains("0 held, 0 missed, 3 not known."), "{}", report.markdown);
    assert!(report.markdown.contains("Void: Outrigger, round 1:\n\n    proxy 17 was refused\n"));
    assert!(report.charts.is_empty());
}
