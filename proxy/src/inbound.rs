//! From the mesh to the local application. The stages of a request, in order.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ::http::request::Parts;
use ::http::{Request, Response};
use hyper::body::Incoming;
use outrigger_model::inbound::MtlsMode;
use outrigger_model::policy::ConnectionPolicy;
use tokio::time::Instant;

use crate::http::{
    self, Arrived, Body, BodyLength, Checked, Connection, DownstreamSecurity, Exchange, Fields, Outgoing,
    Stop,
};
use crate::protection::{Asked, authorize};
use crate::reason::{Reason, Refusal};
use crate::telemetry::Way;
use crate::upstream::{Message, Security, Target};

/// How the local application is dialled.
const APPLICATION: ConnectionPolicy = ConnectionPolicy {
    connect_timeout: Duration::from_secs(1),
    idle_timeout: Duration::from_secs(60),
    max_lifetime: Duration::from_secs(3600),
    tcp_user_timeout: Duration::from_secs(30),
};

/// Answers one request for the local application.
pub(crate) async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
    application: SocketAddr,
) -> Response<Body> {
    // 1. One record, one snapshot.
    let mut exchange = Exchange::open(&connection, Way::Inbound, &request);
    match stages(&mut exchange, request, application).await {
        Ok(answered) => http::finish(exchange, answered),
        Err(stop) => http::stop(exchange, stop),
    }
}

async fn stages(
    exchange: &mut Exchange,
    request: Request<Incoming>,
    application: SocketAddr,
) -> Result<http::Answered, Stop> {
    // 2. Who may come in at all.
    admit(exchange)?;

    // 3. Only what can be read in one way goes on.
    let (mut parts, body) = request.into_parts();
    let body = Body::of_request(body, parts.version);
    let fields = Fields::of(&parts.headers);
    let asked = http::check_request(&mut parts, fields)?;
    let worker = exchange.connection.worker.clone();
    // Only proxies say who a caller is; no application is to believe a caller that says it itself.
    if fields.have(Fields::FORWARDED_CLIENT_CERT) {
        parts.headers.remove(http::FORWARDED_CLIENT_CERT);
    }
    worker.with_rng(|rng| http::keep_or_start(&mut parts.headers, fields, rng));
    exchange.record.traced(|| parts.headers.get(http::TRACEPARENT));

    // 4. Who says that they call, where a token must say it, and whether they may ask for it.
    let claims = match exchange.snapshot.tokens.clone() {
        Some(verifier) => Some(http::check_token(exchange, &verifier, &parts)?),
        None => None,
    };
    if let Some(protection) = exchange.snapshot.protection.clone() {
        authorize(exchange, &protection, (&parts, claims.as_deref()))?;
    }

    // 5. How much may come in.
    if let Some(guard) = exchange.snapshot.guard.clone() {
        http::limit_inbound(exchange, &guard, &parts)?;
    }

    // 6. To the application, in the version the request came in.
    let kept = (asked != Checked::Plain).then(|| Asked::of(&parts, claims));
    let version = exchange.connection.version;
    http::fit_version(&mut parts, version, &worker.shared.workload, BodyLength::of(&body));
    let deadline = deadline(exchange, &mut parts, fields)?;
    let mut request = Request::from_parts(parts, body);
    let downstream = http::prepare_switch(&mut request, &asked);
    let target = Target { address: application, security: Security::Plaintext, version };
    let to = Outgoing { target: &target, policy: &APPLICATION, lease: None };
    let mut message = Message::once(request);
    let sent = http::within_time((&worker.alarms, deadline), http::send(&worker, &to, &mut message)).await;
    let response = sent.map_err(|failed| at_workload(exchange, failed.reason))?;

    // 7. What goes back. Only proxies say why they answered themselves.
    let mut arrived = Arrived { response, lease: None };
    let fields = http::check_response(&mut arrived.response, &asked)?;
    if fields.have(Fields::SAID_BY_PROXIES) {
        arrived.response.headers_mut().remove(http::REASON);
    }
    Ok(http::Answered { arrived, downstream, asked, kept, deadline })
}

/// When the caller stops waiting: from then on the application works for nobody. It is told what is left, to pass it on.
fn deadline(exchange: &Exchange, parts: &mut Parts, fields: Fields) -> Result<Option<Instant>, Refusal> {
    let started = exchange.record.started();
    let found = http::earliest_deadline((&parts.headers, fields), (started, None));
    let Some(deadline) = found else { return Ok(None) };
    let now = Instant::now();
    if deadline <= now {
        return Err(at_workload(exchange, Reason::Timeout));
    }
    http::refresh_deadline((&mut parts.headers, fields), deadline, (started, now));
    Ok(Some(deadline))
}

/// Strict lets mutual TLS in only; a proxy that has not heard yet what applies lets nobody in.
fn admit(exchange: &Exchange) -> Result<(), Refusal> {
    let mode = exchange.snapshot.inbound.as_ref().map(|inbound| inbound.mtls);
    match (mode, &exchange.connection.downstream.security) {
        (Some(MtlsMode::Permissive), _) | (Some(MtlsMode::Strict), DownstreamSecurity::Mtls(_)) => Ok(()),
        (Some(MtlsMode::Strict), DownstreamSecurity::Plaintext) | (None, _) => {
            Err(at_workload(exchange, Reason::Unauthenticated))
        }
    }
}

fn at_workload(exchange: &Exchange, reason: Reason) -> Refusal {
    Refusal { reason, object: exchange.connection.worker.shared.as_object() }
}
