//! The attempt loop: choose an endpoint, try, judge, and try again only where that is right.
//!
//! Always safe to repeat: what no application can have seen (a failed connection or handshake, a request that was
//! never written, or a peer proxy that says so of its own application). Everything else is repeated only when the
//! route asks for it and the request can be sent twice. Every repetition takes from the destination's retry budget.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use outrigger_model::policy::RetryPolicy;
use tokio::time::Instant;
use tracing::debug;

use super::answer::{REASON, grpc_status};
use super::exchange::Exchange;
use super::forward::{self, Arrived, Failed, Outgoing};
use super::hygiene::{BodyLength, Fields, fit_version};
use super::retry_after::asked_to_wait;
use super::{Body, connection::Connection};
use crate::alarms::{Alarms, Late};
use crate::reason::{Reason, Refusal, Seen};
use crate::snapshot::Forward;
use crate::upstream::{Affinity, Cluster, HttpVersion, Lease, Message, Outcome, PickContext, Target};
use outrigger_model::cluster::UpstreamProtocol;

/// Repetitions of what no application can have seen, when the route says nothing.
const SAFE_RETRIES: u32 = 3;

/// A body up to this size is kept to be sent again, if the route asks for retries.
const REPLAY_BYTES: usize = 64 * 1024;

/// What an attempt needs of the configuration.
pub(crate) struct Plan<'a> {
    pub(crate) forward: &'a Forward,
    pub(crate) cluster: &'a Arc<Cluster>,
    /// Where the request would rather go.
    pub(crate) affinity: Affinity,
    /// When the whole request must be over.
    pub(crate) deadline: Option<Instant>,
    /// The client wants a tunnel or another protocol: such a request is sent once.
    pub(crate) switches: bool,
}

/// Tries until there is an answer for the client.
pub(crate) async fn attempts(
    exchange: &mut Exchange,
    plan: &Plan<'_>,
    request: Request<Body>,
) -> Result<Arrived, Refusal> {
    let connection = exchange.connection.clone();
    let mut loop_ = Loop::new(&connection, plan, request).await?;
    loop {
        let failure = match loop_.once(exchange).await? {
            Ok(arrived) => match loop_.repeat_answer(&arrived) {
                None => return Ok(arrived),
                Some(guard) => {
                    loop_.guard = Some(guard);
                    None
                }
            },
            Err(failed) => Some(failed),
        };
        if let Some(failed) = failure {
            loop_.repeat_failure(failed)?;
        }
        loop_.back_off().await?;
    }
}

struct Loop<'a> {
    connection: &'a Rc<Connection>,
    plan: &'a Plan<'a>,
    version: HttpVersion,
    message: Message,
    tried: Tried,
    retries: u32,
    asked_retries: u32,
    guard: Option<crate::upstream::RetryGuard>,
}

/// Endpoints this request has been to.
#[derive(Default)]
struct Tried {
    numbers: [u32; 8],
    len: usize,
}

impl Tried {
    fn push(&mut self, number: u32) {
        self.numbers[self.len % self.numbers.len()] = number;
        self.len += 1;
    }

    fn as_slice(&self) -> &[u32] {
        &self.numbers[..self.len.min(self.numbers.len())]
    }
}

impl<'a> Loop<'a> {
    async fn new(
        connection: &'a Rc<Connection>,
        plan: &'a Plan<'a>,
        request: Request<Body>,
    ) -> Result<Self, Refusal> {
        let version = upstream_version(plan.cluster.config().protocol, connection.version);
        let (mut parts, body) = request.into_parts();
        let length = BodyLength::of(&body);
        let host = plan.cluster.config().service.name.as_ref();
        fit_version(&mut parts, version, host, length);
        let request = Request::from_parts(parts, body);
        let message = match wanted(&request, length, plan) {
            Wanted::Once => Message::once(request),
            Wanted::Whole => Message::whole(request.into_parts().0, Bytes::new()),
            Wanted::Collected => {
                let collecting = Box::pin(collect(request));
                match plan.deadline {
                    Some(deadline) => {
                        let collected = connection.worker.alarms.until(deadline, collecting).await;
                        collected.map_err(|Late| Reason::Timeout)?
                    }
                    None => collecting.await,
                }
            }
        };
        Ok(Self {
            connection,
            plan,
            version,
            message,
            tried: Tried::default(),
            retries: 0,
            asked_retries: 0,
            guard: None,
        })
    }

    fn policy(&self) -> Option<&'a RetryPolicy> {
        self.plan.forward.retry.as_ref()
    }

    /// One attempt. The outer error ends the request without another try.
    async fn once(&mut self, exchange: &mut Exchange) -> Result<Result<Arrived, Failed>, Refusal> {
        let lease = self.lease()?;
        let endpoint = lease.endpoint().clone();
        self.tried.push(endpoint.number());
        let target = self.target(&lease);
        let protection = target.security.protection();
        let config = self.plan.cluster.config();
        exchange.record.attempt(endpoint.label(), protection, (target.address, &config.name));
        let to = Outgoing { target: &target, policy: &config.connection, lease: Some(&lease) };
        let end = self.end_of_try();
        let sending = forward::send(&self.connection.worker, &to, &mut self.message);
        let sent = within_time((&self.connection.worker.alarms, end), sending).await;
        let now = Instant::now();
        match sent {
            Ok(response) => {
                lease.outcome(now, judge(response.status(), exchange.grpc, response.headers()));
                Ok(Ok(Arrived { response, lease: Some(lease) }))
            }
            Err(failed) => {
                if !matches!(failed.reason, Reason::Overflow | Reason::BadRequest) {
                    lease.outcome(now, Outcome::Failure);
                }
                debug!(endpoint.addr = %target.address, reason = failed.reason.word(), cause = failed.cause, "attempt failed");
                Ok(Err(failed))
            }
        }
    }

    fn lease(&self) -> Result<Lease, Refusal> {
        let tried = self.tried.as_slice();
        let leased = self.connection.worker.with_rng(|rng| {
            self.plan.cluster.lease(&mut PickContext {
                now: Instant::now(),
                rng,
                tried,
                affinity: self.plan.affinity,
            })
        });
        leased.map_err(|reason| self.refusal(reason))
    }

    fn target(&self, lease: &Lease) -> Target {
        let config = lease.endpoint().config();
        let security = self.plan.cluster.security(config);
        Target { address: config.address, security, version: self.version }
    }

    /// When the answer to a try that begins now must be there.
    fn end_of_try(&self) -> Option<Instant> {
        let per_try = self.policy().and_then(|policy| policy.per_try_timeout).map(|t| Instant::now() + t);
        match (per_try, self.plan.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether an answer is thrown away for another try.
    fn repeat_answer(&mut self, arrived: &Arrived) -> Option<crate::upstream::RetryGuard> {
        if !self.message.can_be_repeated() {
            return None;
        }
        let status = arrived.response.status();
        let asked =
            self.policy().is_some_and(|p| p.statuses.contains(&status) && self.asked_retries < p.attempts);
        let safe = self.retries < SAFE_RETRIES && never_seen(arrived);
        if !asked && !safe {
            return None;
        }
        let guard = self.plan.cluster.allow_retry(Instant::now())?;
        self.count(!safe);
        Some(guard)
    }

    /// Prepares another try after a failure, or gives the refusal for the client.
    fn repeat_failure(&mut self, failed: Failed) -> Result<(), Refusal> {
        let Failed { reason, seen, .. } = failed;
        let safe = seen == Seen::Never && reason != Reason::Overflow && self.retries < SAFE_RETRIES;
        let asked = self.policy().is_some_and(|p| p.on_reset && self.asked_retries < p.attempts);
        let asked = asked && !matches!(reason, Reason::Overflow | Reason::BadRequest) && !self.time_is_over();
        if !(safe || asked) || !self.message.can_be_sent() {
            return Err(self.refusal(reason));
        }
        let Some(guard) = self.plan.cluster.allow_retry(Instant::now()) else {
            return Err(self.refusal(reason));
        };
        self.guard = Some(guard);
        self.count(!safe);
        Ok(())
    }

    fn count(&mut self, asked: bool) {
        self.retries += 1;
        self.asked_retries += u32::from(asked);
    }

    fn time_is_over(&self) -> bool {
        self.plan.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits before a repetition the route asked for: exponential, with full jitter. Safe repetitions do not wait.
    async fn back_off(&self) -> Result<(), Refusal> {
        let Some(policy) = self.policy().filter(|_| self.asked_retries > 0) else { return Ok(()) };
        let ceiling = policy.backoff_base.saturating_mul(1 << (self.asked_retries - 1).min(16));
        let ceiling = ceiling.min(policy.backoff_max).as_micros() as u64;
        let wait = self.connection.worker.with_rng(|rng| Duration::from_micros(rng.u64(..=ceiling)));
        let until = Instant::now() + wait;
        if self.plan.deadline.is_some_and(|deadline| until >= deadline) {
            return Err(self.refusal(Reason::Timeout));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        let service = &self.plan.cluster.config().service;
        Refusal { reason, object: format!("{}/{}/{}", service.kind, service.namespace, service.name).into() }
    }
}

fn upstream_version(declared: UpstreamProtocol, downstream: HttpVersion) -> HttpVersion {
    match declared {
        UpstreamProtocol::AsDownstream => downstream,
        UpstreamProtocol::Http1 => HttpVersion::Http1,
        UpstreamProtocol::Http2 => HttpVersion::Http2,
    }
}

async fn within_time<T>(
    (alarms, end): (&Alarms, Option<Instant>),
    sending: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let Some(end) = end else { return sending.await };
    alarms.until(end, sending).await.unwrap_or_else(|Late| {
        let cause = "no response head in time".to_owned();
        Err(Failed { reason: Reason::Timeout, seen: Seen::Perhaps, cause })
    })
}

/// How a request is kept.
enum Wanted {
    /// Sent as it comes.
    Once,
    /// Without a body it can always be sent twice.
    Whole,
    /// With a small body it is kept when the route asks for retries.
    Collected,
}

fn wanted(request: &Request<Body>, length: BodyLength, plan: &Plan<'_>) -> Wanted {
    if plan.switches {
        return Wanted::Once;
    }
    if request.body().is_empty() {
        return Wanted::Whole;
    }
    let small = matches!(length, BodyLength::Exact(bytes) if bytes <= REPLAY_BYTES as u64);
    let asked = plan.forward.retry.as_ref().is_some_and(|policy| policy.attempts > 0);
    if small && asked { Wanted::Collected } else { Wanted::Once }
}

async fn collect(request: Request<Body>) -> Message {
    let (parts, body) = request.into_parts();
    match Limited::new(body, REPLAY_BYTES).collect().await {
        Ok(collected) => Message::whole(parts, collected.to_bytes()),
        // The client did not send what it announced: the message is cut, and nothing is sent.
        Err(_) => Message::once(Request::from_parts(parts, Body::Cut)),
    }
}

/// What a response head says of the endpoint.
fn judge(status: StatusCode, grpc: bool, headers: &http::HeaderMap) -> Outcome {
    if let Some(outcome) = asked_to_wait(status, headers, SystemTime::now) {
        return outcome;
    }
    // gRPC: unknown, internal, unavailable and data loss are the server's.
    let failed_call = || grpc && grpc_status(headers).is_some_and(|code| matches!(code, 2 | 13 | 14 | 15));
    if status.is_server_error() || failed_call() { Outcome::ServerError } else { Outcome::Success }
}

/// Only a proxy says why it answered itself, and only a peer whose identity was verified has one: its proxy takes the field
/// out of what applications answer. What others say of reasons is not passed on.
pub(crate) fn believe_reason(arrived: &mut Arrived, fields: Fields) {
    if fields.have(Fields::REASON) && !is_verified(arrived) {
        arrived.response.headers_mut().remove(REASON);
    }
}

/// Whether the proxy of the peer says that its application cannot have seen the request.
fn never_seen(arrived: &Arrived) -> bool {
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
