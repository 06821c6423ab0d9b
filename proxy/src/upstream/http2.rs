//! HTTP/2 connections: shared by the requests of one worker to one target, a bounded number of streams each.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use outrigger_model::policy::ConnectionPolicy;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::arrivals::{Arrival, Arrivals};
use super::cluster::Cluster;
use super::dial::DialError;
use super::pool::Tracked;
use crate::http::Body;

/// The most streams on one connection; another connection is made beyond.
pub(super) const MAX_STREAMS: usize = 100;
/// How much a peer may send on one stream before it must wait.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// How much a peer may send on one connection before it must wait.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The largest header block of a response, in bytes.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// How much of a request body may wait in memory for the peer's window.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A ping is sent after so long without a byte, so that a dead peer is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The connection ends when a ping is not answered within this.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to one target.
pub(super) struct Multiplexed {
    connections: RefCell<Vec<Rc<Shared>>>,
    dialling: RefCell<Vec<Rc<Dialling>>>,
    /// Told when a stream ends.
    freed: Rc<Arrivals>,
}

/// One connection.
struct Shared {
    sender: RefCell<http2::SendRequest<Body>>,
    streams: Cell<usize>,
    /// What the peer allows.
    most_streams: Rc<Cell<usize>>,
    policy: ConnectionPolicy,
    cluster: Option<Arc<Cluster>>,
    made: Instant,
    /// When its last stream ended.
    idle_since: Cell<Instant>,
    freed: Rc<Arrivals>,
}

/// A place for one stream.
pub(super) struct Stream(Rc<Shared>);

/// A connection that is being made, for all requests that wait for it.
pub(super) struct Dialling {
    waiters: Cell<usize>,
    result: RefCell<Option<Result<(), DialError>>>,
    done: Notify,
}

/// Ends a dialling even when the task that does it is dropped.
pub(super) struct DiallingGuard {
    home: Rc<Multiplexed>,
    dialling: Rc<Dialling>,
    if_dropped: Option<DialError>,
}

impl Multiplexed {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), dialling: RefCell::default(), freed: Rc::default() })
    }

    /// A place on the first connection that has one; those found closed or too old take no more requests.
    pub(super) fn take(&self, now: Instant) -> Option<Stream> {
        let mut connections = self.connections.borrow_mut();
        let mut place = 0;
        while let Some(connection) = connections.get(place) {
            if connection.is_over(now) {
                connections.remove(place);
            } else if connection.has_place() {
                return Some(Stream::new(connection.clone(), now));
            } else {
                place += 1;
            }
        }
        None
    }

    /// Joins a connection that is being made and has a place left, or begins another: then the guard is the caller's.
    pub(super) fn join(self: &Rc<Self>, if_dropped: DialError) -> (Rc<Dialling>, Option<DiallingGuard>) {
        let mut all = self.dialling.borrow_mut();
        if let Some(dialling) = all.iter().find(|dialling| dialling.waiters.get() < MAX_STREAMS) {
            return (dialling.clone(), None);
        }
        let dialling =
            Rc::new(Dialling { waiters: Cell::new(0), result: RefCell::default(), done: Notify::new() });
        all.push(dialling.clone());
        let guard =
            DiallingGuard { home: self.clone(), dialling: dialling.clone(), if_dropped: Some(if_dropped) };
        (dialling, Some(guard))
    }

    /// Resolves when a stream ends.
    pub(super) fn freed(&self) -> Arrival<'_> {
        self.freed.next()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.dialling.borrow().is_empty()
    }

    /// Drops what is closed, too old, idle too long, or idle in the way of a request that waits for a place.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections.borrow_mut().retain(|connection| {
            let idle = connection.streams.get() == 0;
            let unwanted = connection.is_wanted_elsewhere()
                || connection.idle_since.get() + connection.policy.idle_timeout <= now;
            !(connection.is_over(now) || idle && unwanted)
        });
    }

    /// Closes an idle connection of this cluster, to make place for another.
    pub(super) fn evict(&self, cluster: &Arc<Cluster>) -> Option<()> {
        let mut connections = self.connections.borrow_mut();
        let evictable = |connection: &Rc<Shared>| {
            let of_cluster =
                connection.cluster.as_ref().is_some_and(|other| Arc::ptr_eq(other.live(), cluster.live()));
            of_cluster && connection.streams.get() == 0
        };
        let place = connections.iter().position(evictable)?;
        drop(connections.remove(place));
        Some(())
    }
}

impl Shared {
    fn has_place(&self) -> bool {
        self.streams.get() < MAX_STREAMS.min(self.most_streams.get())
    }

    /// Takes no more requests; what is under way goes on.
    fn is_over(&self, now: Instant) -> bool {
        let idle_too_long =
            self.streams.get() == 0 && self.idle_since.get() + self.policy.idle_timeout <= now;
        idle_too_long || self.made + self.policy.max_lifetime <= now || self.sender.borrow().is_closed()
    }

    fn is_wanted_elsewhere(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.live().counts.somebody_waits())
    }
}

impl Stream {
    fn new(shared: Rc<Shared>, now: Instant) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.idle_since.set(now);
        Self(shared)
    }

    pub(super) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + use<> {
        self.0.sender.borrow_mut().try_send_request(request)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(Instant::now());
        self.0.freed.tell();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("streams", &self.0.streams).finish_non_exhaustive()
    }
}

impl Dialling {
    /// Waits until the connection is there or failed.
    pub(super) async fn wait(&self) -> Result<(), DialError> {
        let _waiter = Waiter::new(&self.waiters);
        loop {
            let done = self.done.notified();
            if let Some(result) = &*self.result.borrow() {
                return result.clone();
            }
            done.await;
        }
    }
}

struct Waiter<'a>(&'a Cell<usize>);

impl<'a> Waiter<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl DiallingGuard {
    /// Where the connection goes.
    pub(super) fn home(&self) -> &Multiplexed {
        &self.home
    }

    /// The connection is there: whoever waits takes a place on it.
    pub(super) fn succeed(mut self, connection: New) {
        self.home.connections.borrow_mut().push(Rc::new(connection.0));
        self.finish(Ok(()));
    }

    pub(super) fn fail(mut self, error: DialError) {
        self.finish(Err(error));
    }

    fn finish(&mut self, result: Result<(), DialError>) {
        self.if_dropped = None;
        self.home.dialling.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.dialling));
        *self.dialling.result.borrow_mut() = Some(result);
        self.dialling.done.notify_waiters();
    }
}

impl Drop for DiallingGuard {
    fn drop(&mut self) {
        if let Some(error) = self.if_dropped.take() {
            self.finish(Err(error));
        }
    }
}

/// A connection that has just begun.
pub(super) struct New(Shared);

/// Begins HTTP/2 on a fresh stream. The task that drives it ends when the connection does: when the peer ends it, or when
/// its last sender is dropped and its last stream is over.
pub(super) async fn begin(
    stream: Tracked,
    home: &Multiplexed,
    policy: &ConnectionPolicy,
    cluster: Option<&Arc<Cluster>>,
) -> Result<New, hyper::Error> {
    let (sender, connection) = builder().handshake(TokioIo::new(stream)).await?;
    let most_streams = Rc::new(Cell::new(connection.current_max_send_streams()));
    tokio::task::spawn_local({
        let most_streams = most_streams.clone();
        async move {
            let mut connection = pin!(connection);
            let driven = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                most_streams.set(connection.current_max_send_streams());
                polled
            });
            if let Err(error) = driven.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "upstream HTTP/2 connection ended");
            }
        }
    });
    let now = Instant::now();
    Ok(New(Shared {
        sender: RefCell::new(sender),
        streams: Cell::new(0),
        most_streams,
        policy: *policy,
        cluster: cluster.cloned(),
        made: now,
        idle_since: Cell::new(now),
        freed: home.freed.clone(),
    }))
}

fn builder() -> http2::Builder<LocalTasks> {
    let mut builder = http2::Builder::new(LocalTasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .initial_max_send_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// hyper's tasks for one connection run beside it, on its worker, and end with it.
#[derive(Debug, Clone, Copy)]
struct LocalTasks;

impl<F: Future + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
