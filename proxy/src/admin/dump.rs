//! `/config_dump`: the snapshot as JSON. Keys are stable; what has a text form of its own is shown in it.

use outrigger_model::inbound::{Egress, Inbound, MeshSettings, MtlsMode, Protocol};
use outrigger_model::policy::RetryPolicy;
use outrigger_model::route::{HeaderChanges, PathMatch, RouteMatch, ValueMatch};
use serde_json::{Value, json};

use crate::snapshot::{
    Action, Backend, Destination, Forward, Handling, OpaqueRoute, OpaqueRoutes, Route, Routes, Snapshot,
};

mod authorization;
mod filters;

pub(super) fn snapshot(snapshot: &Snapshot) -> Value {
    let mut destinations: Vec<&Destination> = snapshot.destinations.iter().flatten().map(|d| &**d).collect();
    destinations.sort_by(|a, b| a.name.cmp(&b.name));
    json!({
        "generation": snapshot.generation,
        "inbound": snapshot.inbound.as_deref().map(inbound),
        "mesh": mesh(&snapshot.mesh),
        "destinations": destinations.into_iter().map(destination).collect::<Vec<_>>(),
    })
}

fn inbound(inbound: &Inbound) -> Value {
    let protocol = |protocol| match protocol {
        Protocol::Detect => "detect",
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
        Protocol::Opaque => "opaque",
    };
    let port = |port: &outrigger_model::inbound::InboundPort| json!({"port": port.port, "protocol": protocol(port.protocol), "service": port.service.as_ref()});
    json!({
        "mtls": match inbound.mtls {
            MtlsMode::Strict => "Strict",
            MtlsMode::Permissive => "Permissive",
        },
        "ports": inbound.ports.iter().map(port).collect::<Vec<_>>(),
        "authorization": inbound.authorization.as_deref().map(authorization::authorization),
    })
}

fn mesh(mesh: &MeshSettings) -> Value {
    json!({
        "trust_domain": mesh.trust_domain.as_ref(),
        "egress": match mesh.egress {
            Egress::Allow => "Allow",
            Egress::Deny => "Deny",
        },
        "opaque_ports": mesh.opaque_ports,
        "access_log": mesh.access_log.map(|format| format!("{format:?}").to_lowercase()),
    })
}

fn destination(destination: &Destination) -> Value {
    let (state, http, opaque) = match &destination.handling {
        Handling::Pending => ("pending", None, None),
        Handling::Unknown => ("unknown", None, None),
        Handling::Http(http) => ("http", Some(http), None),
        Handling::Opaque(opaque) => ("opaque", None, Some(opaque)),
        Handling::Detect { http, opaque } => ("detect", Some(http), Some(opaque)),
    };
    json!({
        "name": destination.name.to_string(),
        "state": state,
        "connections": destination.usage.connections.load(std::sync::atomic::Ordering::Relaxed),
        "http": http.map(|routes| self::routes(routes)),
        "opaque": opaque.map(|opaque| self::opaque(opaque)),
    })
}

fn routes(routes: &Routes) -> Value {
    json!({"name": routes.name.as_ref(), "routes": routes.routes.iter().map(route).collect::<Vec<_>>()})
}

fn route(route: &Route) -> Value {
    json!({
        "object": route.object.as_ref(),
        "match": matches(&route.matches),
        "forward": match &route.action {
            Action::Forward(forward) => self::forward(forward),
            Action::Redirect(_) | Action::NoBackend => Value::Null,
        },
        "redirect": match &route.action {
            Action::Redirect(redirect) => filters::redirect(redirect),
            Action::Forward(_) | Action::NoBackend => Value::Null,
        },
        "request_headers": headers(&route.request_headers),
        "response_headers": headers(&route.response_headers),
        "filters": route.filters.as_deref().map(filters::filters),
    })
}

fn matches(matches: &RouteMatch) -> Value {
    let path = match &matches.path {
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Prefix(path) => format!("prefix {path}/"),
        PathMatch::Regex(pattern) => format!("regex {}", pattern.source()),
    };
    let header =
        |header: &outrigger_model::route::HeaderMatch| format!("{} {}", header.name, value(&header.value));
    let query =
        |query: &outrigger_model::route::QueryMatch| format!("{} {}", query.name, value(&query.value));
    json!({
        "path": path,
        "method": matches.method.as_ref().map(http::Method::as_str),
        "headers": matches.headers.iter().map(header).collect::<Vec<_>>(),
        "query": matches.query.iter().map(query).collect::<Vec<_>>(),
    })
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("is {text}"),
        ValueMatch::Regex(pattern) => format!("matches {}", pattern.source()),
        ValueMatch::Present => "is there".to_owned(),
    }
}

fn forward(forward: &Forward) -> Value {
    json!({
        "backends": forward.backends.iter().map(backend).collect::<Vec<_>>(),
        "timeout_ms": forward.timeout.map(|timeout| timeout.as_millis() as u64),
        "retry": forward.retry.as_ref().map(retry),
    })
}

fn retry(retry: &RetryPolicy) -> Value {
    json!({
        "attempts": retry.attempts,
        "statuses": retry.statuses.iter().map(http::StatusCode::as_u16).collect::<Vec<_>>(),
        "on_reset": retry.on_reset,
        "per_try_timeout_ms": retry.per_try_timeout.map(|timeout| timeout.as_millis() as u64),
    })
}

fn backend(backend: &Backend) -> Value {
    json!({
        "cluster": backend.cluster.as_ref().map(|cluster| cluster.config().name.to_string()),
        "weight": backend.weight,
        "request_headers": headers(&backend.request_headers),
        "response_headers": headers(&backend.response_headers),
        "filters": backend.filters.as_deref().map(filters::filters),
    })
}

fn opaque(routes: &OpaqueRoutes) -> Value {
    let mut shown = opaque_route(&routes.otherwise);
    if !routes.by_name.is_empty() {
        let named = routes.by_name.iter();
        let hosts = |hosts: &[std::sync::Arc<str>]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let named =
            named.map(|named| json!({"hosts": hosts(&named.hosts), "route": opaque_route(&named.route)}));
        shown["by_name"] = named.collect();
    }
    shown
}

fn opaque_route(opaque: &OpaqueRoute) -> Value {
    let backends = opaque.backends.iter();
    let backends = backends.map(|(weight, cluster)| {
        json!({"cluster": cluster.as_ref().map(|cluster| cluster.config().name.as_ref()), "weight": weight})
    });
    json!({"object": opaque.object.as_ref(), "backends": backends.collect::<Vec<_>>()})
}

/// Values of headers may be secrets that a user put into a route: only names are shown.
fn headers(changes: &HeaderChanges) -> Value {
    if changes.is_empty() {
        return Value::Null;
    }
    let names = |pairs: &[(http::HeaderName, http::HeaderValue)]| -> Vec<String> {
        pairs.iter().map(|(name, _)| name.to_string()).collect()
    };
    json!({
        "remove": changes.remove.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "set": names(&changes.set),
        "add": names(&changes.add),
    })
}
