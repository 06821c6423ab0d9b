//! HTTP/1 connections: one request at a time, then back to the idle ones of their target.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use outrigger_model::policy::ConnectionPolicy;
use tokio::time::Instant;

use super::arrivals::{Arrival, Arrivals};
use super::cluster::Cluster;
use super::pool::Tracked;
use crate::http::Body;

/// The most connections one worker keeps idle to one target.
pub(super) const IDLE_PER_TARGET: usize = 256;

/// The largest head of a response, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most headers of a response.
const MAX_HEADERS: usize = 100;

/// The connections to one target that carry no request now; the one used last is used next, so that the others can end.
pub(super) struct Idle {
    connections: RefCell<Vec<Kept>>,
    returned: Arrivals,
}

/// A connection that nobody else uses.
pub(super) struct Exclusive {
    sender: http1::SendRequest<Body>,
    home: Rc<Idle>,
    policy: ConnectionPolicy,
    cluster: Option<Arc<Cluster>>,
    made: Instant,
}

struct Kept {
    connection: Exclusive,
    until: Instant,
}

impl Idle {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), returned: Arrivals::default() })
    }

    /// The connection used last that can take a request; those found closed or too old are dropped.
    pub(super) fn take(&self, now: Instant) -> Option<Exclusive> {
        let mut kept = self.connections.borrow_mut();
        for place in (0..kept.len()).rev() {
            if kept[place].is_over(now) {
                kept.remove(place);
            } else if kept[place].connection.sender.is_ready() {
                return Some(kept.remove(place).connection);
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Resolves when a connection comes back.
    pub(super) fn returned(&self) -> Arrival<'_> {
        self.returned.next()
    }

    /// Drops what is closed or too old, and what stands in the way of a request that waits for a place.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections
            .borrow_mut()
            .retain(|kept| !kept.is_over(now) && !kept.connection.is_wanted_elsewhere());
    }

    /// Closes the connection of this cluster that was idle longest, to make place for another.
    pub(super) fn evict(&self, cluster: &Arc<Cluster>) -> Option<()> {
        let mut kept = self.connections.borrow_mut();
        let of_cluster = |kept: &Kept| {
            kept.connection.cluster.as_ref().is_some_and(|other| Arc::ptr_eq(other.live(), cluster.live()))
        };
        let place = kept.iter().position(of_cluster)?;
        drop(kept.remove(place));
        Some(())
    }

    fn keep(&self, connection: Exclusive) {
        if connection.is_wanted_elsewhere() && !self.returned.somebody_waits() {
            return;
        }
        let now = Instant::now();
        let expiry = connection.made + connection.policy.max_lifetime;
        let until = expiry.min(now + connection.policy.idle_timeout);
        let mut kept = self.connections.borrow_mut();
        if until > now && kept.len() < IDLE_PER_TARGET {
            kept.push(Kept { connection, until });
            drop(kept);
            self.returned.tell();
        }
    }
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.until <= now || self.connection.sender.is_closed()
    }
}

impl Exclusive {
    pub(super) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + use<> {
        self.sender.try_send_request(request)
    }

    pub(super) fn release(self) {
        if !self.sender.is_closed() {
            let home = self.home.clone();
            home.keep(self);
        }
    }

    fn is_wanted_elsewhere(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.live().counts.somebody_waits())
    }
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// Begins HTTP/1 on a fresh stream. The task that drives it ends when the connection does: when the peer closes it, or
/// when its sender is dropped.
pub(super) async fn begin(
    stream: Tracked,
    home: &Rc<Idle>,
    policy: &ConnectionPolicy,
    cluster: Option<&Arc<Cluster>>,
) -> Result<Exclusive, hyper::Error> {
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD_BYTES);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "upstream HTTP/1 connection ended");
        }
    });
    Ok(Exclusive {
        sender,
        home: home.clone(),
        policy: *policy,
        cluster: cluster.cloned(),
        made: Instant::now(),
    })
}
