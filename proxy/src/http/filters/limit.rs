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
use outrigger_model::route::HeaderChanges;
use tracing::debug;

use crate::http::connection::DownstreamSecurity;
use crate::http::exchange::Exchange;
use crate::http::headers::apply;
use crate::limit::{GlobalLimit, Inbound, Quota, RateLimiter, Subject};
use crate::reason::{Reason, Refusal};

mod ask;

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

/// The limit of a route that a service keeps. Without an answer that can be used, requests go on, or are refused as a
/// thing that passes, as configuration says.
pub(super) async fn limit_globally(
    exchange: &mut Exchange,
    limit: &GlobalLimit,
    parts: &mut Parts,
) -> Result<(), Refusal> {
    let worker = exchange.connection.worker.clone();
    let tls = worker.shared.tls.load();
    let identity = tls.as_ref().map(|tls| tls.identity());
    let address = exchange.connection.downstream.peer.ip();
    let question = limit.question(&Subject { identity, address, parts });
    drop(tls);
    let Some(question) = question else { return Ok(()) };
    let answer = match ask::ask(&worker, limit, question).await {
        Ok(answer) => answer,
        Err(cause) => {
            limit.errors.increment(1);
            debug!(cluster.name = &*limit.config.cluster, cause, "the rate limit service was no help");
            let refusal = Refusal::at(Reason::Shed, &limit.config.name);
            return if limit.config.fail_closed { Err(refusal) } else { Ok(()) };
        }
    };
    if let Some(quota) = answer.quota {
        tell(exchange, quota);
    }
    exchange.answer_fields().add.extend(answer.response_fields);
    if answer.over {
        return Err(Refusal::at(Reason::RateLimited, &limit.config.name));
    }
    let changes = HeaderChanges { add: answer.request_fields, ..HeaderChanges::default() };
    apply(&changes, &mut parts.headers);
    Ok(())
}

/// Tells how the limit stands, and refuses what is beyond it. What stands behind `#` in the name only tells counts apart.
fn settle(exchange: &mut Exchange, name: &Arc<str>, quota: Quota) -> Result<(), Refusal> {
    tell(exchange, quota);
    match (quota.retry_after, name.split_once('#')) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refusal::at(Reason::RateLimited, name)),
        (Some(_), Some((object, _))) => Err(Refusal::at(Reason::RateLimited, &object.into())),
    }
}

fn tell(exchange: &mut Exchange, quota: Quota) {
    let fields = &mut exchange.answer_fields().set;
    fields.push((LIMIT, HeaderValue::from(quota.limit)));
    fields.push((REMAINING, HeaderValue::from(quota.remaining)));
    fields.push((RESET, HeaderValue::from(whole_seconds(quota.reset))));
    if let Some(wait) = quota.retry_after {
        fields.push((RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
    }
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
