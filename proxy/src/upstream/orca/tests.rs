//! What is read of reports, and what is not.

use http::HeaderValue;

use super::*;

fn field(name: HeaderName, value: &[u8]) -> HeaderMap {
    let value = HeaderValue::from_bytes(value).expect("bytes that a field may have");
    [(name, value)].into_iter().collect()
}

fn of(value: &str) -> Option<Report> {
    report(&field(METRICS, value.as_bytes()))
}

fn says(utilisation: f64, rate: Option<f64>) -> Option<Report> {
    Some(Report { utilisation: Some(utilisation), requests_per_second: rate })
}

/// A message of the standard with all that is used, and maps beside it.
fn message() -> Vec<u8> {
    let mut bytes =
        OrcaLoadReport { cpu_utilization: 0.3, rps_fractional: 50.0, application_utilization: 0.5 }
            .encode_to_vec();
    // Field 5, an entry of a map: `cache` is 0.25.
    bytes.extend([0x2a, 16, 0x0a, 5]);
    bytes.extend(b"cache");
    bytes.push(0x11);
    bytes.extend(0.25_f64.to_le_bytes());
    bytes
}

#[test]
fn every_form_is_read() {
    let table = [
        ("TEXT cpu_utilization=0.3", says(0.3, None)),
        (
            "TEXT cpu_utilization=0.3,application_utilization=0.5, rps_fractional=100, eps=1",
            says(0.5, Some(100.0)),
        ),
        ("TEXT mem_utilization=0.2,named_metrics.queue=7,utilization.disk=0.1", Some(Report::default())),
        (r#"JSON {"cpu_utilization": 0.3, "named_metrics": {"x": 7}}"#, says(0.3, None)),
        (r#"JSON {"cpuUtilization": 1.5, "rpsFractional": 10}"#, says(1.5, Some(10.0))),
    ];
    for (value, expected) in table {
        assert_eq!(of(value), expected, "{value}");
    }
    let base64 = STANDARD.encode(message());
    assert_eq!(of(&format!("BIN {base64}")), says(0.5, Some(50.0)));
    for text in [base64.clone(), base64.trim_end_matches('=').to_owned()] {
        assert_eq!(report(&field(METRICS_BINARY, text.as_bytes())), says(0.5, Some(50.0)));
    }
}

#[test]
fn what_cannot_be_is_dropped_as_a_whole() {
    let long = format!("TEXT cpu_utilization=0.3,named_metrics.x={}", "1".repeat(MAX_REPORT_BYTES));
    let many = format!("TEXT cpu_utilization=0.3{}", ",named_metrics.x=1".repeat(MAX_VALUES));
    let table = [
        "",
        "TEXT",
        "TEXT ",
        "cpu_utilization=0.3",
        "text cpu_utilization=0.3",
        "TEXT cpu_utilization",
        "TEXT cpu_utilization=",
        "TEXT cpu_utilization=0.3,",
        "TEXT cpu_utilization=x",
        "TEXT cpu_utilization=-0.1",
        "TEXT cpu_utilization=NaN",
        "TEXT cpu_utilization=inf",
        "TEXT cpu_utilization=0.3,eps=-1",
        "TEXT cpu_utilization=101",
        "JSON",
        "JSON [0.3]",
        r#"JSON {"cpu_utilization": "0.3"}"#,
        r#"JSON {"cpu_utilization": -1}"#,
        r#"JSON {"named_metrics": {"x": "y"}, "cpu_utilization": 1}"#,
        "BIN !",
        "BIN AAAA",
        &long,
        &many,
    ];
    for value in table {
        assert_eq!(of(value), None, "{}", &value[..value.len().min(60)]);
    }
}

/// Damaged and random values never panic, and never say what a report cannot say.
#[test]
fn nothing_that_is_sent_does_harm() {
    let base64 = STANDARD.encode(message());
    let seeds = [
        "TEXT cpu_utilization=0.3,application_utilization=0.5,rps_fractional=100".to_owned(),
        r#"JSON {"cpuUtilization": 1.5, "namedMetrics": {"x": 7}}"#.to_owned(),
        format!("BIN {base64}"),
    ];
    let mut rng = fastrand::Rng::with_seed(4);
    let check = |value: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        for name in [METRICS, METRICS_BINARY] {
            let headers: HeaderMap = [(name, value.clone())].into_iter().collect();
            let Some(report) = report(&headers) else { continue };
            let said = [report.utilisation, report.requests_per_second];
            assert!(said.into_iter().flatten().all(|value| value > 0.0 && value.is_finite()), "{value:?}");
        }
    };
    for seed in &seeds {
        (0..seed.len()).for_each(|end| check(&seed.as_bytes()[..end]));
        for _ in 0..5_000 {
            let mut bytes = seed.clone().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            check(&bytes);
        }
    }
    for _ in 0..5_000 {
        let bytes: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
        check(&bytes);
        let _ = binary(STANDARD.encode(&bytes).as_bytes());
    }
}

#[test]
fn shares_are_what_would_make_each_full_and_reports_expire() {
    let at = Duration::from_secs(100);
    let load = |utilisation: f64, rate: Option<f64>| {
        let load = Load::new();
        load.observe(at, Report { utilisation: Some(utilisation), requests_per_second: rate });
        load
    };
    let ratio = |one: &Load, other: &Load| {
        one.factors(other, at).map(|factors| (factors.one / factors.other * 100.0).round() / 100.0)
    };
    assert_eq!(ratio(&load(0.5, Some(150.0)), &load(0.5, Some(50.0))), Some(3.0));
    assert_eq!(ratio(&load(0.25, None), &load(0.5, Some(50.0))), Some(2.0), "one does not say how many");
    assert_eq!(ratio(&load(0.25, None), &Load::new()), None);
    assert_eq!(load(0.25, None).utilisation(at + EXPIRES * 2), None);
    let empty = Load::new();
    empty.observe(at, Report::default());
    assert_eq!(empty.utilisation(at), None);
}
