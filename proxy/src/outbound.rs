//! From the local application to the mesh. The stages of a request, in order.

use std::rc::Rc;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{Request, Response};
use hyper::body::Incoming;
use outrigger_model::route::{RequestHead, select};

use crate::http::{self, Body, Connection, Exchange, Fields, Matched, Plan, Stop};
use crate::reason::{Reason, Refusal};
use crate::snapshot::{Action, Destination, DestinationId, Forward, Handling, Routes, Snapshot};
use crate::telemetry::Way;

/// Answers one request of the local application.
pub(crate) async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
    destination: DestinationId,
) -> Response<Body> {
    // 1. One record, one snapshot.
    let mut exchange = Exchange::open(&connection, Way::Outbound, &request);
    match stages(&mut exchange, request, destination).await {
        Ok(answered) => http::finish(exchange, answered),
        Err(stop) => http::stop(exchange, stop),
    }
}

async fn stages(
    exchange: &mut Exchange,
    request: Request<Incoming>,
    id: DestinationId,
) -> Result<http::Answered, Stop> {
    // 2. Only what can be read in one way goes on.
    let (mut parts, body) = request.into_parts();
    let body = Body::of_request(body, parts.version);
    let fields = Fields::of(&parts.headers);
    let asked = http::check_request(&mut parts, fields)?;
    let worker = exchange.connection.worker.clone();
    worker.with_rng(|rng| http::keep_or_start(&mut parts.headers, fields, rng));
    exchange.record.traced(|| parts.headers.get(http::TRACEPARENT));

    // 3. What was dialled decides the routes; what Host says does not.
    let destination = settled(exchange, id).await?;
    let routes = routes(&destination)?;

    // 4. The first route that matches.
    let head = RequestHead {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let index = select(routes.routes.iter().map(|route| &route.matches), &head);
    let route = index.map(|index| &routes.routes[index]);
    let route = route.ok_or_else(|| refused_at(Reason::NoRoute, &destination))?;
    exchange.record.route(route.label);

    // 5. Filters, then a backend by weight.
    let matched = Matched { route, port: destination.name.port };
    if let Some(filters) = &route.filters {
        // What most requests do without is not to make all of them larger.
        Box::pin(http::filter_request(exchange, filters, &mut parts)).await?;
    }
    let forward = forward(matched, &parts)?;
    http::apply(&route.request_headers, &mut parts.headers);
    let session = forward.session.as_deref().map(|policy| http::Session::read(policy, &parts.headers));
    let backend = match session.as_ref().and_then(|session| session.backend(forward)) {
        Some(backend) => backend,
        None => forward.backend(worker.with_rng(|rng| rng.u32(..forward.total_weight))),
    };
    let cluster = backend.cluster.as_ref().ok_or_else(|| Refusal::at(Reason::NoBackend, &route.object))?;
    exchange.record.service(cluster.label());
    let affinity = http::affinity(exchange, cluster, session.as_ref(), &parts.headers);
    http::apply(&backend.request_headers, &mut parts.headers);

    // 6. Attempts, until there is an answer.
    let mut request = Request::from_parts(parts, body);
    if route.filters.is_some() || backend.filters.is_some() {
        http::filter_chosen(exchange, matched, backend, (&mut request, &asked))?;
    }
    let downstream = http::prepare_switch(&mut request, &asked);
    let started = exchange.record.started();
    let deadline = http::earliest_deadline((request.headers(), fields), (started, forward.timeout));
    let plan = Plan { forward, cluster, affinity, deadline, fields, switches: downstream.is_some() };
    let mut arrived = http::attempts(exchange, &plan, request).await?;

    // 7. What goes back.
    let fields = http::check_response(&mut arrived.response, &asked)?;
    http::believe(&mut arrived, fields);
    http::report(arrived.lease.as_ref(), fields, arrived.response.headers());
    if let Some(session) = session {
        session.keep(&mut arrived);
    }
    http::apply(&backend.response_headers, arrived.response.headers_mut());
    http::apply(&route.response_headers, arrived.response.headers_mut());
    Ok(http::Answered { arrived, downstream, asked, kept: None, deadline })
}

/// The destination, once the control plane has said what it is. A request does not wait longer than the demand does.
async fn settled(exchange: &mut Exchange, id: DestinationId) -> Result<Arc<Destination>, Refusal> {
    let found = |snapshot: &Snapshot| snapshot.destination(id).cloned();
    let destination = found(&exchange.snapshot).ok_or(Reason::NoRoute)?;
    if !matches!(destination.handling, Handling::Pending) {
        return Ok(destination);
    }
    let worker = exchange.connection.worker.clone();
    worker.shared.demand.destination(destination.name.clone()).await;
    exchange.snapshot = worker.snapshot();
    found(&exchange.snapshot).ok_or_else(|| Reason::NoRoute.into())
}

fn routes(destination: &Destination) -> Result<&Arc<Routes>, Refusal> {
    match &destination.handling {
        Handling::Http(routes) | Handling::Detect { http: routes, .. } => Ok(routes),
        Handling::Pending => Err(refused_at(Reason::NoEndpoint, destination)),
        Handling::Unknown | Handling::Opaque(_) => Err(refused_at(Reason::NoRoute, destination)),
    }
}

fn forward<'a>(matched: Matched<'a>, parts: &Parts) -> Result<&'a Forward, Stop> {
    match &matched.route.action {
        Action::Forward(forward) => Ok(forward),
        Action::Redirect(redirect) => Err(http::redirect(redirect, matched, parts)),
        Action::NoBackend => Err(Refusal::at(Reason::NoBackend, &matched.route.object).into()),
    }
}

fn refused_at(reason: Reason, destination: &Destination) -> Refusal {
    Refusal { reason, object: format!("Destination/{}", destination.name).into() }
}
