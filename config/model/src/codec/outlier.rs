//! Passive ejection. Ours counts errors in a row and the success rate of each endpoint by itself, which the standard
//! calls consecutive 5xx and failure percentage; its comparison with the other endpoints (success rate) is not ours.

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection as Wire;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::fault::{Decoded, Fault, refuse};
use super::wire::{self, ours};
use crate::policy::OutlierDetection;

/// How many endpoints a cluster has at least before Envoy and gRPC eject one by its failure percentage: we never
/// eject the last one.
const MINIMUM_HOSTS: u32 = 2;
/// Envoy's own number of errors in a row, for a message that does not say.
const STANDARD_CONSECUTIVE_ERRORS: u32 = 5;
/// Envoy's own failure percentage, for a message that does not say.
const STANDARD_FAILURE_PERCENTAGE: u32 = 85;

pub(super) fn encode(outlier: &OutlierDetection) -> Wire {
    let failures = (100.0 - outlier.success_rate_percent).round().clamp(1.0, 100.0) as u32;
    let by_rate = outlier.success_rate_percent > 0.0;
    Wire {
        consecutive_5xx: wire::number(outlier.consecutive_errors),
        interval: Some(wire::duration(outlier.window)),
        base_ejection_time: Some(wire::duration(outlier.base_ejection_time)),
        max_ejection_time: Some(wire::duration(outlier.max_ejection_time)),
        max_ejection_percent: wire::number(outlier.max_ejection_percent),
        enforcing_success_rate: wire::number(0),
        failure_percentage_threshold: wire::number(failures),
        failure_percentage_request_volume: wire::number(outlier.minimum_requests),
        failure_percentage_minimum_hosts: wire::number(MINIMUM_HOSTS),
        enforcing_failure_percentage: wire::number(if by_rate { 100 } else { 0 }),
        ..Wire::default()
    }
}

/// What the standard form rounds.
pub(super) fn encode_exact(outlier: &OutlierDetection) -> ours::OutlierDetection {
    ours::OutlierDetection { success_rate_percent: outlier.success_rate_percent }
}

pub(super) fn decode(wire: &Wire, exact: Option<&ours::OutlierDetection>) -> Decoded<OutlierDetection> {
    let on = |percent: Option<UInt32Value>, standard: u32| percent.map_or(standard, |it| it.value) > 0;
    refuse(&[
        ("monitors", !wire.monitors.is_empty()),
        ("enforcing_success_rate", on(wire.enforcing_success_rate, 0)),
    ])?;
    let standard = OutlierDetection::default();
    let five = on(wire.enforcing_consecutive_5xx, 100).then_some(wire.consecutive_5xx);
    let gateway =
        on(wire.enforcing_consecutive_gateway_failure, 0).then_some(wire.consecutive_gateway_failure);
    let count = five.or(gateway).map(|count| count.map_or(STANDARD_CONSECUTIVE_ERRORS, |it| it.value));
    let max_ejection_percent = wire.max_ejection_percent.map_or(standard.max_ejection_percent, |it| it.value);
    if max_ejection_percent > 100 {
        return Err(Fault::new("max_ejection_percent", format!("is {max_ejection_percent}, above 100")));
    }
    let time = |field, value: Option<_>, default| {
        wire::optional_duration(field, value.as_ref()).map(|time| time.unwrap_or(default))
    };
    let requests = wire.failure_percentage_request_volume;
    Ok(OutlierDetection {
        consecutive_errors: count.unwrap_or(u32::MAX),
        success_rate_percent: success_rate(wire, exact)?,
        minimum_requests: requests.map_or(standard.minimum_requests, |it| it.value),
        window: time("interval", wire.interval, standard.window)?,
        base_ejection_time: time("base_ejection_time", wire.base_ejection_time, standard.base_ejection_time)?,
        max_ejection_time: time("max_ejection_time", wire.max_ejection_time, standard.max_ejection_time)?,
        max_ejection_percent,
    })
}

fn success_rate(wire: &Wire, exact: Option<&ours::OutlierDetection>) -> Decoded<f64> {
    if let Some(exact) = exact {
        return wire::percent("success_rate_percent", exact.success_rate_percent);
    }
    if wire.enforcing_failure_percentage.is_none_or(|percent| percent.value == 0) {
        return Ok(0.0);
    }
    let failures = wire.failure_percentage_threshold.map_or(STANDARD_FAILURE_PERCENTAGE, |it| it.value);
    wire::percent("failure_percentage_threshold", 100.0 - f64::from(failures))
}
