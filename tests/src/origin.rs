//! A small application that tells what it saw: HTTP/1.1 and HTTP/2 without TLS, on one port.
//!
//! | request | answer |
//! |---|---|
//! | `/stream?chunks=5&bytes=10&pause_ms=20` | that many chunks of that many bytes, a pause before each |
//! | `/echo` | the body and trailers of the request, as they arrive |
//! | `content-type: application/grpc...` | the messages of the request as they arrive, then `grpc-status: 0` |
//! | `Upgrade: x`, or `CONNECT` | 101 (200), then every byte comes back |
//! | anything else | a JSON object of what arrived, see [`Seen`] |
//!
//! [`Origin::fail_next`] and [`Origin::delay`] make it misbehave. [`TcpEcho`] is the same for opaque TCP, and
//! [`ScriptedOrigin`] answers with any bytes, [`Relay`] with what another application says.

mod body;
mod relay;
mod respond;
mod scripted;
mod tcp;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use relay::Relay;
pub use scripted::{Afterwards, ScriptedOrigin};
pub use tcp::{AFTER_EOF, TcpEcho};

/// How many connections are served at a time; the next waits in the listen queue.
const MAX_CONNECTIONS: usize = 1024;
/// How many requests are remembered; the oldest is forgotten first.
const MAX_SEEN_REQUESTS: usize = 4096;

/// A running HTTP origin. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    accept: JoinHandle<()>,
}

/// A request as the origin saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The request target.
    pub uri: Uri,
    /// The HTTP version of the connection it came over.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// Who connected.
    pub peer: SocketAddr,
    /// What became of the body.
    pub body: SeenBody,
}

/// The body of a request as the origin saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenBody {
    /// All of it.
    Complete(Bytes),
    /// The beginning; then the connection or the stream broke.
    Cut(Bytes),
    /// The beginning; the rest was more than the origin keeps, and it answered 413.
    TooLarge(Bytes),
    /// It was passed on as it came (echo, gRPC, upgrade) and not kept.
    Streamed,
}

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Answer with this status.
    Status(StatusCode),
    /// Break the connection (HTTP/1.1) or the stream (HTTP/2) before the response head.
    Reset,
    /// Announce a body of 100 bytes, send ten of them, and break off.
    CutBody,
}

/// What the connections of an origin share.
#[derive(Debug)]
struct State {
    name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    arrived: u64,
    seen: VecDeque<Seen>,
    failures: Option<(u32, Failure)>,
    delay: Duration,
    /// Connections that have left HTTP; they end with the origin.
    upgraded: JoinSet<()>,
}

impl Origin {
    /// Listens on `address` (port 0 picks a free one) and serves. `name` is part of each JSON answer.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(name: &str, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { name: name.to_owned(), inner: Mutex::default() });
        let accept = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, accept })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many request heads have arrived, whatever became of their bodies.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.state.lock().arrived
    }

    /// The requests that have been read to their end, oldest first, at most 4096.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.iter().cloned().collect()
    }

    /// Makes the next `times` requests fail; replaces what was said before.
    pub fn fail_next(&self, times: u32, failure: Failure) {
        self.state.lock().failures = Some((times, failure));
    }

    /// Waits this long before each response head from now on.
    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // The task owns the listener and the connections, so that all of them go with it.
        self.accept.abort();
        self.state.lock().upgraded.abort_all();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panics while it holds the lock has failed already; the others may go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, seen: Seen) {
        let requests = &mut self.lock().seen;
        if requests.len() == MAX_SEEN_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(seen);
    }
}

impl Inner {
    /// The failure this request is to meet, if one is due.
    fn take_failure(&mut self) -> Option<Failure> {
        let (left, failure) = self.failures.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(*failure)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // A connection that is gone before it is accepted is the peer's affair.
                if let Ok((stream, peer)) = accepted {
                    connections.spawn(serve(stream, peer, Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, state: Arc<State>) {
    let service = service_fn(move |request| respond::respond(Arc::clone(&state), peer, request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().enable_connect_protocol();
    // How a connection ends shows in what the client gets, which is what tests look at.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests;
