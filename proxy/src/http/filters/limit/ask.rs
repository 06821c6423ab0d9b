//! One call of a rate limit service, over the connections that requests go over: endpoints are balanced, and verified.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Limited};
use tokio::time::Instant;

use crate::http::answer::grpc_status;
use crate::http::{Body, Outgoing, send};
use crate::limit::{Answer, GlobalLimit, MAX_ANSWER_BYTES, read_answer};
use crate::reason::Reason;
use crate::upstream::{Affinity, HttpVersion, Lease, Message, Outcome, PickContext, Target};
use crate::worker::Worker;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Why there is no answer; for people.
pub(super) type Failure = String;

/// Asks, and waits no longer than the limit says.
pub(super) async fn ask(
    worker: &Rc<Worker>,
    limit: &GlobalLimit,
    question: Bytes,
) -> Result<Answer, Failure> {
    let until = Instant::now() + limit.config.timeout;
    let asking = call(worker, limit, question);
    let answered = worker.alarms.until(until, asking).await;
    answered.map_err(|_| format!("no answer within {:?}", limit.config.timeout))?
}

async fn call(worker: &Rc<Worker>, limit: &GlobalLimit, question: Bytes) -> Result<Answer, Failure> {
    let cluster = limit.cluster.as_ref().ok_or_else(|| format!("there is no {}", limit.config.cluster))?;
    let now = Instant::now();
    let affinity = Affinity::default();
    let leased = worker.with_rng(|rng| cluster.lease(&mut PickContext { now, rng, tried: &[], affinity }));
    let lease = leased.map_err(|reason: Reason| reason.word().to_owned())?;
    let answered = exchange(worker, limit, &lease, question).await;
    lease.outcome(Instant::now(), if answered.is_ok() { Outcome::Success } else { Outcome::Failure });
    answered
}

async fn exchange(
    worker: &Rc<Worker>,
    limit: &GlobalLimit,
    lease: &Lease,
    question: Bytes,
) -> Result<Answer, Failure> {
    let endpoint = lease.endpoint().config();
    let security = lease.cluster().security(endpoint);
    let target = Target { address: endpoint.address, security, version: HttpVersion::Http2 };
    let policy = &lease.cluster().config().connection;
    let to = Outgoing { target: &target, policy, lease: Some(lease) };
    let request = request(limit, question).map_err(|error| error.to_string())?;
    let sent = send(worker, &to, &mut Message::once(request)).await;
    let (head, body) = sent.map_err(|failed| failed.cause)?.into_parts();
    if !head.status.is_success() {
        return Err(format!("the service answered {}", head.status));
    }
    check_status(&head.headers)?;
    let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let collected = collected.map_err(|error| error.to_string())?;
    if let Some(trailers) = collected.trailers() {
        check_status(trailers)?;
    }
    read_answer(&collected.to_bytes()).map_err(|error| error.to_string())
}

fn request(limit: &GlobalLimit, question: Bytes) -> http::Result<Request<Body>> {
    // In gRPC's own unit of milliseconds; what is left of one is lost.
    let timeout = format!("{}m", limit.config.timeout.as_millis().clamp(1, 99_999_999));
    Request::post(limit.uri.clone())
        .version(Version::HTTP_2)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .header(GRPC_TIMEOUT, timeout)
        .body(Body::Full(question))
}

/// A status other than 0 is a call that failed, wherever it stands.
fn check_status(headers: &HeaderMap) -> Result<(), Failure> {
    match grpc_status(headers) {
        None | Some(0) => Ok(()),
        Some(code) => Err(format!("the call ended with status {code} of gRPC")),
    }
}
