//! Retries. The standard form goes to everybody; our own goes beside it where the standard one cannot say it exactly
//! (no attempts, a wait of nothing, a 429 that says when to come back), which other clients would refuse.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RetryPolicy as Wire;
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryBackOff;
use http::StatusCode;

use super::MAX_RETRY_STATUSES;
use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::wire::{self, ours};
use crate::policy::{GrpcCodes, Hedge, RetryPolicy};

/// The shortest wait that Envoy distinguishes.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);
/// Without a longest wait Envoy and gRPC take so many times the shortest (gRFC A44).
const STANDARD_BACKOFF_FACTOR: u32 = 10;

/// What is always safe to retry, and what our proxies retry unasked.
const SAFE: &str = "connect-failure,refused-stream";
const RESET: &str = "reset";
const STATUSES: &str = "retriable-status-codes";
/// All of them, and resets.
const SERVER_ERROR: &str = "5xx";

/// What gRPC's clients and Envoy retry.
const GRPC: [(u8, &str); 5] = [
    (1, "cancelled"),
    (4, "deadline-exceeded"),
    (13, "internal"),
    (8, "resource-exhausted"),
    (14, "unavailable"),
];

/// The standard form, `None` where it has no way to say "no attempts".
pub(super) fn encode(policy: &RetryPolicy) -> Option<Wire> {
    if policy.attempts == 0 {
        return None;
    }
    let server_error = policy.on_reset && server_errors().all(|status| policy.statuses.contains(&status));
    let reset = if server_error { Some(SERVER_ERROR) } else { policy.on_reset.then_some(RESET) };
    let rest: Vec<u32> = match server_error {
        true => codes(policy).into_iter().filter(|code| !(500..600).contains(code)).collect(),
        false => codes(policy),
    };
    let statuses = (!rest.is_empty()).then_some(STATUSES);
    let grpc = GRPC.iter().filter(|(code, _)| policy.grpc.has(*code)).map(|(_, word)| *word);
    let words: Vec<_> = [Some(SAFE), reset, statuses].into_iter().flatten().chain(grpc).collect();
    let base = policy.backoff_base.max(SHORTEST_BACKOFF);
    Some(Wire {
        retry_on: words.join(","),
        num_retries: wire::number(policy.attempts),
        per_try_timeout: policy.per_try_timeout.map(wire::duration),
        retriable_status_codes: rest,
        retry_back_off: Some(RetryBackOff {
            base_interval: Some(wire::duration(base)),
            max_interval: Some(wire::duration(policy.backoff_max.max(base))),
        }),
        ..Wire::default()
    })
}

/// Our own form, `None` where the standard one says the same.
pub(super) fn encode_exact(policy: &RetryPolicy) -> Option<ours::RetryPolicy> {
    let standard = encode(policy).and_then(|wire| decode(&wire).ok());
    if standard.as_ref() == Some(policy) {
        return None;
    }
    Some(ours::RetryPolicy {
        attempts: policy.attempts,
        statuses: codes(policy),
        throttled: policy.throttled,
        grpc: policy.grpc.iter().map(u32::from).collect(),
        on_reset: policy.on_reset,
        per_try_timeout: policy.per_try_timeout.map(wire::duration),
        backoff_base: Some(wire::duration(policy.backoff_base)),
        backoff_max: Some(wire::duration(policy.backoff_max)),
    })
}

pub(super) fn decode(wire: &Wire) -> Decoded<RetryPolicy> {
    refuse(&[
        ("retriable_headers", !wire.retriable_headers.is_empty()),
        ("retriable_request_headers", !wire.retriable_request_headers.is_empty()),
        ("rate_limited_retry_back_off", wire.rate_limited_retry_back_off.is_some()),
        ("per_try_idle_timeout", wire::limits(wire.per_try_idle_timeout.as_ref())),
    ])?;
    let (mut statuses, mut on_reset, mut grpc) = (Vec::new(), false, GrpcCodes::default());
    at_most("retriable_status_codes", wire.retriable_status_codes.len(), MAX_RETRY_STATUSES)?;
    for word in wire.retry_on.split(',').map(str::trim) {
        match word {
            SERVER_ERROR => {
                statuses.extend(server_errors());
                on_reset = true;
            }
            "gateway-error" => {
                let gateway = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE];
                statuses.extend(gateway.into_iter().chain([StatusCode::GATEWAY_TIMEOUT]));
            }
            "retriable-4xx" => statuses.push(StatusCode::CONFLICT),
            STATUSES => {
                statuses.extend(decode_codes("retriable_status_codes", &wire.retriable_status_codes)?)
            }
            RESET => on_reset = true,
            // Safe ones are retried anyhow.
            "" | "connect-failure" | "refused-stream" | "reset-before-request" => {}
            other => {
                let code = GRPC.iter().find(|(_, word)| *word == other).map(|(code, _)| *code);
                let unknown = || Fault::new("retry_on", format!("{:?} is not supported", shorten(other)));
                grpc = grpc.with(code.ok_or_else(unknown)?);
            }
        }
        at_most("retry_on", statuses.len(), 2 * MAX_RETRY_STATUSES)?;
    }
    let per_try = wire::optional_duration("per_try_timeout", wire.per_try_timeout.as_ref())?;
    let (backoff_base, backoff_max) = decode_backoff(wire.retry_back_off.as_ref())?;
    let attempts = wire.num_retries.map_or(1, |attempts| attempts.value);
    let per_try_timeout = per_try.filter(|timeout| !timeout.is_zero());
    let throttled = false;
    Ok(RetryPolicy {
        attempts,
        statuses,
        throttled,
        grpc,
        on_reset,
        per_try_timeout,
        backoff_base,
        backoff_max,
    })
}

/// Reads our own form.
pub(super) fn decode_exact(wire: &ours::RetryPolicy) -> Decoded<RetryPolicy> {
    at_most("statuses", wire.statuses.len(), MAX_RETRY_STATUSES)?;
    let per_try_timeout = wire::optional_duration("per_try_timeout", wire.per_try_timeout.as_ref())?;
    let base = wire::optional_duration("backoff_base", wire.backoff_base.as_ref())?;
    let max = wire::optional_duration("backoff_max", wire.backoff_max.as_ref())?;
    at_most("grpc", wire.grpc.len(), usize::from(GrpcCodes::MAX) + 1)?;
    Ok(RetryPolicy {
        attempts: wire.attempts,
        statuses: decode_codes("statuses", &wire.statuses)?,
        throttled: wire.throttled,
        grpc: wire.grpc.iter().try_fold(GrpcCodes::default(), |codes, code| add_grpc(codes, *code))?,
        on_reset: wire.on_reset,
        per_try_timeout,
        backoff_base: base.unwrap_or_default(),
        backoff_max: max.unwrap_or_default(),
    })
}

pub(super) fn encode_hedge(hedge: &Hedge) -> ours::Hedge {
    ours::Hedge { delay_percentile: hedge.delay_percentile, max_extra_percent: hedge.max_extra_percent }
}

pub(super) fn decode_hedge(wire: &ours::Hedge) -> Decoded<Hedge> {
    Ok(Hedge {
        delay_percentile: wire::percent("delay_percentile", wire.delay_percentile)?,
        max_extra_percent: wire::percent("max_extra_percent", wire.max_extra_percent)?,
    })
}

fn add_grpc(codes: GrpcCodes, code: u32) -> Decoded<GrpcCodes> {
    match u8::try_from(code) {
        Ok(code) if code <= GrpcCodes::MAX => Ok(codes.with(code)),
        _ => Err(Fault::new("grpc", format!("{code} is not a status of gRPC"))),
    }
}

fn server_errors() -> impl Iterator<Item = StatusCode> {
    (500..600).filter_map(|code| StatusCode::from_u16(code).ok())
}

fn codes(policy: &RetryPolicy) -> Vec<u32> {
    policy.statuses.iter().map(|status| status.as_u16().into()).collect()
}

fn decode_codes(field: &str, codes: &[u32]) -> Decoded<Vec<StatusCode>> {
    let read = |code: &u32| u16::try_from(*code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let codes = codes
        .iter()
        .map(|code| read(code).ok_or_else(|| Fault::new(field, format!("{code} is not an HTTP status"))));
    codes.collect()
}

fn decode_backoff(wire: Option<&RetryBackOff>) -> Decoded<(Duration, Duration)> {
    let standard = RetryPolicy::default();
    let Some(wire) = wire else { return Ok((standard.backoff_base, standard.backoff_max)) };
    let base = wire::optional_duration("retry_back_off.base_interval", wire.base_interval.as_ref())?;
    let base = base.ok_or_else(|| Fault::new("retry_back_off.base_interval", "is missing"))?;
    let max = wire::optional_duration("retry_back_off.max_interval", wire.max_interval.as_ref())?;
    let max = max.unwrap_or_else(|| base.saturating_mul(STANDARD_BACKOFF_FACTOR));
    match base <= max {
        true => Ok((base, max)),
        false => Err(Fault::new("retry_back_off.max_interval", "is below base_interval")),
    }
}
