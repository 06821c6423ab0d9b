//! Resources on few lines, so that tables of tests can be read.

use std::fmt::Write;

use outrigger_model::cluster::Cluster;
use outrigger_model::endpoint::{Endpoint, Endpoints};
use outrigger_model::filter::{Filters, PathChange, Redirect, Rewrite, Share};
use outrigger_model::inbound::Inbound;
use outrigger_model::listener::{Handling, Listener, OpaqueRoute, OpaqueRoutes};
use outrigger_model::resource::Resource;
use outrigger_model::route::{
    Action, Backend, BackendTarget, HeaderChanges, PathMatch, Route, RouteConfig, RouteMatch, ValueMatch,
};

pub(super) fn show(resource: &Resource) -> String {
    match resource {
        Resource::Listener(listener) => show_listener(listener),
        Resource::Inbound(inbound) => show_inbound(inbound),
        Resource::Route(config) => show_config(config),
        Resource::Cluster(cluster) => show_cluster(cluster),
        Resource::Endpoints(endpoints) => show_endpoints(endpoints),
    }
}

fn show_listener(listener: &Listener) -> String {
    let way = |route: &OpaqueRoute| {
        let shares = route.backends.iter().map(|backend| format!("{} x{}", backend.cluster, backend.weight));
        format!("{} [{}]", route.object, shares.collect::<Vec<_>>().join(", "))
    };
    let opaque = |routes: &OpaqueRoutes| {
        let named = routes.by_name.iter().map(|named| {
            let hosts = if named.hosts.is_empty() { "any".to_owned() } else { named.hosts.join(" ") };
            format!("tls {hosts} -> {}\n", way(&named.route))
        });
        named.collect::<String>() + &way(&routes.otherwise)
    };
    match &listener.handling {
        Handling::Http { route_config } => format!("{}: http {route_config}", listener.name),
        Handling::Opaque(route) => format!("{}: opaque {}", listener.name, opaque(route)),
        Handling::Detect { route_config, opaque: route } => {
            format!("{}: detect {route_config}, else {}", listener.name, opaque(route))
        }
    }
}

fn show_inbound(inbound: &Inbound) -> String {
    let ports =
        inbound.ports.iter().map(|port| format!("{} {:?} {}", port.port, port.protocol, port.service));
    let mesh = &inbound.mesh;
    let log = mesh.access_log.map_or("off".to_owned(), |format| format!("{format:?}"));
    let mut text = format!("{:?} {} {:?} log={log}", inbound.mtls, mesh.trust_domain, mesh.egress);
    for port in ports {
        let _ = write!(text, "\n{port}");
    }
    text
}

fn show_config(config: &RouteConfig) -> String {
    let routes = config.routes.iter().map(show_route);
    format!("{}\n{}", config.name, routes.collect::<Vec<_>>().join("\n"))
}

fn show_route(route: &Route) -> String {
    let changes = show_changes(&route.request_headers, &route.response_headers);
    let filters = show_filters(route.filters.as_deref());
    format!(
        "{}: {} -> {}{changes}{filters}",
        route.object,
        show_match(&route.matches),
        show_action(&route.action)
    )
}

fn show_match(matches: &RouteMatch) -> String {
    let mut text = match &matches.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(prefix) => format!("{prefix}/*"),
        PathMatch::Regex(pattern) => format!("~{}", pattern.source()),
    };
    if let Some(method) = &matches.method {
        text = format!("{method} {text}");
    }
    for header in &matches.headers {
        let _ = write!(text, " {}{}", header.name, show_value(&header.value));
    }
    for query in &matches.query {
        let _ = write!(text, " ?{}{}", query.name, show_value(&query.value));
    }
    text
}

fn show_value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Regex(pattern) => format!("~{}", pattern.source()),
        ValueMatch::Present => "?".to_owned(),
    }
}

fn show_action(action: &Action) -> String {
    let forward = match action {
        Action::NoBackend { why } => return format!("500 {why}"),
        Action::Redirect(redirect) => return show_redirect(redirect),
        Action::Forward(forward) => forward,
    };
    let mut text = forward.backends.iter().map(show_backend).collect::<Vec<_>>().join(", ");
    if let Some(timeout) = forward.timeout {
        let _ = write!(text, " timeout={timeout:?}");
    }
    if let Some(retry) = &forward.retry {
        let statuses: Vec<_> = retry.statuses.iter().map(|status| status.as_str().to_owned()).collect();
        let _ = write!(text, " retry={}x[{}]", retry.attempts, statuses.join(","));
        let _ = write!(
            text,
            " reset={} backoff={:?}..{:?}",
            retry.on_reset, retry.backoff_base, retry.backoff_max
        );
        if let Some(per_try) = retry.per_try_timeout {
            let _ = write!(text, " try={per_try:?}");
        }
    }
    text
}

fn show_redirect(redirect: &Redirect) -> String {
    let scheme = redirect.scheme.map_or("-".to_owned(), |scheme| format!("{scheme:?}").to_lowercase());
    let host = redirect.host.as_deref().unwrap_or("-");
    let port = redirect.port.map_or("-".to_owned(), |port| port.to_string());
    let path = redirect.path.as_ref().map_or("-".to_owned(), show_path);
    format!("{} {scheme}://{host}:{port} {path}", redirect.status.as_u16())
}

fn show_path(change: &PathChange) -> String {
    match change {
        PathChange::Full(path) => format!("={path}"),
        PathChange::Prefix(prefix) => format!("{prefix}/*"),
    }
}

fn show_filters(filters: Option<&Filters>) -> String {
    let Some(filters) = filters else { return String::new() };
    let mut text = String::new();
    if let Some(cors) = &filters.cors {
        let _ = write!(text, " {cors:?}");
    }
    if let Some(Rewrite { host, path }) = &filters.rewrite {
        let path = path.as_ref().map_or("-".to_owned(), show_path);
        let _ = write!(text, " rewrite({} {path})", host.as_deref().unwrap_or("-"));
    }
    for mirror in &filters.mirrors {
        let Share { numerator, denominator } = mirror.share;
        let _ = write!(text, " mirror({} {numerator}/{denominator})", show_target(&mirror.target));
    }
    text
}

fn show_target(target: &BackendTarget) -> String {
    match target {
        BackendTarget::Cluster(cluster) => cluster.to_string(),
        BackendTarget::Invalid(why) => format!("invalid({why})"),
    }
}

fn show_backend(backend: &Backend) -> String {
    format!(
        "{} x{}{}{}",
        show_target(&backend.target),
        backend.weight,
        show_changes(&backend.request_headers, &backend.response_headers),
        show_filters(backend.filters.as_deref())
    )
}

fn show_changes(request: &HeaderChanges, response: &HeaderChanges) -> String {
    let one = |word: &str, changes: &HeaderChanges| {
        let remove = changes.remove.iter().map(|name| format!("-{name}"));
        let set = changes.set.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
        let add = changes.add.iter().map(|(name, value)| format!("+{name}={}", value.to_str().unwrap()));
        let all: Vec<_> = remove.chain(set).chain(add).collect();
        if all.is_empty() { String::new() } else { format!(" {word}({})", all.join(" ")) }
    };
    format!("{}{}", one("request", request), one("response", response))
}

fn show_cluster(cluster: &Cluster) -> String {
    let service = &cluster.service;
    format!(
        "{} {}/{}/{} {:?} {:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        cluster.name,
        service.kind,
        service.namespace,
        service.name,
        cluster.discovery,
        cluster.protocol,
        cluster.load_balancer,
        cluster.limits,
        cluster.outlier,
        cluster.retry_budget,
        cluster.connection,
    )
}

fn show_endpoints(endpoints: &Endpoints) -> String {
    let lines = endpoints.endpoints.iter().map(show_endpoint);
    format!("{}\n{}", endpoints.cluster, lines.collect::<Vec<_>>().join("\n")).trim_end().to_owned()
}

fn show_endpoint(endpoint: &Endpoint) -> String {
    let identity = endpoint.identity.as_ref().map_or("plaintext".to_owned(), ToString::to_string);
    let locality = &endpoint.locality;
    let workload = &endpoint.workload;
    let place = match (&*locality.region, &*locality.zone) {
        ("", "") => String::new(),
        (region, zone) => format!(" {region}/{zone}"),
    };
    let weight = if endpoint.weight == 1 { String::new() } else { format!(" x{}", endpoint.weight) };
    let health = format!("{:?}", endpoint.health).to_lowercase();
    format!(
        "{} {health}{weight}{place} {}/{} {identity}",
        endpoint.address, workload.namespace, workload.name
    )
}
