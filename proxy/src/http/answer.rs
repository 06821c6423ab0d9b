//! Answers the proxy makes itself (contracts, section 7): HTTP or gRPC, always saying why and where.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::Body;
use super::exchange::Exchange;
use crate::reason::{GrpcStatus, Reason, Refusal};

/// Says why: `<reason>; hop=<workload>; object=<kind/namespace/name>`.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-outrigger-reason");

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why a request is not sent on.
pub(crate) enum Stop {
    /// Something is wrong or not allowed.
    Refused(Refusal),
    /// The configuration says what to answer: a redirect, a preflight, a fault made on purpose.
    Answered(Box<Response<Body>>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// Answers a request that is not sent on and closes its record.
pub(crate) fn stop(exchange: Exchange, stop: Stop) -> Response<Body> {
    match stop {
        Stop::Refused(refusal) => refuse(exchange, &refusal),
        Stop::Answered(response) => exchange.answer(*response),
    }
}

fn refuse(mut exchange: Exchange, refusal: &Refusal) -> Response<Body> {
    let reason = refusal.reason;
    exchange.record.reason(reason);
    let mut response = match reason.grpc_status().filter(|_| exchange.grpc) {
        Some(status) => {
            exchange.record.grpc_status(status as u8);
            grpc_answer(reason, status)
        }
        None => http_answer(reason),
    };
    let hop = &exchange.connection.worker.shared.workload;
    let said = format!("{}; hop={hop}; object={}", reason.word(), refusal.object);
    if let Ok(said) = HeaderValue::try_from(said) {
        response.headers_mut().insert(REASON, said);
    }
    if exchange.closes_after(reason) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.answer(response)
}

fn http_answer(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::from_static(reason.word().as_bytes())));
    *response.status_mut() = reason.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if matches!(reason, Reason::RateLimited | Reason::Shed) {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A gRPC client takes its status from the head of an answer without a body ("Trailers-Only", gRPC over HTTP/2).
fn grpc_answer(reason: Reason, status: GrpcStatus) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status as u16));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(reason.word()));
    response
}

/// The gRPC status of a head or of trailers.
pub(super) fn grpc_status(headers: &http::HeaderMap) -> Option<u8> {
    let value = headers.get(GRPC_STATUS)?.to_str().ok()?;
    Some(value.trim().parse().unwrap_or(2))
}
