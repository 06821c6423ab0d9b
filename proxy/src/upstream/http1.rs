//! HTTP/1.1 connections: one request at a time, then back to the idle ones of their target.
//!
//! The client side of the protocol is ours because it is most of what a request costs: hyper's runs in a task of its own
//! and hands every message over twice. Here the request that waits drives the connection, and an idle one is only a socket.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use outrigger_model::policy::ConnectionPolicy;
use tokio::time::Instant;

use super::arrivals::{Arrival, Arrivals};
use super::cluster::Cluster;
use super::message::Message;
use super::pool::Tracked;

mod decode;
mod head;
mod out;
mod turns;
mod wire;

pub(super) use turns::Turns;
pub use wire::Http1Error;
pub(super) use wire::Scratch;
use wire::Wire;

/// The most connections one worker keeps idle to one target.
pub(super) const IDLE_PER_TARGET: usize = 256;

/// A body up to this length, or of unknown length, is not worth a turn of its own.
const SHORT_BODY_BYTES: u64 = 8 * 1024;

/// The connections to one target that carry no request now; the one used last is used next, so that the others can end.
pub(super) struct Idle {
    connections: RefCell<Vec<Kept>>,
    returned: Arrivals,
    scratch: Rc<Scratch>,
    turns: Rc<Turns>,
    /// The most that are kept.
    room: usize,
}

/// A connection that nobody else uses.
pub(super) struct Exclusive(Box<Inner>);

struct Inner {
    wire: Wire,
    home: Rc<Idle>,
    policy: ConnectionPolicy,
    cluster: Option<Arc<Cluster>>,
    made: Instant,
    /// It has carried a request.
    used: bool,
}

struct Kept {
    connection: Exclusive,
    until: Instant,
}

/// Why there is no response head, and whether not a byte of the request was sent.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Http1Error,
    pub(super) unsent: bool,
}

/// A response body on its way; it gives the connection back at its end. Dropped before, it closes the connection.
pub(super) struct Incoming(Option<Exclusive>);

impl Idle {
    /// `scratch` and `turns` are those of the worker. What nobody could find again is to have no `room`.
    pub(super) fn new(scratch: Rc<Scratch>, turns: Rc<Turns>, room: usize) -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), returned: Arrivals::default(), scratch, turns, room })
    }

    /// Closes all. Each knows its home, so that they would outlive it.
    pub(super) fn close(&self) {
        self.connections.borrow_mut().clear();
    }

    /// The connection used last that can take a request; those found closed or too old are dropped.
    pub(super) fn take(&self, now: Instant) -> Option<Exclusive> {
        let mut kept = self.connections.borrow_mut();
        while let Some(Kept { mut connection, until }) = kept.pop() {
            if until > now && connection.0.wire.is_silent() {
                return Some(connection);
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
        self.connections.borrow_mut().retain_mut(|Kept { connection, until }| {
            *until > now && connection.0.wire.is_silent() && !connection.is_wanted_elsewhere()
        });
    }

    /// Closes the connection of this cluster that was idle longest, to make place for another.
    pub(super) fn evict(&self, cluster: &Arc<Cluster>) -> Option<()> {
        let mut kept = self.connections.borrow_mut();
        let of_cluster = |kept: &Kept| {
            kept.connection.0.cluster.as_ref().is_some_and(|other| Arc::ptr_eq(other.live(), cluster.live()))
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
        let expiry = connection.0.made + connection.0.policy.max_lifetime;
        let until = expiry.min(now + connection.0.policy.idle_timeout);
        let mut kept = self.connections.borrow_mut();
        if until > now && kept.len() < self.room {
            kept.push(Kept { connection, until });
            drop(kept);
            self.returned.tell();
        }
    }
}

impl Exclusive {
    /// For a fresh stream.
    pub(super) fn new(
        stream: Tracked,
        home: &Rc<Idle>,
        policy: &ConnectionPolicy,
        cluster: Option<&Arc<Cluster>>,
    ) -> Self {
        Self(Box::new(Inner {
            wire: Wire::new(stream),
            home: home.clone(),
            policy: *policy,
            cluster: cluster.cloned(),
            made: Instant::now(),
            used: false,
        }))
    }

    /// Sends a request and waits for the final response head. Dropping the future closes the connection.
    ///
    /// # Errors
    /// When nothing was sent, the message can be sent elsewhere.
    pub(super) async fn send(mut self, message: &mut Message) -> Result<Response<Incoming>, Failed> {
        let Inner { wire, home, used, .. } = &mut *self.0;
        let waiting = home.turns.join();
        let body = message.take_body();
        wire.begin(message.parts(), body);
        let method = &message.parts().method;
        waiting.after_others().await;
        // While others had their turn the peer may have ended a connection that had been idle.
        if *used && !wire.is_silent() {
            message.give_back(wire.take_body());
            return Err(Failed { error: Http1Error::Closed, unsent: true });
        }
        let head = match poll_fn(|cx| wire.poll_head(cx, &home.scratch, method)).await {
            Ok(head) => head,
            Err(error) => {
                let unsent = wire.is_unsent() && !matches!(error, Http1Error::RequestBody(_));
                if unsent {
                    message.give_back(wire.take_body());
                }
                return Err(Failed { error, unsent });
            }
        };
        // A long body is passed on while it is still in the caches.
        if head.body.remaining().is_none_or(|bytes| bytes <= SHORT_BODY_BYTES) {
            waiting.after_others().await;
        }
        drop(waiting);
        wire.expect(head.body, head.persistent);
        Ok(head.response.map(|()| Incoming::new(self)))
    }

    /// Whether another request can follow, and if so makes it available.
    pub(super) fn release(mut self) {
        if self.0.wire.is_reusable() {
            self.0.wire.rest();
            self.0.used = true;
            let home = self.0.home.clone();
            home.keep(self);
        }
    }

    fn is_wanted_elsewhere(&self) -> bool {
        self.0.cluster.as_ref().is_some_and(|cluster| cluster.live().counts.somebody_waits())
    }
}

impl Incoming {
    fn new(connection: Exclusive) -> Self {
        let mut incoming = Self(Some(connection));
        incoming.release_at_end();
        incoming
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        let Some(Exclusive(connection)) = &mut self.0 else { return Poll::Ready(None) };
        let Inner { wire, home, .. } = &mut **connection;
        let polled = wire.poll_frame(cx, &home.scratch);
        match &polled {
            Poll::Ready(Some(Err(_))) => self.0 = None,
            Poll::Ready(_) => self.release_at_end(),
            Poll::Pending => {}
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let remaining = self.0.as_ref().map_or(Some(0), |connection| connection.0.wire.remaining());
        remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The stream behind a response that switched protocols, and what was read from it beyond the head.
    pub(super) fn into_switched(self) -> Option<(Tracked, Bytes)> {
        self.0?.0.wire.into_switched()
    }

    fn release_at_end(&mut self) {
        if let Some(connection) = self.0.take_if(|connection| connection.0.wire.is_over()) {
            connection.release();
        }
    }
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive").field("wire", &self.0.wire).finish_non_exhaustive()
    }
}
