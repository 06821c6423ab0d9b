//! Failures made on purpose, to see how callers take them: some requests wait first, some are answered and go nowhere.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use outrigger_model::filter::Fault;
use tokio::time::Instant;

use crate::alarms::Late;
use crate::http::Body;
use crate::http::answer::{GRPC_MESSAGE, GRPC_STATUS, Stop};
use crate::http::exchange::Exchange;

/// What an injected answer says of itself. It is no reason of the proxy's: the configuration wants it.
const SAID: &str = "fault injected";

/// Lets a request wait, or stops it, as chance has it.
pub(super) async fn fault(exchange: &mut Exchange, fault: &Fault) -> Result<(), Stop> {
    let worker = exchange.connection.worker.clone();
    if let Some((share, time)) = fault.delay
        && worker.with_rng(|rng| share.has(rng.u32(..share.denominator)))
    {
        // It always rings: nothing else is waited for.
        let _: Result<(), Late> = worker.alarms.until(Instant::now() + time, std::future::pending()).await;
    }
    match fault.abort {
        Some((share, status)) if worker.with_rng(|rng| share.has(rng.u32(..share.denominator))) => {
            Err(Stop::Answered(Box::new(answer(exchange, status))))
        }
        _ => Ok(()),
    }
}

fn answer(exchange: &mut Exchange, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    if !exchange.grpc {
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *response.body_mut() = Body::Full(SAID.into());
        return response;
    }
    let code = grpc_status_of(status);
    exchange.record.grpc_status(code);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(SAID));
    response
}

/// What a gRPC client makes of a status (grpc/grpc `doc/http-grpc-status-mapping.md`).
fn grpc_status_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_to_grpc_what_its_clients_make_of_them() {
        for (status, code) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 14),
            (418, 2),
        ] {
            assert_eq!(grpc_status_of(StatusCode::from_u16(status).unwrap()), code, "{status}");
        }
    }
}
