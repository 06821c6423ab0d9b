//! Opaque connections: bytes both ways, half-close kept, nothing looked into.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_base::tls::Alpn;
use outrigger_model::policy::{ConnectionPolicy, HashOn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use crate::http::hash_address;
use crate::protection::{self, Arrival, Lasting};
use crate::reason::{Reason, Refusal, Seen};
use crate::snapshot::OpaqueRoute;
use crate::telemetry::{Protection, TcpLabels, TcpRecord, Way};
use crate::upstream::{
    Affinity, Cluster, ConnectionPermit, Lease, Outcome, PickContext, Stream, dial, dial_plain,
};
use crate::worker::Worker;

mod carriers;
mod copy;
mod relay;
mod splice;

pub(crate) use carriers::Carriers;
pub(crate) use relay::{Count, relay};

use relay::relay_tcp;

/// Endpoints that are tried before a connection is given up.
const ATTEMPTS: usize = 3;

/// How applications, and destinations outside the mesh, are dialled.
const PLAIN: ConnectionPolicy = ConnectionPolicy {
    connect_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(3600),
    max_lifetime: Duration::from_secs(3600),
    tcp_user_timeout: Duration::from_secs(30),
};

const NOBODY: TcpLabels =
    TcpLabels { way: Way::Inbound, protection: Protection::Plaintext, peer: 0, service: 0, endpoint: 0 };

/// Counts a connection that was refused before anything of it was served.
pub(crate) fn refuse(worker: &Rc<Worker>, way: Way, reason: Reason) {
    TcpRecord::open(worker, TcpLabels { way, ..NOBODY }).reason(reason);
}

/// From the local application to a destination: a backend by weight, an endpoint, and bytes.
pub(crate) async fn outbound(
    worker: Rc<Worker>,
    downstream: TcpStream,
    route: &OpaqueRoute,
) -> io::Result<()> {
    let Some(cluster) = backend(&worker, route) else {
        refuse(&worker, Way::Outbound, Reason::NoBackend);
        debug!(route.name = %route.object, reason = Reason::NoBackend.word(), "opaque connection closed");
        return Ok(());
    };
    let affinity = affinity(&cluster, &downstream);
    // In a box: what it takes to connect is gone before the first byte, which may be long before the last one.
    match Box::pin(connect(&worker, &cluster, affinity)).await {
        Ok((upstream, held)) => {
            let labels = labels(&cluster, Some(&held.0));
            let record = TcpRecord::open(&worker, labels);
            match upstream {
                Stream::Plain(upstream) => relay_tcp(&worker.carriers, downstream, upstream, &record).await,
                Stream::Tls(upstream) => relay(&worker.carriers, downstream, upstream, &record).await,
            }
        }
        Err(reason) => {
            TcpRecord::open(&worker, labels(&cluster, None)).reason(reason);
            debug!(cluster.name = %cluster.config().name, reason = reason.word(), "opaque connection closed");
            Ok(())
        }
    }
}

fn labels(cluster: &Cluster, lease: Option<&Lease>) -> TcpLabels {
    let endpoint = lease.map(Lease::endpoint);
    let security = endpoint.map(|endpoint| cluster.security(endpoint.config()));
    TcpLabels {
        way: Way::Outbound,
        protection: security.map_or(Protection::Plaintext, |security| security.protection()),
        peer: 0,
        service: cluster.label(),
        endpoint: endpoint.map_or(0, |endpoint| endpoint.label()),
    }
}

fn backend(worker: &Worker, route: &OpaqueRoute) -> Option<Arc<Cluster>> {
    if route.total_weight == 0 {
        return None;
    }
    let mut point = worker.with_rng(|rng| rng.u32(..route.total_weight));
    for (weight, cluster) in &route.backends {
        if point < *weight {
            return cluster.clone();
        }
        point -= weight;
    }
    None
}

/// Of a connection only the address of the client can be hashed.
fn affinity(cluster: &Cluster, downstream: &TcpStream) -> Affinity {
    let key = match cluster.config().load_balancer.hash_on() {
        Some(HashOn::SourceIp) => downstream.peer_addr().ok().map(|peer| hash_address(peer.ip())),
        Some(HashOn::Header(_) | HashOn::Cookie(_)) | None => None,
    };
    Affinity { key, session: None }
}

/// Dials endpoints until one answers. What failed to connect cannot have been seen, so another may be tried.
async fn connect(
    worker: &Worker,
    cluster: &Arc<Cluster>,
    affinity: Affinity,
) -> Result<(Stream, (Lease, ConnectionPermit)), Reason> {
    let permit = cluster.connection_permit()?;
    let mut tried = Vec::with_capacity(ATTEMPTS);
    let mut _guard = None;
    loop {
        let leased = worker.with_rng(|rng| {
            cluster.lease(&mut PickContext { now: Instant::now(), rng, tried: &tried, affinity })
        });
        let lease = leased?;
        let endpoint = lease.endpoint().clone();
        let config = endpoint.config();
        let security = cluster.security(config);
        let policy = &cluster.config().connection;
        let dialled = dial(&worker.shared, config.address, &security, Alpn::Tcp, policy).await;
        match dialled {
            Ok(stream) => {
                lease.outcome(Instant::now(), Outcome::Success);
                return Ok((stream, (lease, permit)));
            }
            Err(error) => {
                lease.outcome(Instant::now(), Outcome::Failure);
                debug!(endpoint.addr = %config.address, %error, "attempt failed");
                tried.push(endpoint.number());
                let again = tried.len() < ATTEMPTS && error.reason.seen() == Seen::Never;
                _guard = if again { cluster.allow_retry(Instant::now()) } else { None };
                if _guard.is_none() {
                    return Err(error.reason);
                }
            }
        }
    }
}

/// To a destination the mesh does not know, as it was dialled.
pub(crate) async fn pass_through(
    worker: Rc<Worker>,
    downstream: TcpStream,
    to: SocketAddr,
) -> io::Result<()> {
    let mut record = TcpRecord::open(&worker, TcpLabels { way: Way::Outbound, ..NOBODY });
    let upstream = reach(to, &mut record).await?;
    relay_tcp(&worker.carriers, downstream, upstream, &record).await
}

/// To the local application, from somebody unknown.
pub(crate) async fn inbound_plaintext(
    worker: Rc<Worker>,
    downstream: TcpStream,
    arrival: Arrival,
    application: SocketAddr,
) -> io::Result<()> {
    let mut record = TcpRecord::open(&worker, NOBODY);
    let Some(mut lasting) = let_in(&worker, arrival, &mut record) else { return Ok(()) };
    let upstream = reach(application, &mut record).await?;
    let ended = while_let_in(relay_tcp(&worker.carriers, downstream, upstream, &record), &mut lasting).await;
    settle(ended, &mut record)
}

/// To the local application, from somebody who was verified by mutual TLS.
pub(crate) async fn inbound<I>(
    worker: Rc<Worker>,
    downstream: I,
    arrival: Arrival,
    application: SocketAddr,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let peer = arrival.identity.as_ref().map_or(0, |peer| worker.shared.telemetry.peer_label(peer));
    let mut record = TcpRecord::open(&worker, TcpLabels { protection: Protection::Mtls, peer, ..NOBODY });
    let Some(mut lasting) = let_in(&worker, arrival, &mut record) else { return Ok(()) };
    let upstream = reach(application, &mut record).await?;
    let ended = while_let_in(relay(&worker.carriers, downstream, upstream, &record), &mut lasting).await;
    settle(ended, &mut record)
}

/// `None` when it is refused, which is recorded.
fn let_in(worker: &Rc<Worker>, arrival: Arrival, record: &mut TcpRecord) -> Option<Lasting> {
    protection::let_in(worker, arrival).map_err(|refusal| record.reason(refusal.reason)).ok()
}

/// Relays as long as what is in force lets the connection in.
async fn while_let_in(
    relaying: impl Future<Output = io::Result<()>>,
    lasting: &mut Lasting,
) -> Result<io::Result<()>, Refusal> {
    tokio::select! {
        relayed = relaying => Ok(relayed),
        refusal = lasting.withdrawn() => Err(refusal),
    }
}

fn settle(ended: Result<io::Result<()>, Refusal>, record: &mut TcpRecord) -> io::Result<()> {
    ended.unwrap_or_else(|refusal| {
        record.reason(refusal.reason);
        Ok(())
    })
}

async fn reach(to: SocketAddr, record: &mut TcpRecord) -> io::Result<TcpStream> {
    dial_plain(to, &PLAIN).await.map_err(|error| {
        record.reason(error.reason);
        io::Error::other(error)
    })
}
