//! Active health checks, in the standard fields whole.

use std::ops::RangeInclusive;

use envoy_types::pb::envoy::config::core::v3::HealthCheck as Wire;
use envoy_types::pb::envoy::config::core::v3::RequestMethod;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use http::uri::PathAndQuery;

use crate::cluster::UpstreamProtocol;
use crate::codec::MAX_STATUS_RANGES;
use crate::codec::fault::{Decoded, Fault, at_most, refuse};
use crate::codec::wire;
use crate::health_check::{HealthCheck, Probe};

/// How far checks are moved by chance, in percent of the interval, by clients of others.
const JITTER_PERCENT: u32 = 10;

/// Envoy's own: only 200 passes where the message does not say.
const STANDARD_STATUS: u16 = 200;

/// Without these, Envoy would take out an endpoint at its first other status, whatever the threshold.
const ALL_STATUSES: Int64Range = Int64Range { start: 100, end: 600 };

pub(super) fn encode(check: &HealthCheck, protocol: UpstreamProtocol) -> Wire {
    let checker = match &check.probe {
        Probe::Http { path, statuses } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            path: path.as_ref().into(),
            expected_statuses: statuses.iter().map(encode_range).collect(),
            retriable_statuses: vec![ALL_STATUSES],
            codec_client_type: match protocol {
                UpstreamProtocol::Http2 => CodecClientType::Http2.into(),
                UpstreamProtocol::Http1 | UpstreamProtocol::AsDownstream => CodecClientType::Http1.into(),
            },
            method: RequestMethod::Get.into(),
            ..HttpHealthCheck::default()
        }),
        Probe::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.as_ref().into(),
            ..GrpcHealthCheck::default()
        }),
        Probe::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    Wire {
        timeout: Some(wire::duration(check.timeout)),
        interval: Some(wire::duration(check.interval)),
        interval_jitter_percent: JITTER_PERCENT,
        unhealthy_threshold: wire::number(check.unhealthy_threshold),
        healthy_threshold: wire::number(check.healthy_threshold),
        health_checker: Some(checker),
        ..Wire::default()
    }
}

pub(super) fn decode(checks: &[Wire]) -> Decoded<Option<HealthCheck>> {
    at_most("health_checks", checks.len(), 1)?;
    checks.first().map(|wire| decode_one(wire).map_err(|fault| fault.within("health_checks[0]"))).transpose()
}

fn decode_one(wire: &Wire) -> Decoded<HealthCheck> {
    refuse(&[
        ("alt_port", wire.alt_port.is_some()),
        ("tls_options", wire.tls_options.is_some()),
        ("transport_socket_match_criteria", wire.transport_socket_match_criteria.is_some()),
    ])?;
    let time = |field: &str, value| match wire::optional_duration(field, value)? {
        Some(time) if !time.is_zero() => Ok(time),
        _ => Err(Fault::new(field, "is missing or 0")),
    };
    let threshold = |field: &str, value: Option<u32>| match value {
        Some(0) | None => Err(Fault::new(field, "is missing or 0")),
        Some(times) => Ok(times),
    };
    Ok(HealthCheck {
        probe: decode_probe(wire.health_checker.as_ref())?,
        interval: time("interval", wire.interval.as_ref())?,
        timeout: time("timeout", wire.timeout.as_ref())?,
        healthy_threshold: threshold("healthy_threshold", wire.healthy_threshold.map(|it| it.value))?,
        unhealthy_threshold: threshold("unhealthy_threshold", wire.unhealthy_threshold.map(|it| it.value))?,
    })
}

fn decode_probe(checker: Option<&HealthChecker>) -> Decoded<Probe> {
    match checker {
        Some(HealthChecker::HttpHealthCheck(check)) => {
            decode_http(check).map_err(|fault| fault.within("http_health_check"))
        }
        Some(HealthChecker::GrpcHealthCheck(check)) => {
            let more = [("initial_metadata", !check.initial_metadata.is_empty())];
            refuse(&more).map_err(|fault| fault.within("grpc_health_check"))?;
            Ok(Probe::Grpc { service: check.service_name.as_str().into() })
        }
        Some(HealthChecker::TcpHealthCheck(check)) => {
            let more = [
                ("send", check.send.is_some()),
                ("receive", !check.receive.is_empty()),
                ("proxy_protocol_config", check.proxy_protocol_config.is_some()),
            ];
            refuse(&more).map_err(|fault| fault.within("tcp_health_check"))?;
            Ok(Probe::Tcp)
        }
        Some(HealthChecker::CustomHealthCheck(_)) => {
            Err(Fault::new("custom_health_check", "is not supported"))
        }
        None => Err(Fault::new("health_checker", "is missing")),
    }
}

fn decode_http(check: &HttpHealthCheck) -> Decoded<Probe> {
    let other_method = !matches!(check.method(), RequestMethod::MethodUnspecified | RequestMethod::Get);
    refuse(&[
        ("send", check.send.is_some()),
        ("receive", !check.receive.is_empty()),
        ("request_headers_to_add", !check.request_headers_to_add.is_empty()),
        ("service_name_matcher", check.service_name_matcher.is_some()),
        ("method", other_method),
    ])?;
    if !check.path.starts_with('/') || check.path.parse::<PathAndQuery>().is_err() {
        return Err(Fault::new("path", "is not a path that starts with /"));
    }
    at_most("expected_statuses", check.expected_statuses.len(), MAX_STATUS_RANGES)?;
    let ranges = check.expected_statuses.iter().map(decode_range);
    let mut statuses: Vec<_> = ranges.collect::<Decoded<_>>()?;
    if statuses.is_empty() {
        statuses.push(STANDARD_STATUS..=STANDARD_STATUS);
    }
    Ok(Probe::Http { path: check.path.as_str().into(), statuses })
}

fn encode_range(range: &RangeInclusive<u16>) -> Int64Range {
    Int64Range { start: i64::from(*range.start()), end: i64::from(*range.end()) + 1 }
}

/// The standard's range ends before its end.
fn decode_range(range: &Int64Range) -> Decoded<RangeInclusive<u16>> {
    let known = 100 <= range.start && range.start < range.end && range.end <= 600;
    match (u16::try_from(range.start), u16::try_from(range.end)) {
        (Ok(start), Ok(end)) if known => Ok(start..=end - 1),
        _ => Err(Fault::new("expected_statuses", "has a range that is not within 100 to 599")),
    }
}
