//! Retries. The standard form goes to everybody; our own goes beside it where the standard one cannot say it exactly
//! (no attempts, a wait of nothing), which other clients would refuse.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RetryPolicy as Wire;
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryBackOff;
use http::StatusCode;

use super::MAX_RETRY_STATUSES;
use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::wire::{self, ours};
use crate::policy::RetryPolicy;

/// The shortest wait that Envoy distinguishes.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);
/// Without a longest wait Envoy and gRPC take so many times the shortest (gRFC A44).
const STANDARD_BACKOFF_FACTOR: u32 = 10;

/// What is always safe to retry, and what our proxies retry unasked.
const SAFE: &str = "connect-failure,refused-stream";
const RESET: &str = "reset";
const STATUSES: &str = "retriable-status-codes";

/// The standard form, `None` where it has no way to say "no attempts".
pub(super) fn encode(policy: &RetryPolicy) -> Option<Wire> {
    if policy.attempts == 0 {
        return None;
    }
    let reset = policy.on_reset.then_some(RESET);
    let statuses = (!policy.statuses.is_empty()).then_some(STATUSES);
    let words: Vec<_> = [Some(SAFE), reset, statuses].into_iter().flatten().collect();
    let base = policy.backoff_base.max(SHORTEST_BACKOFF);
    Some(Wire {
        retry_on: words.join(","),
        num_retries: wire::number(policy.attempts),
        per_try_timeout: policy.per_try_timeout.map(wire::duration),
        retriable_status_codes: codes(policy),
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
    let (mut statuses, mut on_reset) = (Vec::new(), false);
    at_most("retriable_status_codes", wire.retriable_status_codes.len(), MAX_RETRY_STATUSES)?;
    for word in wire.retry_on.split(',').map(str::trim) {
        match word {
            "5xx" => {
                statuses.extend((500..600).filter_map(|code| StatusCode::from_u16(code).ok()));
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
            // Safe ones are retried anyhow. gRPC's own conditions are for its clients: less is retried than was
            // asked, which is safe too.
            "" | "connect-failure" | "refused-stream" | "reset-before-request" => {}
            "cancelled" | "deadline-exceeded" | "internal" | "resource-exhausted" | "unavailable" => {}
            other => {
                return Err(Fault::new("retry_on", format!("{:?} is not supported", shorten(other))));
            }
        }
        at_most("retry_on", statuses.len(), 2 * MAX_RETRY_STATUSES)?;
    }
    let per_try = wire::optional_duration("per_try_timeout", wire.per_try_timeout.as_ref())?;
    let (backoff_base, backoff_max) = decode_backoff(wire.retry_back_off.as_ref())?;
    let attempts = wire.num_retries.map_or(1, |attempts| attempts.value);
    let per_try_timeout = per_try.filter(|timeout| !timeout.is_zero());
    Ok(RetryPolicy { attempts, statuses, on_reset, per_try_timeout, backoff_base, backoff_max })
}

/// Reads our own form.
pub(super) fn decode_exact(wire: &ours::RetryPolicy) -> Decoded<RetryPolicy> {
    at_most("statuses", wire.statuses.len(), MAX_RETRY_STATUSES)?;
    let per_try_timeout = wire::optional_duration("per_try_timeout", wire.per_try_timeout.as_ref())?;
    let base = wire::optional_duration("backoff_base", wire.backoff_base.as_ref())?;
    let max = wire::optional_duration("backoff_max", wire.backoff_max.as_ref())?;
    Ok(RetryPolicy {
        attempts: wire.attempts,
        statuses: decode_codes("statuses", &wire.statuses)?,
        on_reset: wire.on_reset,
        per_try_timeout,
        backoff_base: base.unwrap_or_default(),
        backoff_max: max.unwrap_or_default(),
    })
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
