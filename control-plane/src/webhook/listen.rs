//! The port of the webhooks: HTTPS, with HTTP/2 or HTTP/1.1 as the client likes, bounded in connections and in time.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use outrigger_base::lifecycle::drain::Drain;
use outrigger_base::tls::Alpn;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ca::serving::ServingTls;

/// Connections that are open; more wait to be accepted. An API server has one or two.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take for a request head, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// A silent connection is asked for a sign of life after this, and must give it within the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How old a connection gets.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long a connection may take to finish its request when it is to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, for example because there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests on one connection at a time.
const MAX_REQUESTS: u32 = 64;
/// How large a request head may be, in bytes.
const MAX_HEAD_BYTES: u32 = 32 << 10;

/// Serves `router` until `drain` starts, then finishes what is being answered.
pub(crate) async fn serve(listener: TcpListener, mut tls: ServingTls, router: Router, drain: Drain) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
            () = drain.started() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let tls = tls.current(SystemTime::now());
                let (router, drain) = (router.clone(), drain.clone());
                connections.spawn(async move {
                    let _guard = drain.guard();
                    if let Some(stream) = handshake(stream, address, tls).await {
                        answer(stream, address, router, &drain).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the webhooks");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
) -> Option<TlsStream<TcpStream>> {
    // Small messages must not wait for each other; a socket that cannot do so still works.
    let _ = stream.set_nodelay(true);
    match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            // An API server that does not trust us shows here first.
            tracing::warn!(downstream.addr = %address, "TLS handshake with a client of the webhooks failed: {error}");
        }
        Err(_) => tracing::info!(downstream.addr = %address, "TLS handshake took too long"),
    }
    None
}

async fn answer(stream: TlsStream<TcpStream>, address: SocketAddr, router: Router, drain: &Drain) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(Alpn::H2.id());
    let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(router));
    // The two kinds of connections have the same methods and no common trait.
    let ended = match is_http2 {
        true => {
            let mut served = pin!(http2_server().serve_connection(io, service));
            tokio::select! {
                ended = served.as_mut() => return log_end(ended, address),
                () = end(drain) => served.as_mut().graceful_shutdown(),
            }
            timeout(CLOSE_TIMEOUT, served).await
        }
        false => {
            let mut served = pin!(http1_server().serve_connection(io, service));
            tokio::select! {
                ended = served.as_mut() => return log_end(ended, address),
                () = end(drain) => served.as_mut().graceful_shutdown(),
            }
            timeout(CLOSE_TIMEOUT, served).await
        }
    };
    match ended {
        Ok(ended) => log_end(ended, address),
        Err(_) => tracing::debug!(downstream.addr = %address, "closed a connection that did not end"),
    }
}

/// Resolves when a connection is to end.
async fn end(drain: &Drain) {
    tokio::select! {
        () = drain.started() => {}
        () = sleep(MAX_AGE) => {}
    }
}

fn http2_server() -> http2::Builder<TokioExecutor> {
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_REQUESTS)
        .max_header_list_size(MAX_HEAD_BYTES);
    server
}

fn http1_server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD_BYTES as usize);
    server
}

fn log_end(ended: hyper::Result<()>, address: SocketAddr) {
    if let Err(error) = ended {
        tracing::debug!(%error, downstream.addr = %address, "a connection to the webhooks failed");
    }
}
