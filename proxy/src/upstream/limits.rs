//! Circuit breaker counts of one cluster, shared by all workers. Each is given back when its guard is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use outrigger_model::policy::Limits;
use tokio::sync::Notify;

use super::live::Live;
use super::metrics::RetryOutcome;

/// One of the four limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Connections,
    PendingRequests,
    Requests,
    Retries,
}

/// The counts behind the limits.
#[derive(Debug)]
pub(super) struct Counts {
    held: [AtomicU32; Limit::ALL.len()],
    /// Requests, of all workers, that wait because the limit on connections is reached.
    waiting: AtomicU32,
    /// Told when a connection is gone while somebody waits.
    freed: Notify,
}

/// One connection of a cluster. Dropped with the socket it stands for.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Live>);

/// One retry in flight. Dropped when the retry is over.
#[derive(Debug)]
pub struct RetryGuard(Arc<Live>);

/// One request that waits for a connection.
pub(super) struct Pending(Arc<Live>);

/// One request that waits until the number of connections is below its limit.
pub(super) struct Waiting<'a>(&'a Counts);

impl Limit {
    pub(super) const ALL: [Self; 4] =
        [Self::Connections, Self::PendingRequests, Self::Requests, Self::Retries];

    /// The word in metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::PendingRequests => "pending_requests",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }

    /// Its configured value.
    pub(super) const fn of(self, limits: &Limits) -> u32 {
        match self {
            Self::Connections => limits.max_connections,
            Self::PendingRequests => limits.max_pending_requests,
            Self::Requests => limits.max_requests,
            Self::Retries => limits.max_retries,
        }
    }
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            held: std::array::from_fn(|_| AtomicU32::new(0)),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
        }
    }

    pub(super) fn now(&self, limit: Limit) -> u32 {
        self.held[limit as usize].load(Relaxed)
    }

    /// Takes one place; false when all are taken.
    pub(super) fn enter(&self, limit: Limit, limits: &Limits) -> bool {
        let most = limit.of(limits);
        let one_more = |held: u32| (held < most).then_some(held + 1);
        self.held[limit as usize].fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    pub(super) fn leave(&self, limit: Limit) {
        self.held[limit as usize].fetch_sub(1, Relaxed);
    }

    /// Whether a request waits because of the limit on connections: idle ones are closed then.
    pub(super) fn somebody_waits(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self)
    }

    /// Resolves when a connection is gone.
    pub(super) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }
}

impl ConnectionPermit {
    /// `None` when the limit is reached. Not counted as an overflow: the caller knows whether it waits.
    pub(super) fn take(live: &Arc<Live>, limits: &Limits) -> Option<Self> {
        live.counts.enter(Limit::Connections, limits).then(|| {
            live.metrics.connections.increment(1.0);
            Self(live.clone())
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.counts.leave(Limit::Connections);
        self.0.metrics.connections.decrement(1.0);
        if self.0.counts.somebody_waits() {
            self.0.counts.freed.notify_one();
        }
    }
}

impl RetryGuard {
    pub(super) fn take(live: &Arc<Live>, limits: &Limits) -> Option<Self> {
        if live.counts.enter(Limit::Retries, limits) {
            return Some(Self(live.clone()));
        }
        live.metrics.overflow(Limit::Retries);
        live.metrics.retry(RetryOutcome::Limit);
        None
    }
}

impl Drop for RetryGuard {
    fn drop(&mut self) {
        self.0.counts.leave(Limit::Retries);
    }
}

impl Pending {
    pub(super) fn take(live: &Arc<Live>, limits: &Limits) -> Option<Self> {
        if live.counts.enter(Limit::PendingRequests, limits) {
            return Some(Self(live.clone()));
        }
        live.metrics.overflow(Limit::PendingRequests);
        None
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.counts.leave(Limit::PendingRequests);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
