//! What lives longer than a request: opaque connections and tunnels. They are judged when they begin and again with every
//! change of what is in force; what would not be let in any more is cut.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use outrigger_model::identity::SpiffeId;
use outrigger_model::inbound::{Inbound, MtlsMode, Protocol};
use tracing::warn;

use super::Protection;
use crate::authorization::{Call, Caller};
use crate::http::Downstream;
use crate::jwt::Claims;
use crate::reason::{Reason, Refusal};
use crate::snapshot::Snapshot;
use crate::worker::{Shared, Worker};

/// Somebody who connected to the local application.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Proven by mutual TLS; `None` for plaintext.
    pub(crate) identity: Option<SpiffeId>,
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// What was dialled.
    pub(crate) local: SocketAddr,
}

/// What the request asked for that a tunnel began with.
#[derive(Debug)]
pub(crate) struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// What its token said, where it was asked for one. It stays true for the tunnel when the token has expired.
    claims: Option<Arc<Claims>>,
}

/// A connection or tunnel that was let in.
pub(crate) struct Lasting {
    worker: Rc<Worker>,
    arrival: Arrival,
    asked: Option<Box<Asked>>,
    /// What was in force when it was last judged.
    judged: Option<Arc<Inbound>>,
}

impl Arrival {
    /// Who is at the other end of a connection that speaks HTTP.
    pub(crate) fn of(downstream: &Downstream) -> Self {
        let identity = super::identity_of(downstream).cloned();
        Self { identity, peer: downstream.peer, local: downstream.local }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { identity: self.identity.as_ref(), source: self.peer.ip(), port: self.local.port() }
    }

    /// Says why it was refused, or cut.
    fn tell(&self, refusal: &Refusal, what: &'static str) {
        let identity = self.identity.as_ref().map_or("", SpiffeId::as_str);
        warn!(downstream.addr = %self.peer, local.addr = %self.local, peer.identity = identity,
            reason = refusal.reason.word(), object = &*refusal.object, "{what}");
    }
}

impl Asked {
    /// What is to be remembered of a request. Only for those that may open a tunnel: it copies the head.
    pub(crate) fn of(parts: &Parts, claims: Option<Arc<Claims>>) -> Box<Self> {
        let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        Box::new(Self { method, uri, headers, claims })
    }

    fn call(&self) -> Call<'_> {
        Call {
            method: self.method.as_str(),
            path: (self.method != Method::CONNECT).then(|| self.uri.path()),
            authority: self.uri.authority().map_or("", http::uri::Authority::as_str),
            headers: &self.headers,
            claims: self.claims.as_deref(),
        }
    }
}

/// Lets an opaque connection in, or refuses it, and says so in the log.
pub(crate) fn let_in(worker: &Rc<Worker>, arrival: Arrival) -> Result<Lasting, Refusal> {
    let snapshot = worker.snapshot();
    if let Some(protection) = &snapshot.protection {
        let standing = protection.standing(&arrival.caller());
        protection.audit(standing.as_ref(), None, |policy| {
            let identity = arrival.identity.as_ref().map_or("", SpiffeId::as_str);
            tracing::info!(downstream.addr = %arrival.peer, peer.identity = identity, audit = &**policy,
                "opaque connection recorded");
        });
    }
    let lasting = Lasting::new(worker.clone(), arrival, None, &snapshot);
    match lasting.judge(&snapshot) {
        Ok(()) => Ok(lasting),
        Err(refusal) => {
            lasting.arrival.tell(&refusal, "opaque connection refused");
            Err(refusal)
        }
    }
}

impl Lasting {
    /// A tunnel that a request has opened, or, without one, an opaque connection; judged under `snapshot`.
    pub(crate) fn new(
        worker: Rc<Worker>,
        arrival: Arrival,
        asked: Option<Box<Asked>>,
        snapshot: &Snapshot,
    ) -> Self {
        Self { worker, arrival, asked, judged: snapshot.inbound.clone() }
    }

    /// Resolves with a reason when what is in force does not let it in any more.
    pub(crate) async fn withdrawn(&mut self) -> Refusal {
        let mut changes = self.worker.shared.demand.changes().listen();
        loop {
            if let Err(refusal) = self.look() {
                self.arrival.tell(&refusal, "a connection was cut: it is not let in any more");
                return refusal;
            }
            if changes.changed().await.is_err() {
                // Nothing changes any more: the process ends.
                return std::future::pending().await;
            }
        }
    }

    /// Judges again, if what is in force is not what it was.
    fn look(&mut self) -> Result<(), Refusal> {
        let snapshot = self.worker.snapshot();
        let is_same = match (&self.judged, &snapshot.inbound) {
            (Some(judged), Some(inbound)) => Arc::ptr_eq(judged, inbound),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        self.judge(&snapshot)?;
        self.judged.clone_from(&snapshot.inbound);
        Ok(())
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let shared = &*self.worker.shared;
        judge(snapshot, &self.arrival.caller(), self.asked.as_deref(), shared)
    }
}

/// Whether a connection may begin, or go on, under this configuration.
fn judge(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    asked: Option<&Asked>,
    shared: &Shared,
) -> Result<(), Refusal> {
    let refused = |reason| Refusal { reason, object: shared.as_object() };
    let Some(inbound) = &snapshot.inbound else { return Err(refused(Reason::Unauthenticated)) };
    if inbound.mtls == MtlsMode::Strict && caller.identity.is_none() {
        return Err(refused(Reason::Unauthenticated));
    }
    if let Some(policy) = &inbound.closed_by {
        return Err(Refusal::at(Reason::Unauthenticated, policy));
    }
    if let Some(verifier) = &snapshot.tokens
        && asked.is_none_or(|asked| asked.claims.is_none())
    {
        // Bytes carry no token, and who began a tunnel without one is not asked again.
        return Err(Refusal::at(Reason::Unauthenticated, &verifier.rule().name));
    }
    if asked.is_none() && is_for_http(inbound, caller.port) && asks_for_http(snapshot) {
        return Err(refused(Reason::Denied));
    }
    let Some(protection) = &snapshot.protection else { return Ok(()) };
    let standing = protection.standing(caller);
    let decided = protection.decide(standing.as_ref(), asked.map(Asked::call).as_ref());
    decided.map_err(|policy| Refusal {
        reason: Reason::Denied,
        object: policy.unwrap_or_else(|| shared.as_object()),
    })
}

/// Whether a port was declared to speak HTTP. Opaque bytes there get around what only requests can be held to.
fn is_for_http(inbound: &Inbound, port: u16) -> bool {
    let known = inbound.ports.iter().find(|known| known.port == port);
    known.is_some_and(|known| matches!(known.protocol, Protocol::Http1 | Protocol::Http2))
}

/// Whether something is in force that only requests can be held to.
fn asks_for_http(snapshot: &Snapshot) -> bool {
    let limits = snapshot.guard.as_ref().is_some_and(|guard| guard.rate.is_some() || guard.gate.is_some());
    limits || snapshot.protection.as_ref().is_some_and(|protection| Protection::asks_for_http(protection))
}

#[cfg(test)]
mod tests;
