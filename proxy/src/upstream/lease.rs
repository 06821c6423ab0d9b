//! A lease: one request's hold on an endpoint. Whatever happens to the request, dropping the lease gives the counts back.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::limits::Limit;
use super::live::{Finished, Judgement};
use super::orca::Report;

/// What is needed to choose an endpoint.
#[derive(Debug)]
pub struct PickContext<'a> {
    /// The time.
    pub now: Instant,
    /// Random numbers.
    pub rng: &'a mut fastrand::Rng,
    /// Numbers of the endpoints this request was sent to before; avoided while others are left. Empty on the first
    /// attempt: that is how requests are told from retries in the retry budget.
    pub tried: &'a [u32],
    /// Where the request would rather go.
    pub affinity: Affinity,
}

/// Where a request would rather go than anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The hash of what the policy hashes; `None` where the request does not have it.
    pub key: Option<u64>,
    /// The token of the endpoint that its session is with; that one is taken while it is in use.
    pub session: Option<u64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response head that is not the server's error.
    Success,
    /// 5xx from the application, gRPC `UNAVAILABLE` and the like.
    ServerError,
    /// No response head: connect, TLS, reset, timeout.
    Failure,
    /// An answer that asks to come back later: after this time, or when the server does not say when.
    AskedToWait(Option<Duration>),
}

/// A request in flight to an endpoint: counted there and in its cluster until dropped.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    started: Cell<Instant>,
    probe: bool,
    finished: Cell<bool>,
}

impl Lease {
    /// The place among the cluster's requests was taken by the caller.
    pub(super) fn new(cluster: Arc<Cluster>, endpoint: Arc<Endpoint>, picked: Picked) -> Self {
        endpoint.state.pending.fetch_add(1, Relaxed);
        Self {
            cluster,
            endpoint,
            started: Cell::new(picked.now),
            probe: picked.probe,
            finished: Cell::new(false),
        }
    }

    /// Where the request goes.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whose endpoint it is.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// A connection is there and the request is about to be sent: latency is counted from here rather than from the
    /// lease, so that handshakes do not make an endpoint look slow.
    pub fn sent(&self, now: Instant) {
        self.started.set(now);
    }

    /// What the endpoint says of its own load.
    pub fn reported(&self, now: Instant, report: Report) {
        let live = self.cluster.live();
        self.endpoint.state.load.observe(live.at(now), report);
        live.reported.store(true, Relaxed);
    }

    /// Whether what endpoints say of their load changes anything.
    pub fn wants_reports(&self) -> bool {
        self.cluster.wants_reports()
    }

    /// The response head came, or the attempt failed. Only the first call counts; dropping without it counts as neither
    /// success nor failure.
    pub fn outcome(&self, now: Instant, outcome: Outcome) {
        if self.finished.replace(true) {
            return;
        }
        let live = self.cluster.live();
        let config = self.cluster.config();
        let took = now.saturating_duration_since(self.started.get());
        let finished = Finished { at: live.at(now), took, outcome, probe: self.probe };
        let judgement = Judgement { load_balancer: &config.load_balancer, outlier: config.outlier.as_ref() };
        live.finished(&self.endpoint, finished, judgement);
    }
}

/// How an endpoint came to be chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked {
    pub(super) now: Instant,
    /// It is ejected and this is the one request that tries it.
    pub(super) probe: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.state.pending.fetch_sub(1, Relaxed);
        let live = self.cluster.live();
        live.counts.leave(Limit::Requests);
        if self.probe && !self.finished.get() {
            live.abandon_probe(&self.endpoint);
        }
    }
}
