//! Limits on the way of a request: who is refused, and what answers say of the limit.
//!
//! Answers carry `ratelimit-limit`, `ratelimit-remaining` and `ratelimit-reset` as draft-ietf-httpapi-ratelimit-headers-06
//! has them (the last one with a field for each; whole seconds), those that pass too, and refusals `retry-after` (RFC 9110,
//! section 10.2.3).

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use crate::http::connection::DownstreamSecurity;
use crate::http::exchange::Exchange;
use crate::limit::{Inbound, Quota, RateLimiter, Subject};
use crate::reason::{Reason, Refusal};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The limits of the local application: requests in time, then requests at once.
pub(crate) fn limit_inbound(exchange: &mut Exchange, guard: &Inbound, parts: &Parts) -> Result<(), Refusal> {
    if let Some(policy) = &guard.closed_by {
        return Err(Refusal::at(Reason::Unauthenticated, policy));
    }
    let now = exchange.record.started();
    if let Some(limiter) = &guard.rate {
        let connection = exchange.connection.clone();
        let identity = match &connection.downstream.security {
            DownstreamSecurity::Mtls(identity) => Some(identity),
            DownstreamSecurity::Plaintext => None,
        };
        let subject = Subject { identity, address: connection.downstream.peer.ip(), parts };
        let quota = limiter.take(now, &subject);
        settle(exchange, limiter.name(), quota)?;
    }
    if let Some(gate) = &guard.gate {
        let class = guard.priorities.as_ref().map_or(0, |priorities| priorities.class_of(&parts.headers));
        let slot = gate.enter(now, class);
        exchange.hold(slot.ok_or_else(|| Refusal::at(Reason::Shed, &gate.config().name))?);
    }
    Ok(())
}

/// The limit of a route that this proxy keeps. The caller is the local application, whoever it is.
pub(super) fn limit_outbound(
    exchange: &mut Exchange,
    limiter: &RateLimiter,
    parts: &Parts,
) -> Result<(), Refusal> {
    let subject = Subject { identity: None, address: exchange.connection.downstream.peer.ip(), parts };
    let quota = limiter.take(exchange.record.started(), &subject);
    settle(exchange, limiter.name(), quota)
}

/// Tells how the limit stands, and refuses what is beyond it.
fn settle(exchange: &mut Exchange, name: &Arc<str>, quota: Quota) -> Result<(), Refusal> {
    let fields = &mut exchange.answer_fields().set;
    fields.push((LIMIT, HeaderValue::from(quota.limit)));
    fields.push((REMAINING, HeaderValue::from(quota.remaining)));
    fields.push((RESET, HeaderValue::from(whole_seconds(quota.reset))));
    let Some(wait) = quota.retry_after else { return Ok(()) };
    fields.push((RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
    Err(Refusal::at(Reason::RateLimited, name))
}

/// Rounded up: who comes back after that time is let in.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, expected) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), expected);
        }
    }
}
