//! What the end of a try says: of the endpoint, and of whether the route asks for another.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use outrigger_model::policy::RetryPolicy;

use super::marks;
use crate::http::answer::{REASON, grpc_status};
use crate::http::forward::Arrived;
use crate::http::hygiene::Fields;
use crate::http::retry_after::asked_to_wait;
use crate::reason::{Reason, Seen};
use crate::upstream::Outcome;

/// Statuses with which an application may answer when a call of its own has failed.
const INNER_FAILURES: [StatusCode; 4] = [
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// What a response head says of the endpoint.
pub(in crate::http) fn outcome(status: StatusCode, grpc: bool, headers: &HeaderMap) -> Outcome {
    if let Some(outcome) = asked_to_wait(status, headers, SystemTime::now) {
        return outcome;
    }
    // gRPC: unknown, internal, unavailable and data loss are the server's.
    let failed_call = || grpc && grpc_status(headers).is_some_and(|code| matches!(code, 2 | 13 | 14 | 15));
    if status.is_server_error() || failed_call() { Outcome::ServerError } else { Outcome::Success }
}

/// Whether a route asks for another try instead of this answer, unless a proxy behind has tried in vain already.
pub(super) fn asks_for_answer(policy: &RetryPolicy, arrived: &Arrived, grpc: bool) -> bool {
    let (status, headers) = (arrived.response.status(), arrived.response.headers());
    asks_for_head(policy, (status, headers), grpc) && !(is_verified(arrived) && marks::is_used_up(headers))
}

fn asks_for_head(policy: &RetryPolicy, (status, headers): (StatusCode, &HeaderMap), grpc: bool) -> bool {
    let throttled = || {
        policy.throttled
            && status == StatusCode::TOO_MANY_REQUESTS
            && headers.contains_key(header::RETRY_AFTER)
    };
    let failed_call = || grpc && grpc_status(headers).is_some_and(|code| policy.grpc.has(code));
    policy.statuses.contains(&status) || throttled() || failed_call()
}

/// Whether a route asks for another try after one that brought no answer. A gRPC call has the status that its client would get.
pub(super) fn asks_for_failure(policy: &RetryPolicy, reason: Reason, grpc: bool) -> bool {
    let as_grpc = || grpc && reason.grpc_status().is_some_and(|code| policy.grpc.has(code as u8));
    !matches!(reason, Reason::Overflow | Reason::BadRequest) && (policy.on_reset || as_grpc())
}

/// Whether a route tries again what a failure further behind may look like, so that those behind can leave it to this one.
pub(super) fn covers_inner_failures(policy: &RetryPolicy) -> bool {
    let unavailable = crate::reason::GrpcStatus::Unavailable as u8;
    policy.grpc.has(unavailable) || INNER_FAILURES.iter().any(|status| policy.statuses.contains(status))
}

/// Only a proxy says why it answered itself, or that it tried again in vain, and only a peer whose identity was verified has
/// one: its proxy takes the reason out of what applications answer. What others say is not passed on.
pub(crate) fn believe(arrived: &mut Arrived, fields: Fields) {
    if fields.have(Fields::SAID_BY_PROXIES) && !is_verified(arrived) {
        let headers = arrived.response.headers_mut();
        headers.remove(REASON);
        headers.remove(marks::RETRIES);
    }
}

/// Whether the proxy of the peer says that its application cannot have seen the request.
pub(super) fn never_seen(arrived: &Arrived) -> bool {
    if !is_verified(arrived) {
        return false;
    }
    let said = arrived.response.headers().get(REASON).and_then(|value| value.to_str().ok());
    let word = said.and_then(|said| said.split(';').next());
    word.and_then(Reason::from_word).is_some_and(|reason| reason.seen() == Seen::Never)
}

fn is_verified(arrived: &Arrived) -> bool {
    arrived.lease.as_ref().is_some_and(|lease| lease.endpoint().config().identity.is_some())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use outrigger_model::policy::GrpcCodes;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            statuses: vec![StatusCode::BAD_GATEWAY],
            throttled: true,
            grpc: GrpcCodes::default().with(14),
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn a_route_asks_for_what_it_names() {
        for (status, field, grpc, expected) in [
            (502, None, false, true),
            (503, None, false, false),
            (200, None, false, false),
            (429, None, false, false),
            (429, Some(("retry-after", "1")), false, true),
            (200, Some(("grpc-status", "14")), true, true),
            (200, Some(("grpc-status", "13")), true, false),
            (200, Some(("grpc-status", "14")), false, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = field {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                asks_for_head(&policy(), (status, &headers), grpc),
                expected,
                "{status} {field:?} {grpc}"
            );
        }
    }

    #[test]
    fn no_answer_is_a_status_to_grpc() {
        for (reason, grpc, on_reset, expected) in [
            (Reason::UpstreamReset, true, false, true),
            (Reason::UpstreamReset, false, false, false),
            (Reason::UpstreamReset, false, true, true),
            (Reason::Timeout, true, false, false),
            (Reason::Overflow, true, true, false),
            (Reason::BadRequest, false, true, false),
        ] {
            let policy = RetryPolicy { on_reset, ..policy() };
            assert_eq!(asks_for_failure(&policy, reason, grpc), expected, "{reason:?} {grpc} {on_reset}");
        }
    }

    #[test]
    fn only_who_retries_failures_of_others_lets_them_be_left_to_it() {
        assert!(covers_inner_failures(&policy()));
        let of_own =
            RetryPolicy { statuses: vec![StatusCode::CONFLICT], on_reset: true, ..RetryPolicy::default() };
        assert!(!covers_inner_failures(&of_own));
    }
}
