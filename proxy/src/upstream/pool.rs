//! The connections of one worker, by target: checked out, given back, and swept when they are old.
//!
//! The key of a pool is the whole [`Target`]: a connection made for one identity is never used for another. Finding an
//! idle connection allocates nothing and takes no lock. Limits on connections belong to the cluster and are shared by
//! workers; a request that meets the limit waits for a connection to come back or to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outrigger_base::tls::Alpn;
use outrigger_model::identity::SpiffeId;
use outrigger_model::policy::ConnectionPolicy;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::connection::Connection;
use super::dial::{DialCause, DialError, Stream, dial};
use super::http1::{Exclusive, IDLE_PER_TARGET, Idle, Scratch, Turns};
use super::http2::{self, DiallingGuard, Multiplexed};
use super::limits::{ConnectionPermit, Limit, Pending};
use super::origin::Origin;
use crate::telemetry::Protection;
use crate::worker::Shared;

/// How often a worker looks for connections that are over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How long a request waits when the limit on connections is reached.
const MAX_CONNECTION_WAIT: Duration = Duration::from_secs(15);

/// The most targets whose connections one worker keeps; connections to others are used once.
const MAX_TARGETS: usize = 16_384;

/// How often a request may wait for an HTTP/2 connection and find others on its places.
const MAX_ROUNDS: u32 = 32;

/// Whom to connect to and how; the whole of it is the key of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// Protected or not, and who must answer.
    pub security: Security,
    /// What is spoken.
    pub version: HttpVersion,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// Mutual TLS, and exactly this identity answers.
    Mesh(SpiffeId),
    /// TLS to a server outside the mesh, verified as its cluster asks.
    Origin(Arc<Origin>),
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
}

/// All connections of one worker.
pub struct Pools {
    shared: Arc<Shared>,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    targets: RefCell<HashMap<Target, Pool, foldhash::fast::RandomState>>,
    sweeping: Cell<bool>,
    scratch: Rc<Scratch>,
    turns: Rc<Turns>,
}

/// The connections to one target.
#[derive(Clone)]
enum Pool {
    Http1(Rc<Idle>),
    Http2(Rc<Multiplexed>),
}

/// What a new connection is made for.
struct Order<'a> {
    target: &'a Target,
    policy: &'a ConnectionPolicy,
    cluster: Option<&'a Arc<Cluster>>,
}

/// A stream that counts as a connection of its cluster as long as its socket is open, whoever holds it.
#[derive(Debug)]
pub(super) struct Tracked {
    stream: Stream,
    _permit: Option<ConnectionPermit>,
}

/// What ends the wait for a place among the connections.
enum Place {
    Idle(Exclusive),
    Permit(Option<ConnectionPermit>),
}

impl Security {
    /// As telemetry says it.
    pub fn protection(&self) -> Protection {
        match self {
            Self::Plaintext => Protection::Plaintext,
            Self::Mesh(_) => Protection::Mtls,
            Self::Origin(_) => Protection::Tls,
        }
    }
}

impl Pools {
    /// Without connections. They are made, and live, on the worker that calls [`connection`](Self::connection).
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: Rc::default() }
    }

    /// A connection that can take a request now: idle, multiplexed, or made for it. `cluster` is whose limits count;
    /// `None` for the local application.
    ///
    /// # Errors
    /// No connection could be made, or a limit of the cluster is reached; nothing was sent.
    pub async fn connection(
        &self,
        target: &Target,
        policy: &ConnectionPolicy,
        cluster: Option<&Arc<Cluster>>,
    ) -> Result<Connection, DialError> {
        let order = Order { target, policy, cluster };
        match self.state.pool(target) {
            Pool::Http1(idle) => match idle.take(Instant::now()) {
                Some(connection) => Ok(Connection::http1(connection, true)),
                None => Box::pin(self.exclusive(order, &idle)).await,
            },
            Pool::Http2(multiplexed) => match multiplexed.take(Instant::now()) {
                Some(stream) => Ok(Connection::http2(stream, true)),
                None => Box::pin(self.multiplexed(order, &multiplexed)).await,
            },
        }
    }

    async fn exclusive(&self, order: Order<'_>, idle: &Rc<Idle>) -> Result<Connection, DialError> {
        let _pending = order.pending()?;
        let permit = match place(&self.state, &order, Some(idle)).await? {
            Place::Idle(connection) => return Ok(Connection::http1(connection, true)),
            Place::Permit(permit) => permit,
        };
        let stream = open(&self.shared, &order, permit).await?;
        Ok(Connection::http1(Exclusive::new(stream, idle, order.policy, order.cluster), false))
    }

    async fn multiplexed(&self, order: Order<'_>, home: &Rc<Multiplexed>) -> Result<Connection, DialError> {
        let _pending = order.pending()?;
        for _ in 0..MAX_ROUNDS {
            let (dialling, guard) = home.join(order.error(DialCause::Ending));
            if let Some(guard) = guard {
                self.spawn_dialling(&order, guard);
            }
            // A stream that ends elsewhere makes a place too, perhaps long before a limit lets another connection be made.
            let freed = home.freed();
            tokio::select! {
                made = dialling.wait() => made?,
                () = freed.wait() => {}
            }
            if let Some(stream) = home.take(Instant::now()) {
                return Ok(Connection::http2(stream, false));
            }
        }
        Err(order.error(DialCause::Contended(MAX_ROUNDS)))
    }

    /// In a task of its own, because others may wait for the connection when this request is gone. It ends within
    /// [`MAX_CONNECTION_WAIT`] and the connect timeout.
    fn spawn_dialling(&self, order: &Order<'_>, guard: DiallingGuard) {
        let (shared, state) = (self.shared.clone(), Rc::downgrade(&self.state));
        let (target, policy, cluster) = (order.target.clone(), *order.policy, order.cluster.cloned());
        tokio::task::spawn_local(async move {
            let order = Order { target: &target, policy: &policy, cluster: cluster.as_ref() };
            let Some(state) = state.upgrade() else { return };
            match dial_http2(&shared, &state, &order, guard.home()).await {
                Ok(connection) => guard.succeed(connection),
                Err(error) => guard.fail(error),
            }
        });
    }
}

async fn dial_http2(
    shared: &Shared,
    state: &Rc<State>,
    order: &Order<'_>,
    home: &Multiplexed,
) -> Result<http2::New, DialError> {
    let permit = match place(state, order, None).await? {
        Place::Permit(permit) => permit,
        // Only asked for with idle HTTP/1 connections at hand.
        Place::Idle(_) => None,
    };
    let stream = open(shared, order, permit).await?;
    let begun = http2::begin(stream, home, order.policy, order.cluster).await;
    begun.map_err(|error| order.error(DialCause::Http(error)))
}

async fn open(
    shared: &Shared,
    order: &Order<'_>,
    permit: Option<ConnectionPermit>,
) -> Result<Tracked, DialError> {
    let alpn = match order.target.version {
        HttpVersion::Http1 => Alpn::Http1,
        HttpVersion::Http2 => Alpn::H2,
    };
    let stream = dial(shared, order.target.address, &order.target.security, alpn, order.policy).await?;
    Ok(Tracked { stream, _permit: permit })
}

/// A place among the cluster's connections, or an idle one that came back while waiting for it.
async fn place(state: &State, order: &Order<'_>, idle: Option<&Rc<Idle>>) -> Result<Place, DialError> {
    let Some(cluster) = order.cluster else { return Ok(Place::Permit(None)) };
    let limits = cluster.config().limits;
    if let Some(permit) = ConnectionPermit::take(cluster.live(), &limits) {
        return Ok(Place::Permit(Some(permit)));
    }
    cluster.live().metrics.overflow(Limit::Connections);
    let waited = tokio::time::timeout(MAX_CONNECTION_WAIT, wait_for_place(state, cluster, idle)).await;
    waited.map_err(|_| order.limit_error(Limit::Connections))
}

async fn wait_for_place(state: &State, cluster: &Arc<Cluster>, idle: Option<&Rc<Idle>>) -> Place {
    let live = cluster.live();
    let _waiting = live.counts.wait();
    loop {
        let mut freed = pin!(live.counts.freed());
        freed.as_mut().enable();
        let returned = async {
            match idle {
                Some(idle) => idle.returned().wait().await,
                None => std::future::pending().await,
            }
        };
        let mut returned = pin!(returned);
        if let Some(connection) = idle.and_then(|idle| idle.take(Instant::now())) {
            return Place::Idle(connection);
        }
        if let Some(permit) = ConnectionPermit::take(live, &cluster.config().limits) {
            return Place::Permit(Some(permit));
        }
        state.evict(cluster);
        tokio::select! {
            () = &mut freed => {}
            () = &mut returned => {}
        }
    }
}

impl Order<'_> {
    fn error(&self, cause: DialCause) -> DialError {
        DialError::new(self.target.address, cause)
    }

    fn limit_error(&self, limit: Limit) -> DialError {
        let cluster = self.cluster.map(|cluster| cluster.config().name.clone()).unwrap_or_default();
        self.error(DialCause::Limit { limit: limit.word(), cluster })
    }

    /// Counts a request that waits for a connection.
    fn pending(&self) -> Result<Option<Pending>, DialError> {
        let Some(cluster) = self.cluster else { return Ok(None) };
        let pending = Pending::take(cluster.live(), &cluster.config().limits);
        pending.map(Some).ok_or_else(|| self.limit_error(Limit::PendingRequests))
    }
}

impl State {
    fn pool(self: &Rc<Self>, target: &Target) -> Pool {
        let mut targets = self.targets.borrow_mut();
        if let Some(pool) = targets.get(target) {
            return pool.clone();
        }
        let found_again = targets.len() < MAX_TARGETS;
        let room = if found_again { IDLE_PER_TARGET } else { 0 };
        let pool = match target.version {
            HttpVersion::Http1 => Pool::Http1(Idle::new(self.scratch.clone(), self.turns.clone(), room)),
            HttpVersion::Http2 => Pool::Http2(Multiplexed::new()),
        };
        if found_again {
            targets.insert(target.clone(), pool.clone());
            self.sweep_from_now_on();
        }
        pool
    }

    /// Closes one idle connection of a cluster that is at its limit.
    fn evict(&self, cluster: &Arc<Cluster>) {
        let targets = self.targets.borrow();
        targets.values().find_map(|pool| match pool {
            Pool::Http1(idle) => idle.evict(cluster),
            Pool::Http2(multiplexed) => multiplexed.evict(cluster),
        });
    }

    /// Starts the worker's one sweeper, unless it is at work. It ends when nothing is left to sweep, or with the worker.
    fn sweep_from_now_on(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let state = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                if !Weak::upgrade(&state).is_some_and(|state| state.sweep(Instant::now())) {
                    return;
                }
            }
        });
    }

    /// Drops connections that are over and targets without any; false when nothing is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut targets = self.targets.borrow_mut();
        targets.retain(|_, pool| {
            pool.sweep(now);
            !pool.is_unused()
        });
        self.sweeping.set(!targets.is_empty());
        !targets.is_empty()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for pool in self.targets.get_mut().values() {
            if let Pool::Http1(idle) = pool {
                idle.close();
            }
        }
    }
}

impl Pool {
    fn sweep(&self, now: Instant) {
        match self {
            Self::Http1(idle) => idle.sweep(now),
            Self::Http2(multiplexed) => multiplexed.sweep(now),
        }
    }

    /// No connection here, and nobody else who could bring one back.
    fn is_unused(&self) -> bool {
        match self {
            Self::Http1(idle) => idle.is_empty() && Rc::strong_count(idle) == 1,
            Self::Http2(multiplexed) => multiplexed.is_empty() && Rc::strong_count(multiplexed) == 1,
        }
    }
}

impl AsyncRead for Tracked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
