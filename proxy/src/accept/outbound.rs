//! A connection of the local application, until it is known where it goes and what it speaks.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::inbound::Egress;
use outrigger_model::name::Destination as DestinationName;
use tokio::net::TcpStream;
use tracing::warn;

use super::peek::{self, DETECT_WITHIN, FIRST_BYTES_WITHIN};
use crate::demand::InUse;
use crate::http::{self, Direction, Downstream, DownstreamSecurity, Held};
use crate::opaque;
use crate::reason::Reason;
use crate::snapshot::{Destination, DestinationId, Handling, OpaqueRoute, OpaqueRoutes, Snapshot};
use crate::sniff::{ServerName, Sniffed, server_name};
use crate::telemetry::Way;
use crate::upstream::HttpVersion;
use crate::worker::Worker;

/// A connection as it was accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// What was dialled.
    pub(super) local: SocketAddr,
    pub(super) held: Held,
}

/// How a connection goes on.
enum Next {
    Http(HttpVersion),
    Opaque(Arc<OpaqueRoute>),
    PassThrough(SocketAddr),
    Close { reason: Reason, why: &'static str },
}

pub(super) async fn handle(
    worker: Rc<Worker>,
    mut accepted: Accepted,
    pinned: Option<DestinationId>,
) -> io::Result<()> {
    let (id, snapshot) = destination(&worker, &accepted, pinned).await;
    let destination = id.and_then(|id| snapshot.destination(id)).cloned();
    accepted.held.in_use = destination.as_deref().map(InUse::new);
    match (next(&snapshot, destination.as_deref(), pinned.is_some(), &accepted).await?, id) {
        (Next::Http(version), Some(destination)) => {
            let downstream = Downstream {
                peer: accepted.peer,
                local: accepted.local,
                direction: Direction::Outbound { destination },
                security: DownstreamSecurity::Plaintext,
                held: accepted.held,
            };
            http::serve(worker, accepted.stream, version, downstream);
            Ok(())
        }
        (Next::Opaque(route), _) => Box::pin(opaque::outbound(worker, accepted.stream, &route)).await,
        (Next::PassThrough(to), _) => Box::pin(opaque::pass_through(worker, accepted.stream, to)).await,
        (Next::Close { reason, why }, _) => {
            opaque::refuse(&worker, Way::Outbound, reason);
            let (peer, dialled) = (accepted.peer, accepted.local);
            warn!(downstream.addr = %peer, original_dst = %dialled, reason = reason.word(), why, "connection closed");
            Ok(())
        }
        // There is no room to know another destination.
        (Next::Http(_), None) => {
            opaque::refuse(&worker, Way::Outbound, Reason::NoRoute);
            Ok(())
        }
    }
}

/// The place of what was dialled, and the snapshot that has it. Waits for the control plane's answer, but not for long.
async fn destination(
    worker: &Worker,
    accepted: &Accepted,
    pinned: Option<DestinationId>,
) -> (Option<DestinationId>, Arc<Snapshot>) {
    let snapshot = worker.snapshot();
    let pending = |id: &DestinationId| {
        snapshot.destination(*id).is_none_or(|destination| matches!(destination.handling, Handling::Pending))
    };
    let name = match pinned {
        Some(id) => snapshot.destination(id).map(|destination| destination.name.clone()),
        None => Some(DestinationName::address(accepted.local)),
    };
    let known = pinned.or_else(|| name.as_ref().and_then(|name| snapshot.lookup(name)));
    match (known, name) {
        (Some(id), Some(name)) if pending(&id) => {
            worker.shared.demand.destination(name).await;
            (Some(id), worker.snapshot())
        }
        (None, Some(name)) => {
            let id = worker.shared.demand.destination(name).await;
            (id, worker.snapshot())
        }
        (known, _) => (known, snapshot),
    }
}

async fn next(
    snapshot: &Snapshot,
    destination: Option<&Destination>,
    pinned: bool,
    accepted: &Accepted,
) -> io::Result<Next> {
    let stream = &accepted.stream;
    match destination.map(|destination| &destination.handling) {
        Some(Handling::Http(_)) => Ok(Next::Http(declared_http(stream).await?)),
        Some(Handling::Opaque(routes)) => opaque_way(stream, routes).await,
        Some(Handling::Detect { opaque, .. }) => {
            if snapshot.mesh.opaque_ports.contains(&accepted.local.port()) {
                return opaque_way(stream, opaque).await;
            }
            Ok(match peek::protocol(stream, DETECT_WITHIN).await? {
                Some(Sniffed::Http1) => Next::Http(HttpVersion::Http1),
                Some(Sniffed::Http2) => Next::Http(HttpVersion::Http2),
                _ => return opaque_way(stream, opaque).await,
            })
        }
        _ => unknown(snapshot, destination, pinned, accepted).await,
    }
}

/// A destination that the mesh does not know: egress, for an explicit listener as well when its destination is an address.
/// One of which nobody can say anything, because the control plane is away, counts as unknown: what MeshConfig said last holds
/// for it. Before anything was ever heard of MeshConfig it may have said Deny. Who is refused and speaks HTTP is answered in
/// HTTP, so that people see why.
async fn unknown(
    snapshot: &Snapshot,
    destination: Option<&Destination>,
    pinned: bool,
    accepted: &Accepted,
) -> io::Result<Next> {
    if snapshot.inbound.is_none() {
        let why = "no configuration has come from the control plane yet, so that nobody knows what egress is";
        return refusal(&accepted.stream, DETECT_WITHIN, why).await;
    }
    let dialled = match pinned {
        false => Some(accepted.local),
        true => destination.and_then(|destination| destination.name.socket_address()),
    };
    match (snapshot.mesh.egress, dialled) {
        (Egress::Allow, Some(address)) => Ok(Next::PassThrough(address)),
        (Egress::Deny, Some(_)) => {
            let why = "the mesh does not know the destination, and MeshConfig says egress: Deny";
            refusal(&accepted.stream, DETECT_WITHIN, why).await
        }
        (_, None) => {
            let why = "the destination of this listener is not known, and the client does not speak HTTP";
            refusal(&accepted.stream, FIRST_BYTES_WITHIN, why).await
        }
    }
}

async fn refusal(stream: &TcpStream, within: Duration, why: &'static str) -> io::Result<Next> {
    Ok(match peek::protocol(stream, within).await? {
        Some(Sniffed::Http1) => Next::Http(HttpVersion::Http1),
        Some(Sniffed::Http2) => Next::Http(HttpVersion::Http2),
        _ => Next::Close { reason: Reason::NoRoute, why },
    })
}

/// The way of an opaque connection. Nothing of it is looked at unless a name in TLS decides.
async fn opaque_way(stream: &TcpStream, routes: &OpaqueRoutes) -> io::Result<Next> {
    if routes.by_name.is_empty() {
        return Ok(Next::Opaque(routes.otherwise.clone()));
    }
    // When only names lead somewhere, a client has its time to say one.
    let refuses = routes.otherwise.backends.is_empty();
    let within = if refuses { FIRST_BYTES_WITHIN } else { DETECT_WITHIN };
    let mut way = &routes.otherwise;
    if peek::protocol(stream, within).await? == Some(Sniffed::Tls) {
        let name = peek::hello(stream, FIRST_BYTES_WITHIN, |bytes| match server_name(bytes) {
            ServerName::NeedMore => None,
            ServerName::Name(name) => Some(Some(name)),
            ServerName::Nothing => Some(None),
        });
        way = match name.await? {
            Some(name) => routes.of_tls(name.as_deref()),
            None => &routes.otherwise,
        };
    }
    match way.backends.is_empty() && Arc::ptr_eq(way, &routes.otherwise) {
        true => Ok(Next::Close {
            reason: Reason::NoRoute,
            why: "no TLS name (SNI) that a route of the destination has",
        }),
        false => Ok(Next::Opaque(way.clone())),
    }
}

async fn declared_http(stream: &TcpStream) -> io::Result<HttpVersion> {
    Ok(match peek::protocol(stream, FIRST_BYTES_WITHIN).await? {
        Some(Sniffed::Http2) => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    })
}
