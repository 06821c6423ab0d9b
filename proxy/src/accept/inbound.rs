//! A connection to the local application, until it is known who connects and what they speak.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outrigger_base::tls::{Alpn, MeshTls, describe_io};
use outrigger_model::identity::SpiffeId;
use outrigger_model::inbound::{MtlsMode, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use super::peek::{self, DETECT_WITHIN, FIRST_BYTES_WITHIN};
use crate::http::{self, Direction, Downstream, DownstreamSecurity, Held};
use crate::opaque;
use crate::protection::Arrival;
use crate::reason::Reason;
use crate::sniff::{InboundTls, SNIFF_BYTES, Sniffed, inbound_tls, sniff};
use crate::telemetry::Way;
use crate::upstream::HttpVersion;
use crate::worker::Worker;

/// A TLS handshake is done within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A connection as it was accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// What was dialled.
    pub(super) local: SocketAddr,
    /// Where the application listens.
    pub(super) application: SocketAddr,
    pub(super) held: Held,
}

/// What applies to the port that was dialled.
#[derive(Clone, Copy)]
struct Rules {
    mtls: MtlsMode,
    protocol: Protocol,
}

pub(super) async fn handle(worker: Rc<Worker>, accepted: Accepted) -> io::Result<()> {
    let rules = rules(&worker, accepted.local.port());
    let declared = matches!(rules.protocol, Protocol::Http1 | Protocol::Http2);
    let within = if declared || rules.mtls == MtlsMode::Strict { FIRST_BYTES_WITHIN } else { DETECT_WITHIN };
    let sniffed = peek::protocol(&accepted.stream, within).await?;
    let terminate = sniffed == Some(Sniffed::Tls) && is_ours(&accepted.stream, rules).await?;
    if terminate {
        return handshake(worker, accepted).await;
    }
    let version = plain_http(rules.protocol, sniffed);
    plaintext(worker, accepted, rules, version).await
}

/// What applies to a port. Before the control plane has said anything, Strict does.
fn rules(worker: &Worker, port: u16) -> Rules {
    let snapshot = worker.snapshot();
    let Some(inbound) = &snapshot.inbound else {
        return Rules { mtls: MtlsMode::Strict, protocol: Protocol::Detect };
    };
    let declared = inbound.ports.iter().find(|known| known.port == port).map(|known| known.protocol);
    let opaque = || snapshot.mesh.opaque_ports.contains(&port).then_some(Protocol::Opaque);
    let protocol = declared.or_else(opaque).unwrap_or(Protocol::Detect);
    Rules { mtls: inbound.mtls, protocol }
}

async fn is_ours(stream: &TcpStream, rules: Rules) -> io::Result<bool> {
    let decide = |hello: &[u8]| match inbound_tls(rules.mtls, rules.protocol, hello) {
        InboundTls::NeedMore => None,
        decided => Some(decided),
    };
    let decided = match decide(&[]) {
        Some(decided) => Some(decided),
        None => peek::hello(stream, HANDSHAKE_WITHIN, decide).await?,
    };
    Ok(decided == Some(InboundTls::Terminate))
}

fn plain_http(declared: Protocol, sniffed: Option<Sniffed>) -> Option<HttpVersion> {
    match (declared, sniffed) {
        (Protocol::Opaque, _) => None,
        (_, Some(Sniffed::Http2)) => Some(HttpVersion::Http2),
        (_, Some(Sniffed::Http1)) | (Protocol::Http1 | Protocol::Http2, _) => Some(HttpVersion::Http1),
        _ => None,
    }
}

async fn plaintext(
    worker: Rc<Worker>,
    accepted: Accepted,
    rules: Rules,
    version: Option<HttpVersion>,
) -> io::Result<()> {
    match version {
        // Under Strict each request is answered with 401, so that its sender learns why.
        Some(version) => {
            let Accepted { stream, peer, local, application, held } = accepted;
            let place = Place { peer, local, application, held };
            let downstream = place.downstream(DownstreamSecurity::Plaintext);
            http::serve(worker, stream, version, downstream);
            Ok(())
        }
        None if rules.mtls == MtlsMode::Strict => {
            opaque::refuse(&worker, Way::Inbound, Reason::Unauthenticated);
            warn!(downstream.addr = %accepted.peer, local.addr = %accepted.local, reason = "unauthenticated",
                "plaintext refused: this workload takes mutual TLS only");
            Ok(())
        }
        None => {
            let Accepted { stream, peer, local, application, held: _held } = accepted;
            let arrival = Arrival { identity: None, peer, local };
            Box::pin(opaque::inbound_plaintext(worker, stream, arrival, application)).await
        }
    }
}

async fn handshake(worker: Rc<Worker>, accepted: Accepted) -> io::Result<()> {
    let Accepted { stream, peer, local, application, held } = accepted;
    let secured = match worker.shared.tls.load_full() {
        // In a box: a handshake needs much more room than what it leaves.
        Some(ours) => Box::pin(secure(ours, stream)).await,
        None => Err("this proxy has no certificate yet".to_owned()),
    };
    match secured {
        Ok((tls, identity)) => serve(worker, tls, Place { peer, local, application, held }, identity).await,
        Err(why) => {
            opaque::refuse(&worker, Way::Inbound, Reason::Unauthenticated);
            warn!(downstream.addr = %peer, local.addr = %local, reason = "unauthenticated", why, "mutual TLS refused");
            Ok(())
        }
    }
}

/// The handshake, and who is at the other end. `Err` says why in people's words.
async fn secure(ours: Arc<MeshTls>, stream: TcpStream) -> Result<(TlsStream<TcpStream>, SpiffeId), String> {
    let accepting = TlsAcceptor::from(ours.server()).accept(stream);
    let tls = timeout(HANDSHAKE_WITHIN, accepting).await;
    let tls = tls.map_err(|_| format!("the handshake was not done within {HANDSHAKE_WITHIN:?}"))?;
    let tls = tls.map_err(|error| describe_io(&error))?;
    let identity = ours.client_of(tls.get_ref().1).map_err(|error| error.to_string())?;
    Ok((tls, identity))
}

/// Where a connection came from and goes to.
struct Place {
    peer: SocketAddr,
    local: SocketAddr,
    application: SocketAddr,
    held: Held,
}

async fn serve(
    worker: Rc<Worker>,
    mut tls: TlsStream<TcpStream>,
    place: Place,
    identity: SpiffeId,
) -> io::Result<()> {
    let agreed = tls.get_ref().1.alpn_protocol().and_then(Alpn::from_id);
    let version = match agreed {
        Some(Alpn::Http1) => HttpVersion::Http1,
        Some(Alpn::H2) => HttpVersion::Http2,
        Some(Alpn::Tcp) => {
            let arrival = place.arrival(identity);
            return Box::pin(opaque::inbound(worker, tls, arrival, place.application)).await;
        }
        None => {
            let prefix = first_bytes(&mut tls).await?;
            let sniffed = sniff(&prefix);
            let inside = Prefixed { prefix, taken: 0, io: tls };
            return match plain_http(Protocol::Detect, Some(sniffed)) {
                Some(version) => {
                    let downstream = place.downstream(DownstreamSecurity::Mtls(identity));
                    http::serve(worker, Box::new(inside), version, downstream);
                    Ok(())
                }
                None => {
                    let arrival = place.arrival(identity);
                    opaque::inbound(worker, inside, arrival, place.application).await
                }
            };
        }
    };
    http::serve(worker, Box::new(tls), version, place.downstream(DownstreamSecurity::Mtls(identity)));
    Ok(())
}

impl Place {
    fn arrival(&self, identity: SpiffeId) -> Arrival {
        Arrival { identity: Some(identity), peer: self.peer, local: self.local }
    }

    fn downstream(self, security: DownstreamSecurity) -> Downstream {
        Downstream {
            peer: self.peer,
            local: self.local,
            direction: Direction::Inbound { application: self.application },
            security,
            held: self.held,
        }
    }
}

/// What comes first inside TLS, up to what tells protocols apart; empty when nothing comes in time.
async fn first_bytes(tls: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SNIFF_BYTES);
    let reading = async {
        while sniff(&bytes) == Sniffed::NeedMore && bytes.len() < SNIFF_BYTES {
            if tls.read_buf(&mut bytes).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    match timeout(DETECT_WITHIN, reading).await {
        Ok(read) => read.map(|()| bytes),
        Err(_) => Ok(bytes),
    }
}

/// A stream some of which was read already.
struct Prefixed<I> {
    prefix: Vec<u8>,
    taken: usize,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.prefix[self.taken..];
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = left.len().min(buf.remaining());
        buf.put_slice(&left[..length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_http_where_it_is_declared_or_seen() {
        use Protocol::{Detect, Http1, Opaque};
        for (declared, sniffed, expected) in [
            (Detect, Some(Sniffed::Http1), Some(HttpVersion::Http1)),
            (Detect, Some(Sniffed::Http2), Some(HttpVersion::Http2)),
            (Detect, Some(Sniffed::Opaque), None),
            (Detect, None, None),
            (Http1, None, Some(HttpVersion::Http1)),
            (Http1, Some(Sniffed::Opaque), Some(HttpVersion::Http1)),
            (Opaque, Some(Sniffed::Http1), None),
        ] {
            assert_eq!(plain_http(declared, sniffed), expected, "{declared:?} {sniffed:?}");
        }
    }

    #[tokio::test]
    async fn a_prefix_comes_before_the_stream() {
        let mut stream = Prefixed { prefix: b"ab".to_vec(), taken: 0, io: &b"cd"[..] };
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "abcd");
    }
}
