//! The small HTTP/1.1 server of a process: admin, metrics and health. Never on the path of user traffic.
//!
//! Bounded in connections and in time: a slow or idle reader cannot keep others out for ever. What is served is a
//! `Router` of the caller; those for metrics and health are in `routers`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::lifecycle::drain::Drain;

mod routers;

pub use routers::{ApplicationMetrics, Readiness, health_router, metrics_router};

/// How many connections one server has open; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a client may take for a request head, and how long a connection may be idle.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How old a connection gets.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// How long a connection may take to finish its request when it is to end.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted; beyond that the kernel refuses them, or resets them once they speak. A fleet
/// whose control plane was restarted comes back all at once. The kernel takes less where `net.core.somaxconn` is less.
pub const MAX_WAITING_CONNECTIONS: u32 = 4096;

/// How large a request head may be, in bytes.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// How long to wait after a connection could not be accepted, for example because there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request comes from, in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub SocketAddr);

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{}", advice(*.address, .flag, .source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The flag that says which address, such as `--admin`.
    pub flag: &'static str,
    source: io::Error,
}

/// Listens on `address`, which the flag `flag` chose.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    listen(address).map_err(|source| BindError { address, flag, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the process before must not keep this one from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(MAX_WAITING_CONNECTIONS)
}

/// Serves `router` until `drain` starts, then finishes what is being answered. Give it a drain that starts after the
/// one of user traffic, so that metrics and health can be read until the end.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, address)) => {
                    let router = router.clone().layer(Extension(Caller(address)));
                    connections.spawn(connection(stream, router, drain.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the admin server");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = drain.started() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, router: Router, drain: Drain) {
    let _guard = drain.guard();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let mut served = pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = served.as_mut() => return log_end(ended),
        () = drain.started() => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
    }
    served.as_mut().graceful_shutdown();
    match timeout(CLOSE_TIMEOUT, served).await {
        Ok(ended) => log_end(ended),
        Err(_) => tracing::debug!("closed a connection to the admin server that did not end"),
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin server failed");
    }
}

fn advice(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address {address} is in use; stop the other process or choose another with {flag} addr:port \
             (0 picks a free port)"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("address {address} is not one of this machine; choose one that is with {flag} addr:port")
        }
        io::ErrorKind::PermissionDenied => format!(
            "no permission to listen on {address}; choose a port of 1024 or above with {flag} addr:port, or allow \
             the process CAP_NET_BIND_SERVICE"
        ),
        _ => format!("cannot listen on {address} (chosen with {flag}): {error}"),
    }
}

#[cfg(test)]
mod tests;
