//! Serves one downstream connection until it ends, is idle for too long, or the proxy drains.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::{debug, info};

use super::Body;
use super::connection::{Clocked, Connection, Direction, Downstream};
use super::hygiene::MAX_HEAD_BYTES;
use crate::reason::Reason;
use crate::telemetry::{RequestRecord, Way};
use crate::upstream::HttpVersion;
use crate::worker::Worker;
use crate::{inbound, outbound};

mod aside;
mod http1;

/// Streams one HTTP/2 client may have open at once.
const MAX_STREAMS: u32 = 100;

/// What one HTTP/2 stream may have on its way to us, in bytes.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// What one HTTP/2 connection may have on its way to us, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What waits to be written to one HTTP/2 stream, in bytes.
const STREAM_SEND_BYTES: usize = 64 * 1024;

/// HTTP/2 clients that do not answer a ping are gone.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// When draining, idle HTTP/1 connections may still bring one more request for so long.
const LAME_DUCK: Duration = Duration::from_secs(1);

/// A request head that is half here when draining is looked at again after this time.
const HALF_READ_PAUSE: Duration = Duration::from_millis(10);

/// Runs tasks of hyper on the worker's own thread.
#[derive(Debug, Clone, Copy)]
struct OnThisWorker;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisWorker
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Serves HTTP on an accepted connection until it ends, in a task of its own: what it took to find out what the connection
/// speaks is not kept for as long as it lives. A large stream is better boxed: it has more than one place in that task.
pub fn serve<I>(worker: Rc<Worker>, io: I, version: HttpVersion, downstream: Downstream)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::new(worker, downstream, version);
    tokio::task::spawn_local(until_end(connection, io));
}

async fn until_end<I>(connection: Rc<Connection>, io: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Clocked::new(io, &connection);
    let result = match connection.version {
        HttpVersion::Http1 => http1::serve(&connection, stream).await,
        HttpVersion::Http2 => Box::pin(serve_http2(&connection, TokioIo::new(stream))).await,
    };
    if let Some(reason) = connection.clock.refusal() {
        record_refusal(&connection, reason);
    }
    if let Err(error) = result {
        debug!(downstream.addr = %connection.downstream.peer, %error, "the connection ended with an error");
    }
}

/// Counts a message that was refused before it was a request.
fn record_refusal(connection: &Connection, reason: Reason) {
    let worker = &connection.worker;
    let mut record = RequestRecord::open(worker, connection.way(), Version::HTTP_11, Instant::now());
    if connection.way() == Way::Inbound {
        record.peer(connection.peer_label, connection.protection());
        record.service(connection.service_label);
    }
    record.status(reason.status());
    record.reason(reason);
    info!(downstream.addr = %connection.downstream.peer, reason = reason.word(), "a message was refused");
}

async fn serve_http2<I>(connection: &Rc<Connection>, io: TokioIo<Clocked<I>>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(connection.clone(), request));
    let mut builder = http2::Builder::new(OnThisWorker);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_SEND_BYTES)
        .max_header_list_size(2 * MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut served = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        result = served.as_mut() => return result,
        () = outlived(connection) => {}
        () = drained(connection, Duration::ZERO) => {}
    }
    served.as_mut().graceful_shutdown();
    served.await
}

async fn answer(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let response = match connection.downstream.direction {
        Direction::Inbound { application } => inbound::handle(connection, request, application).await,
        Direction::Outbound { destination } => outbound::handle(connection, request, destination).await,
    };
    Ok(response)
}

/// Resolves when a request head takes too long or the connection was idle for too long.
async fn outlived(connection: &Connection) {
    while let Some(at) = connection.clock.next_look(Instant::now()) {
        tokio::time::sleep_until(at).await;
    }
}

async fn drained(connection: &Connection, grace: Duration) {
    connection.drain().started().await;
    tokio::time::sleep(grace).await;
    // A request whose head has begun to come is one that was accepted.
    while connection.clock.is_reading_head() {
        tokio::time::sleep(HALF_READ_PAUSE).await;
    }
}
