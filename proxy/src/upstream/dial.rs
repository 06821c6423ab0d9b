//! Making a connection to an endpoint: TCP, then mutual TLS where a sidecar stands there, all within one timeout.
//!
//! Whoever answers must be exactly the expected SPIFFE id: a certificate of the mesh is not enough. This module knows
//! neither HTTP nor pools.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outrigger_base::identity::IdentityError;
use outrigger_base::tls::{Alpn, OriginError, OriginTls, describe_io, endpoint_name};
use outrigger_model::identity::SpiffeId;
use outrigger_model::policy::ConnectionPolicy;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::origin::Origin;
use super::pool::Security;
use crate::reason::Reason;
use crate::worker::{Interception, Shared};

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, the peer verified.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub struct DialError {
    /// `ConnectFailed`, `TlsFailed` or `Overflow`.
    pub reason: Reason,
    /// Where it was dialled.
    pub address: SocketAddr,
    /// What happened. Shared, because several requests may wait for one connection.
    pub cause: Arc<DialCause>,
}

/// What kept a connection from being made.
#[derive(Debug, thiserror::Error)]
pub enum DialCause {
    /// TCP.
    #[error("TCP connect failed")]
    Connect(#[source] io::Error),
    /// TCP or TLS took longer than the policy's `connectTimeout`.
    #[error("the {stage} handshake was not done within connectTimeout, {after:?}")]
    TimedOut {
        /// `TCP` or `TLS`.
        stage: &'static str,
        /// The timeout.
        after: Duration,
    },
    /// A sidecar stands there but this proxy has no certificate to show.
    #[error("mutual TLS is needed, and this proxy has no certificate yet")]
    NoCertificate,
    /// The TLS handshake.
    #[error("TLS handshake failed: {}", describe_io(.0))]
    Tls(#[source] io::Error),
    /// Nobody who answers could be verified.
    #[error("the server cannot be verified")]
    Unverifiable(#[source] OriginError),
    /// The certificate that was shown names nobody.
    #[error("the peer's certificate cannot be used")]
    Identity(#[source] IdentityError),
    /// Somebody else answered.
    #[error("expected {expected}, but {found} answered")]
    WrongPeer {
        /// Whom configuration promises there.
        expected: SpiffeId,
        /// Whose certificate was shown.
        found: SpiffeId,
    },
    /// The peer does not speak what was asked for.
    #[error("the peer did not agree to speak {0:?}")]
    Protocol(Alpn),
    /// The HTTP/2 preface could not be sent.
    #[error("the HTTP connection could not be started")]
    Http(#[source] hyper::Error),
    /// A circuit breaker limit.
    #[error("the limit {limit} of cluster {cluster} is reached")]
    Limit {
        /// Which.
        limit: &'static str,
        /// Whose.
        cluster: Arc<str>,
    },
    /// Connections came and went without taking the request.
    #[error("{0} connections in a row were taken or lost before the request could be sent")]
    Contended(u32),
    /// The task that dialled is gone: the worker is ending.
    #[error("this worker is ending")]
    Ending,
}

impl DialError {
    pub(super) fn new(address: SocketAddr, cause: DialCause) -> Self {
        Self { reason: cause.reason(), address, cause: Arc::new(cause) }
    }
}

impl DialCause {
    fn reason(&self) -> Reason {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Contended(_) | Self::Ending => Reason::ConnectFailed,
            Self::TimedOut { stage, .. } if *stage == TCP => Reason::ConnectFailed,
            Self::TimedOut { .. } | Self::NoCertificate | Self::Tls(_) => Reason::TlsFailed,
            Self::Identity(_) | Self::WrongPeer { .. } | Self::Protocol(_) | Self::Unverifiable(_) => {
                Reason::TlsFailed
            }
            Self::Limit { .. } => Reason::Overflow,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}: {}", self.address, self.cause)
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

const TCP: &str = "TCP";
const TLS: &str = "TLS";

/// Connects to an address.
///
/// # Errors
/// [`Reason::ConnectFailed`] or [`Reason::TlsFailed`]; nothing of the application's has been sent.
pub async fn dial(
    shared: &Shared,
    address: SocketAddr,
    security: &Security,
    alpn: Alpn,
    policy: &ConnectionPolicy,
) -> Result<Stream, DialError> {
    let after = policy.connect_timeout;
    let deadline = tokio::time::Instant::now() + after;
    let tcp = connect_by(deadline, address, policy).await?;
    let expected = match security {
        Security::Plaintext => return Ok(Stream::Plain(tcp)),
        Security::Origin(origin) => {
            let shaking = Box::pin(handshake_with(origin, tcp, alpn));
            return shaken(deadline, shaking, (address, after)).await;
        }
        Security::Mesh(expected) => expected,
    };
    if is_own_application(shared.interception, tcp.local_addr().ok(), address) {
        return Ok(Stream::Plain(tcp));
    }
    // In a box: a handshake needs much more room than what it leaves.
    let shaking = Box::pin(handshake(shared, tcp, (address, expected), alpn));
    shaken(deadline, shaking, (address, after)).await
}

async fn shaken(
    deadline: tokio::time::Instant,
    shaking: impl Future<Output = Result<TlsStream<TcpStream>, DialCause>>,
    (address, after): (SocketAddr, Duration),
) -> Result<Stream, DialError> {
    let tls = tokio::time::timeout_at(deadline, shaking)
        .await
        .map_err(|_| DialError::new(address, DialCause::TimedOut { stage: TLS, after }))?
        .map_err(|cause| DialError::new(address, cause))?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// Connects to an address in plaintext.
///
/// # Errors
/// [`Reason::ConnectFailed`].
pub async fn dial_plain(address: SocketAddr, policy: &ConnectionPolicy) -> Result<TcpStream, DialError> {
    let deadline = tokio::time::Instant::now() + policy.connect_timeout;
    connect_by(deadline, address, policy).await
}

async fn connect_by(
    deadline: tokio::time::Instant,
    address: SocketAddr,
    policy: &ConnectionPolicy,
) -> Result<TcpStream, DialError> {
    let late = DialCause::TimedOut { stage: TCP, after: policy.connect_timeout };
    tokio::time::timeout_at(deadline, connect(address, policy))
        .await
        .map_err(|_| DialError::new(address, late))?
        .map_err(|error| DialError::new(address, DialCause::Connect(error)))
}

/// Whether a connection ends at the application beside this proxy. Where packets are redirected those of the proxy itself are
/// not, so that an application that is chosen by its own Service is reached without its sidecar in between.
fn is_own_application(interception: Interception, local: Option<SocketAddr>, peer: SocketAddr) -> bool {
    interception == Interception::Capture && local.is_some_and(|local| local.ip() == peer.ip())
}

async fn connect(address: SocketAddr, policy: &ConnectionPolicy) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_user_timeout(Some(policy.tcp_user_timeout))?;
    Ok(tcp)
}

async fn handshake(
    shared: &Shared,
    tcp: TcpStream,
    (address, expected): (SocketAddr, &SpiffeId),
    alpn: Alpn,
) -> Result<TlsStream<TcpStream>, DialCause> {
    let ours = shared.tls.load_full().ok_or(DialCause::NoCertificate)?;
    let connector = TlsConnector::from(ours.client(alpn));
    let tls = connector.connect(endpoint_name(address), tcp).await.map_err(DialCause::Tls)?;
    let session = tls.get_ref().1;
    let found = ours.server_of(session).map_err(DialCause::Identity)?;
    if found != *expected {
        return Err(DialCause::WrongPeer { expected: expected.clone(), found });
    }
    if session.alpn_protocol() != Some(alpn.id()) {
        return Err(DialCause::Protocol(alpn));
    }
    Ok(tls)
}

/// With a server outside the mesh. What cannot be verified is not talked to.
async fn handshake_with(
    origin: &Origin,
    tcp: TcpStream,
    alpn: Alpn,
) -> Result<TlsStream<TcpStream>, DialCause> {
    let tls = origin.tls().map_err(DialCause::Unverifiable)?;
    let connector = TlsConnector::from(tls.client(alpn));
    let stream = connector.connect(tls.name(), tcp).await.map_err(DialCause::Tls)?;
    match OriginTls::agrees(alpn, stream.get_ref().1.alpn_protocol()) {
        true => Ok(stream),
        false => Err(DialCause::Protocol(alpn)),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod origin_tests;
#[cfg(test)]
mod tests;
