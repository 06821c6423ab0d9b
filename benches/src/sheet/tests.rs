//! What instruments say becomes figures by round, and only rounds that ran side by side are compared.

use super::*;
use crate::figures::LatencyFigures;
use crate::fleet::Percentiles;
use crate::memory::Resident;

fn figures(cpu: Option<f64>, p50_us: f64) -> Figures {
    Figures {
        cpu_us_per_request: cpu,
        cpu_s_per_gb: None,
        requests_per_s: Some(2000.0),
        mb_per_s: 2.0,
        latency: Some(LatencyFigures { p50_us, p99_us: 900.0, p999_us: 1900.0 }),
        rss_mib: cpu.map(|_| 12.5),
        proxy_core_percent: 10.0,
        work_core_percent: 20.0,
        others_percent: 1.0,
    }
}

fn turns(contender: Contender, rounds: Vec<Result<Figures, String>>) -> Turns {
    Turns::of_rounds(&Outcome { scenario: Scenario::S8, contender, rounds })
}

fn sheet() -> Sheet {
    let void = || Err("64 connections failed".to_owned());
    let ok = |cpu, p50| Ok(figures(cpu, p50));
    Sheet::new(vec![
        turns(Contender::Direct, vec![ok(None, 100.0), ok(None, 110.0), void()]),
        turns(Contender::Outrigger, vec![ok(Some(60.0), 250.0), void(), ok(Some(80.0), 300.0)]),
        turns(Contender::Envoy, vec![ok(Some(120.0), 400.0), ok(Some(100.0), 410.0), ok(Some(100.0), 420.0)]),
        turns(Contender::Nginx, vec![void(), void(), void()]),
    ])
}

#[test]
fn what_a_proxy_adds_is_counted_from_no_proxy_in_the_same_round() {
    let sheet = sheet();
    let added = |contender| sheet.turns(Scenario::S8, contender).unwrap().figures(Measure::AddedP50);
    assert_eq!(added(Contender::Outrigger), [Some(150.0), None, None]);
    assert_eq!(added(Contender::Envoy), [Some(300.0), Some(300.0), None]);
    assert_eq!(added(Contender::Direct), [None; 3]);
}

#[test]
fn a_ratio_is_of_rounds_in_which_both_are_valid() {
    let sheet = sheet();
    let ratios = |measure, theirs| sheet.ratios(Scenario::S8, measure, theirs);
    assert_eq!(ratios(Measure::CpuPerRequest, Contender::Envoy), [0.5, 0.8]);
    assert_eq!(ratios(Measure::AddedP50, Contender::Envoy), [0.5]);
    for contender in [Contender::Nginx, Contender::Haproxy, Contender::Direct] {
        assert_eq!(ratios(Measure::CpuPerRequest, contender), [0.0; 0], "{contender}");
    }
}

#[test]
fn a_void_round_is_told_by_its_number() {
    let sheet = sheet();
    let ours = sheet.turns(Scenario::S8, Contender::Outrigger).unwrap();
    assert_eq!(ours.voids().collect::<Vec<_>>(), [(2, "64 connections failed")]);
    assert_eq!((ours.valid(), ours.spread(Measure::CpuPerRequest).unwrap().median), (2, 70.0));
    assert_eq!(sheet.empty().map(|turns| turns.contender).collect::<Vec<_>>(), [Contender::Nginx]);
}

#[test]
fn where_nothing_is_measured_there_is_no_figure() {
    let direct = Turns::of_rounds(&Outcome {
        scenario: Scenario::S8,
        contender: Contender::Direct,
        rounds: vec![Ok(figures(None, 100.0))],
    });
    for measure in [Measure::CpuPerRequest, Measure::CpuPerGb, Measure::Rss, Measure::ProxyCore] {
        assert_eq!(direct.figures(measure), [None], "{measure:?}");
    }
    assert_eq!(direct.figures(Measure::WorkCore), [Some(20.0)]);
}

#[test]
fn memory_has_a_round_for_each_start() {
    let resident = |rss_mib| Resident { rss_mib, pss_mib: 9.0, anonymous_mib: 5.0 };
    let held =
        MemoryFigures::Held { idle: resident(10.0), connected: resident(12.0), kib_per_connection: 2.048 };
    let starts = vec![Ok(held), Err("it did not start".to_owned())];
    let turns =
        Turns::of_memory(&MemoryOutcome { scenario: Scenario::S7, contender: Contender::Haproxy, starts });
    for (measure, figure) in [
        (Measure::IdleMib, 10.0),
        (Measure::ConnectedMib, 12.0),
        (Measure::KibPerConnection, 2.048),
        (Measure::PssMib, 9.0),
        (Measure::AnonymousMib, 5.0),
    ] {
        assert_eq!(turns.figures(measure), [Some(figure), None], "{measure:?}");
    }
    assert_eq!(of_memory(&MemoryFigures::Mesh(resident(33.0)))[&Measure::MeshMib], 33.0);
}

#[test]
fn the_control_plane_has_one_round() {
    let outcome = FleetOutcome {
        proxies: 1000,
        services: 5000,
        changes: 20,
        converge_ms: Percentiles { p50: 80.0, p99: 240.0, max: 300.0 },
        cpu_s_per_change: 0.25,
        rss_mib: 200.0,
        peak_rss_mib: 280.0,
        start_seconds: 1.5,
        first_sync_seconds: 4.0,
    };
    let turns = Turns::of_fleet(Ok(outcome));
    for (measure, figure) in [
        (Measure::ConvergeP50, 80.0),
        (Measure::ConvergeP99, 240.0),
        (Measure::ConvergeMax, 300.0),
        (Measure::CpuPerChange, 0.25),
        (Measure::ControlPlaneMib, 200.0),
        (Measure::ControlPlanePeakMib, 280.0),
        (Measure::StartSeconds, 1.5),
        (Measure::FirstSyncSeconds, 4.0),
    ] {
        assert_eq!(turns.figures(measure), [Some(figure)], "{measure:?}");
    }
    assert_eq!(Turns::of_fleet(Err("no proxy came".to_owned())).valid(), 0);
}
