//! Copies of requests (Gateway API, `HTTPRequestMirrorFilter`): a request never waits for its copies and never fails because
//! of them. Their answers are read and dropped.
//!
//! A copy holds a lease of its cluster, so that limits hold, and ends with the drain.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::Matched;
use crate::alarms::Late;
use crate::http::attempt::{judge, upstream_version};
use crate::http::forward::{self, Failed, Outgoing};
use crate::http::hygiene::{BodyLength, fit_version};
use crate::http::{Body, Exchange};
use crate::snapshot::{Backend, Mirror};
use crate::telemetry::{MirrorMeters, MirrorOutcome};
use crate::upstream::{
    Affinity, Cluster, HttpVersion, Lease, Message, Outcome, PickContext, Received, Target,
};
use crate::worker::Worker;

pub(in crate::http) use tee::{Channel, Copied, Teed};

mod tee;

/// How long a copy may take, its answer included.
const MAX_COPY_TIME: Duration = Duration::from_secs(30);

/// A copy that is about to be sent.
struct Copy {
    worker: Rc<Worker>,
    lease: Lease,
    version: HttpVersion,
    meters: MirrorMeters,
    /// What it has of the body; `None` when there is none.
    channel: Option<Rc<Channel>>,
}

/// Sends copies of a request to the mirrors on which it falls, those of its route and those of its backend.
pub(super) fn mirror(
    exchange: &Exchange,
    matched: Matched<'_>,
    backend: &Backend,
    request: &mut Request<Body>,
) {
    let filters = [matched.route.filters.as_deref(), backend.filters.as_deref()];
    let mirrors = filters.into_iter().flatten().flat_map(|filters| &filters.mirrors);
    let mut copies: Vec<Copy> = mirrors.filter_map(|mirror| copy(exchange, mirror)).collect();
    if copies.is_empty() {
        return;
    }
    if !request.body().is_empty() {
        let length = http_body::Body::size_hint(request.body()).exact();
        let channels: Vec<_> = copies.iter().map(|_| Channel::new(length)).collect();
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::teed(body, &channels);
        copies.iter_mut().zip(channels).for_each(|(copy, channel)| copy.channel = Some(channel));
    }
    for copy in copies {
        let head = head_of(request);
        tokio::task::spawn_local(copy.carry(head));
    }
}

/// Takes a lease for a copy, unless the request does not fall on the mirror or nothing can be had there.
fn copy(exchange: &Exchange, mirror: &Mirror) -> Option<Copy> {
    let worker = &exchange.connection.worker;
    let falls = worker.with_rng(|rng| mirror.share.has(rng.u32(..mirror.share.denominator)));
    if !falls || worker.shared.drains.outbound.is_started() {
        return None;
    }
    let now = Instant::now();
    let affinity = Affinity::default();
    let lease =
        worker.with_rng(|rng| mirror.cluster.lease(&mut PickContext { now, rng, tried: &[], affinity }));
    let Ok(lease) = lease else {
        mirror.meters.count(MirrorOutcome::Refused);
        return None;
    };
    let version = upstream_version(mirror.cluster.config().protocol, exchange.connection.version);
    let meters = mirror.meters.clone();
    Some(Copy { worker: worker.clone(), lease, version, meters, channel: None })
}

/// The head without what belongs to the connection it came on.
fn head_of(request: &Request<Body>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    // Nobody waits for a word of the mirror before the body is sent.
    head.headers.remove(http::header::EXPECT);
    head
}

impl Copy {
    async fn carry(self, head: Parts) {
        let drain = self.worker.shared.drains.outbound.clone();
        let _guard = drain.guard();
        let until = Instant::now() + MAX_COPY_TIME;
        let sending = self.send(head);
        let outcome = tokio::select! {
            sent = self.worker.alarms.until(until, sending) => match sent {
                Ok(true) => MirrorOutcome::Answered,
                Ok(false) | Err(Late) => MirrorOutcome::Failed,
            },
            () = drain.started() => MirrorOutcome::Failed,
            () = lost(self.channel.as_deref()) => MirrorOutcome::Lost,
        };
        let lost = self.channel.as_ref().is_some_and(|channel| channel.is_lost());
        self.meters.count(if lost { MirrorOutcome::Lost } else { outcome });
    }

    /// Whether an answer came, to its end.
    async fn send(&self, mut head: Parts) -> bool {
        let body = self.channel.as_ref().map_or(Body::Empty, |channel| Body::Copied(Copied::of(channel)));
        let cluster: &Cluster = self.lease.cluster();
        let config = cluster.config();
        fit_version(&mut head, self.version, &config.service.name, BodyLength::of(&body));
        let mut message = Message::once(Request::from_parts(head, body));
        let endpoint = self.lease.endpoint().config();
        let security = cluster.security(endpoint);
        let target = Target { address: endpoint.address, security, version: self.version };
        let to = Outgoing { target: &target, policy: &config.connection, lease: Some(&self.lease) };
        match forward::send(&self.worker, &to, &mut message).await {
            Ok(response) => {
                self.lease.outcome(Instant::now(), judge(response.status(), false, response.headers()));
                read(response.into_body()).await
            }
            Err(failed) => {
                self.judge(&failed);
                false
            }
        }
    }

    /// A copy that was cut here says nothing of the mirror.
    fn judge(&self, failed: &Failed) {
        let lost = self.channel.as_ref().is_some_and(|channel| channel.is_cut());
        if !lost {
            self.lease.outcome(Instant::now(), Outcome::Failure);
        }
        tracing::debug!(endpoint.addr = %self.lease.endpoint().config().address, reason = failed.reason.word(), cause = failed.cause, "a copy was not sent");
    }
}

/// Waits until a mirror that does not read is too slow for its request.
async fn lost(channel: Option<&Channel>) {
    match channel {
        Some(channel) => channel.lost().await,
        None => std::future::pending().await,
    }
}

/// Reads a body to its end, so that its connection can be used again.
async fn read(mut body: Received) -> bool {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}
