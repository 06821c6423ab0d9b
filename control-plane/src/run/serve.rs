//! The gRPC ports: accepts connections, plain or TLS, and serves HTTP/2 on them until the drain.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_base::lifecycle::drain::Drain;
use outrigger_base::tls::verified_peer;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::codegen::Service;
use tonic::service::Routes;

use crate::ca::serving::ServingTls;
use crate::token::gate::{Channel, Peer};

/// Connections one port has open; more wait to be accepted.
const MAX_CONNECTIONS: usize = 20_480;
/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be open before its first call.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take to end when it is asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a connection could not be accepted, for example because there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A silent connection is asked for a sign of life after this, and must give it within the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls on one connection at a time.
const MAX_CALLS: u32 = 64;
/// Request headers of a call, in bytes.
const MAX_HEADER_BYTES: u32 = 32 * 1024;

/// What stands between a port and its services.
#[derive(Debug)]
pub(crate) enum Security {
    /// Nothing.
    Plaintext,
    /// TLS.
    Tls(Box<ServingTls>),
}

/// One accepted connection before anything was said on it.
struct Arrival {
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    routes: Routes,
    drain: Drain,
}

/// Serves `routes` until `drain` starts, then lets connections finish.
pub(crate) async fn serve(listener: TcpListener, mut security: Security, routes: Routes, drain: Drain) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
            () = drain.started() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let tls = security.for_now();
                let arrival = Arrival { stream, address, tls, routes: routes.clone(), drain: drain.clone() };
                connections.spawn(arrival.serve());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Security {
    fn for_now(&mut self) -> Option<Arc<ServerConfig>> {
        match self {
            Self::Plaintext => None,
            Self::Tls(tls) => Some(tls.current(SystemTime::now())),
        }
    }
}

impl Arrival {
    async fn serve(self) {
        let _guard = self.drain.guard();
        // Small messages must not wait for each other; a socket that cannot do so still works.
        let _ = self.stream.set_nodelay(true);
        let address = self.address;
        let Some(tls) = self.tls else {
            let peer = Peer { address, channel: Channel::Plaintext };
            return calls(self.stream, peer, self.routes, self.drain).await;
        };
        let stream = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(self.stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return tracing::info!(downstream.addr = %address, "TLS handshake failed: {error}");
            }
            Err(_) => return tracing::info!(downstream.addr = %address, "TLS handshake took too long"),
        };
        let session = stream.get_ref().1;
        let identity = match session.peer_certificates().map(|_| verified_peer(session)).transpose() {
            Ok(identity) => identity,
            Err(error) => return tracing::info!(downstream.addr = %address, "refused a certificate: {error}"),
        };
        let peer = Peer { address, channel: Channel::Tls(identity) };
        calls(stream, peer, self.routes, self.drain).await;
    }
}

/// Serves the calls of a connection.
async fn calls<S>(stream: S, peer: Peer, routes: Routes, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let called = Arc::new(AtomicBool::new(false));
    let service = {
        let called = called.clone();
        service_fn(move |request: Request<Incoming>| {
            called.store(true, Ordering::Relaxed);
            call(routes.clone(), peer.clone(), request)
        })
    };
    let mut served = pin!(server().serve_connection(TokioIo::new(stream), service));
    let first_call = async {
        sleep(FIRST_CALL_TIMEOUT).await;
        if called.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // A call that waits in the socket has come in time, however busy the machine was.
        biased;
        ended = served.as_mut() => return log_end(ended, address),
        () = first_call => return tracing::debug!(downstream.addr = %address, "closed an unused connection"),
        () = drain.started() => {}
    }
    served.as_mut().graceful_shutdown();
    match timeout(CLOSE_TIMEOUT, served).await {
        Ok(ended) => log_end(ended, address),
        Err(_) => tracing::debug!(downstream.addr = %address, "closed a connection that did not end"),
    }
}

fn server() -> http2::Builder<TokioExecutor> {
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADER_BYTES);
    server
}

async fn call(
    mut routes: Routes,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<tonic::body::Body>, std::convert::Infallible> {
    request.extensions_mut().insert(peer);
    routes.call(request.map(tonic::body::Body::new)).await
}

fn log_end(ended: hyper::Result<()>, address: SocketAddr) {
    if let Err(error) = ended {
        tracing::debug!(%error, downstream.addr = %address, "a connection failed");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use outrigger_base::lifecycle::drain;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::advance;

    use super::*;

    /// The preface of HTTP/2, empty settings, and `POST http://a/` without a body (RFC 9113, RFC 7541).
    const CALL: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                          \0\0\x06\x01\x05\0\0\0\x01\x83\x86\x84\x41\x01a";

    /// Lets a connection do what it can do now; whether it goes on.
    async fn is_open(connection: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_call_that_waits_in_the_socket_is_in_time() {
        let (_trigger, drain) = drain::new(Duration::from_secs(1));
        // Whoever leaves the choice to chance fails this often enough.
        for _ in 0..20 {
            let (mut client, server) = duplex(64 * 1024);
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), channel: Channel::Plaintext };
            let mut served = pin!(calls(server, peer, Routes::default(), drain.clone()));
            assert!(is_open(&mut served).await);
            client.write_all(CALL).await.unwrap();
            advance(FIRST_CALL_TIMEOUT + Duration::from_secs(1)).await;
            assert!(is_open(&mut served).await, "a call that had come was cut off");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_closed() {
        let (_trigger, drain) = drain::new(Duration::from_secs(1));
        let (mut client, server) = duplex(64 * 1024);
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), channel: Channel::Plaintext };
        client.write_all(&CALL[..33]).await.unwrap();
        calls(server, peer, Routes::default(), drain).await;
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
