//! The attempt loop: choose an endpoint, try, judge, and try again only where that is right.
//!
//! Always safe to repeat: what no application can have seen (a failed connection or handshake, a request that was
//! never written, or a peer proxy that says so of its own application). Everything else is repeated only when the
//! route asks for it, the request can be sent twice, and no proxy before this one does it already ([`marks`]). Every
//! repetition takes from the destination's retry budget.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use outrigger_model::cluster::UpstreamProtocol;
use outrigger_model::policy::RetryPolicy;
use tokio::time::Instant;
use tracing::debug;

use super::exchange::Exchange;
use super::forward::{self, Arrived, Failed, Outgoing};
use super::hygiene::{BodyLength, Fields, fit_version};
use super::{Body, connection::Connection, deadline, retry_after};
use crate::alarms::{Alarms, Late};
use crate::reason::{Reason, Refusal, Seen};
use crate::snapshot::Forward;
use crate::upstream::{
    Affinity, Cluster, Endpoint, HttpVersion, Lease, Message, Outcome, PickContext, Received, RetryGuard,
    Target,
};

mod backoff;
mod hedge;
mod judge;
mod marks;
mod replay;

pub(crate) use judge::believe;
pub(super) use judge::outcome as judge;

/// Repetitions of what no application can have seen, when the route says nothing.
const SAFE_RETRIES: u32 = 3;

/// What an attempt needs of the configuration.
pub(crate) struct Plan<'a> {
    pub(crate) forward: &'a Forward,
    pub(crate) cluster: &'a Arc<Cluster>,
    /// Where the request would rather go.
    pub(crate) affinity: Affinity,
    /// When the whole request must be over.
    pub(crate) deadline: Option<Instant>,
    /// What its head had when it came.
    pub(crate) fields: Fields,
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
        let ended = match loop_.hedge() {
            None => loop_.once(exchange).await?,
            Some(hedge) => Box::pin(loop_.hedged(exchange, hedge)).await?,
        };
        match ended {
            Ok(arrived) => {
                if !loop_.repeats_answer(exchange, &arrived) {
                    return Ok(arrived);
                }
            }
            Err(failed) => loop_.repeat_failure(exchange, failed)?,
        }
        loop_.pause().await;
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
    /// A proxy before this one tries again what fails here, so that this one does only what is always safe.
    left_to_caller: bool,
    guard: Option<RetryGuard>,
    /// When the next try begins, if not at once.
    next: Option<Instant>,
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
        let message = replay::keep(connection, plan, (Request::from_parts(parts, body), length)).await?;
        let mut new = Self {
            connection,
            plan,
            version,
            message,
            tried: Tried::default(),
            retries: 0,
            asked_retries: 0,
            left_to_caller: false,
            guard: None,
            next: None,
        };
        if plan.deadline.is_some() && new.time_is_over() {
            return Err(new.refusal(Reason::Timeout));
        }
        if let Some(policy) = new.policy().filter(|policy| policy.attempts > 0) {
            new.agree_with_caller(policy);
        }
        Ok(new)
    }

    /// Leaves retries to a proxy before this one, or says to those behind it that this one makes them.
    fn agree_with_caller(&mut self, policy: &RetryPolicy) {
        let repeatable = self.message.can_be_repeated();
        let headers = &mut self.message.parts_mut().headers;
        self.left_to_caller = marks::is_marked(headers);
        if !self.left_to_caller && repeatable && judge::covers_inner_failures(policy) {
            marks::mark(headers);
        }
    }

    fn policy(&self) -> Option<&'a RetryPolicy> {
        self.plan.forward.retry.as_ref()
    }

    /// One attempt. The outer error ends the request without another try.
    async fn once(&mut self, exchange: &mut Exchange) -> Result<Result<Arrived, Failed>, Refusal> {
        let lease = self.lease()?;
        let target = self.target(lease.endpoint());
        self.record(exchange, lease.endpoint(), &target);
        let end = self.end_of_try();
        if let Some(deadline) = self.plan.deadline {
            let head = (&mut self.message.parts_mut().headers, self.plan.fields);
            deadline::write(head, deadline, Instant::now());
        }
        let policy = &self.plan.cluster.config().connection;
        let to = Outgoing { target: &target, policy, lease: Some(&lease) };
        let sending = forward::send(&self.connection.worker, &to, &mut self.message);
        let sent = within_time((&self.connection.worker.alarms, end), sending).await;
        Ok(conclude(exchange.grpc, lease, sent))
    }

    fn lease(&mut self) -> Result<Lease, Refusal> {
        let tried = self.tried.as_slice();
        let leased = self.connection.worker.with_rng(|rng| {
            self.plan.cluster.lease(&mut PickContext {
                now: Instant::now(),
                rng,
                tried,
                affinity: self.plan.affinity,
            })
        });
        let lease = leased.map_err(|reason| self.refusal(reason))?;
        self.tried.push(lease.endpoint().number());
        Ok(lease)
    }

    fn target(&self, endpoint: &Endpoint) -> Target {
        let config = endpoint.config();
        let security = self.plan.cluster.security(config);
        Target { address: config.address, security, version: self.version }
    }

    fn record(&self, exchange: &mut Exchange, endpoint: &Endpoint, target: &Target) {
        let cluster = &self.plan.cluster.config().name;
        exchange.record.attempt(endpoint.label(), target.security.protection(), (target.address, cluster));
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
    fn repeats_answer(&mut self, exchange: &mut Exchange, arrived: &Arrived) -> bool {
        if !self.message.can_be_repeated() {
            return false;
        }
        let policy = self.policy().filter(|policy| judge::asks_for_answer(policy, arrived, exchange.grpc));
        let safe = self.retries < SAFE_RETRIES && judge::never_seen(arrived);
        if policy.is_none() && !safe {
            return false;
        }
        let said = retry_after::said(arrived.response.headers(), SystemTime::now).unwrap_or_default();
        let pause = policy.map(|policy| self.backoff(policy).max(said));
        let repeats = match pause.filter(|_| !safe) {
            None => self.take_guard(),
            Some(pause) => self.may_ask() && self.fits(pause) && self.take_guard(),
        };
        match repeats {
            true => self.count(pause.filter(|_| !safe)),
            false if policy.is_some_and(|policy| policy.attempts > 0) => self.tell_used_up(exchange),
            false => {}
        }
        repeats
    }

    /// Prepares another try after a failure, or gives the refusal for the client.
    fn repeat_failure(&mut self, exchange: &mut Exchange, failed: Failed) -> Result<(), Refusal> {
        let Failed { reason, seen, .. } = failed;
        let safe = seen == Seen::Never && reason != Reason::Overflow && self.retries < SAFE_RETRIES;
        let policy = self.policy().filter(|policy| judge::asks_for_failure(policy, reason, exchange.grpc));
        let pause = policy.filter(|_| !safe).map(|policy| self.backoff(policy));
        let wanted = match pause {
            None => safe,
            Some(pause) => self.may_ask() && !self.time_is_over() && self.fits(pause),
        };
        if wanted && self.message.can_be_sent() && self.take_guard() {
            self.count(pause);
            return Ok(());
        }
        if policy.is_some_and(|policy| policy.attempts > 0) {
            self.tell_used_up(exchange);
        }
        Err(self.refusal(reason))
    }

    /// Whether the route still gives this request tries of its own.
    fn may_ask(&self) -> bool {
        let left = self.policy().is_some_and(|policy| self.asked_retries < policy.attempts);
        if left && self.left_to_caller {
            self.plan.cluster.left_to_caller();
        }
        left && !self.left_to_caller
    }

    /// Takes from the budget of the destination.
    fn take_guard(&mut self) -> bool {
        // What the try before held is given back first, or a limit of one would never let a second retry through.
        self.guard = None;
        self.guard = self.plan.cluster.allow_retry(Instant::now());
        self.guard.is_some()
    }

    /// Says on the answer that trying again was in vain, so that a proxy before this one does not multiply it.
    fn tell_used_up(&self, exchange: &mut Exchange) {
        if !self.left_to_caller {
            exchange.answer_fields().set.push(marks::used_up());
        }
    }

    /// Counts a repetition; one that the route asked for begins after a pause.
    fn count(&mut self, pause: Option<Duration>) {
        self.retries += 1;
        self.asked_retries += u32::from(pause.is_some());
        self.next = pause.map(|pause| Instant::now() + pause);
    }

    fn backoff(&self, policy: &RetryPolicy) -> Duration {
        self.connection.worker.with_rng(|rng| backoff::wait(policy, self.asked_retries, rng))
    }

    /// Whether there is time left after a pause.
    fn fits(&self, pause: Duration) -> bool {
        match self.plan.deadline {
            Some(deadline) => Instant::now() + pause < deadline,
            None => pause <= backoff::LONGEST_ASKED,
        }
    }

    fn time_is_over(&self) -> bool {
        self.plan.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    async fn pause(&mut self) {
        if let Some(next) = self.next.take() {
            // It always rings: there is nothing that could be done before.
            let _: Result<(), Late> = self.connection.worker.alarms.until(next, std::future::pending()).await;
        }
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        let service = &self.plan.cluster.config().service;
        Refusal { reason, object: format!("{}/{}/{}", service.kind, service.namespace, service.name).into() }
    }
}

pub(super) fn upstream_version(declared: UpstreamProtocol, downstream: HttpVersion) -> HttpVersion {
    match declared {
        UpstreamProtocol::AsDownstream => downstream,
        UpstreamProtocol::Http1 => HttpVersion::Http1,
        UpstreamProtocol::Http2 => HttpVersion::Http2,
    }
}

/// Tells the endpoint's statistics how a try ended.
fn conclude(grpc: bool, lease: Lease, sent: Result<Response<Received>, Failed>) -> Result<Arrived, Failed> {
    let now = Instant::now();
    match sent {
        Ok(response) => {
            lease.outcome(now, judge::outcome(response.status(), grpc, response.headers()));
            Ok(Arrived { response, lease: Some(lease) })
        }
        Err(failed) => {
            if !matches!(failed.reason, Reason::Overflow | Reason::BadRequest) {
                lease.outcome(now, Outcome::Failure);
            }
            let address = lease.endpoint().config().address;
            debug!(endpoint.addr = %address, reason = failed.reason.word(), cause = failed.cause, "attempt failed");
            Err(failed)
        }
    }
}

/// Waits for what is sent until a time, if there is one. What is not there then is dropped: its connection is closed, or its
/// stream reset.
pub(crate) async fn within_time<T>(
    (alarms, end): (&Alarms, Option<Instant>),
    sending: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let Some(end) = end else { return sending.await };
    alarms.until(end, sending).await.unwrap_or_else(|Late| {
        let cause = "no response head in time".to_owned();
        Err(Failed { reason: Reason::Timeout, seen: Seen::Perhaps, cause })
    })
}
