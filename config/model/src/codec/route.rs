//! Route configurations: one virtual host with the routes in order of precedence.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route as Wire, RouteConfiguration, RouteMatch as WireMatch, VirtualHost,
};

use super::fault::{Decoded, Fault, at_most, refuse, shorten};
use super::matches;
use super::wire::{self, ours};
use super::{Any, MAX_PATTERNS, MAX_ROUTE_PARTS, MAX_ROUTES, headers, retry, session};
use crate::route::{Action, Forward, NO_BACKEND_STATUS, PathMatch, Route, RouteConfig};

mod action;
mod cors;
mod fault;
mod filters;
mod redirect;
mod rewrite;

use rewrite::Beside;

/// Why a forward whose weights are all 0 answers by itself: no client takes such a split.
const NO_WEIGHT: &str = "no backend has a weight above 0";

/// What is counted before anything is read into memory. A segment prefix takes two routes.
const BOUNDS: [(&str, &[u32], usize); 11] = [
    ("virtual_hosts", &[2], MAX_ROUTES),
    ("virtual_hosts.routes", &[2, 3], 2 * MAX_ROUTES),
    ("virtual_hosts.routes.match.headers", &[2, 3, 1, 6], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.match.query_parameters", &[2, 3, 1, 7], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.request_headers_to_add", &[2, 3, 9], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.response_headers_to_add", &[2, 3, 10], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.route.weighted_clusters.clusters", &[2, 3, 2, 3, 1], MAX_ROUTE_PARTS),
    ("weighted_clusters.clusters.request_headers_to_add", &[2, 3, 2, 3, 1, 4], MAX_ROUTE_PARTS),
    ("weighted_clusters.clusters.response_headers_to_add", &[2, 3, 2, 3, 1, 5], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.route.request_mirror_policies", &[2, 3, 2, 30], MAX_ROUTE_PARTS),
    ("virtual_hosts.routes.metadata.backend_filters", &[2, 3, 4, 2, 2, 2, 10], MAX_ROUTE_PARTS),
];

/// What decides between header changes of a route and of one of its backends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// The backend's are applied last, as the model says.
    Backend,
    /// The route's are applied last.
    Route,
}

/// What filters are told by name, of routes and of backends.
const MAPS: [&[u32]; 2] = [&[2, 3, 13], &[2, 3, 2, 3, 1, 10]];

/// Writes a route configuration; the same one always gives the same bytes.
pub(super) fn pack(config: &RouteConfig) -> Any {
    let mut any = wire::pack(&encode(config));
    MAPS.iter().for_each(|map| wire::sort_map(&mut any.value, map));
    any
}

fn encode(config: &RouteConfig) -> RouteConfiguration {
    let host = VirtualHost {
        name: config.name.as_ref().into(),
        domains: vec!["*".to_owned()],
        routes: config.routes.iter().flat_map(encode_route).collect(),
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: config.name.as_ref().into(),
        virtual_hosts: vec![host],
        // Says that the changes of a backend come after those of its route. Envoy itself (1.40) lets the route have the
        // last word on a field that both change.
        most_specific_header_mutations_wins: true,
        ..RouteConfiguration::default()
    }
}

pub(super) fn decode(any: &Any, name: &mut String) -> Decoded<RouteConfig> {
    wire::check_counts(any, &BOUNDS)?;
    let wire: RouteConfiguration = wire::unpack(any)?;
    name.clone_from(&wire.name);
    wire::not_empty("name", &wire.name)?;
    refuse(&[
        ("vhds", wire.vhds.is_some()),
        ("internal_only_headers", !wire.internal_only_headers.is_empty()),
        ("request_headers_to_add", !wire.request_headers_to_add.is_empty()),
        ("request_headers_to_remove", !wire.request_headers_to_remove.is_empty()),
        ("response_headers_to_add", !wire.response_headers_to_add.is_empty()),
        ("response_headers_to_remove", !wire.response_headers_to_remove.is_empty()),
        ("request_mirror_policies", !wire.request_mirror_policies.is_empty()),
        ("route_specifiers", !wire.route_specifiers.is_empty()),
        ("ignore_path_parameters_in_path_matching", wire.ignore_path_parameters_in_path_matching),
        ("vhost_header", !wire.vhost_header.is_empty()),
    ])?;
    check_filters(&wire.typed_per_filter_config)?;
    let precedence = match wire.most_specific_header_mutations_wins {
        true => Precedence::Backend,
        false => Precedence::Route,
    };
    let host = choose_host(&wire)?;
    let within = |fault: Fault| fault.within(format!("virtual_hosts[{}]", shorten(&host.name)));
    check_host(host).map_err(within)?;
    let routes = decode_routes(&host.routes, precedence).map_err(within)?;
    Ok(RouteConfig { name: wire.name.as_str().into(), routes })
}

/// The virtual host that is for the destination: its name with the port, its name alone, or any.
fn choose_host(wire: &RouteConfiguration) -> Decoded<&VirtualHost> {
    let bare = wire.name.rsplit_once(':').map_or(wire.name.as_str(), |(host, _)| host);
    let with = |wanted: &str| {
        let has = |host: &&VirtualHost| host.domains.iter().any(|domain| domain.eq_ignore_ascii_case(wanted));
        wire.virtual_hosts.iter().find(has)
    };
    let found = with(&wire.name).or_else(|| with(bare)).or_else(|| with("*"));
    found.ok_or_else(|| Fault::new("virtual_hosts", "has none for the destination, nor one for \"*\""))
}

#[expect(deprecated, reason = "control planes still send the old spelling")]
fn check_host(host: &VirtualHost) -> Decoded<()> {
    refuse(&[
        ("matcher", host.matcher.is_some()),
        ("require_tls", host.require_tls() != TlsRequirementType::None),
        ("rate_limits", !host.rate_limits.is_empty()),
        ("cors", host.cors.is_some()),
        ("request_headers_to_add", !host.request_headers_to_add.is_empty()),
        ("request_headers_to_remove", !host.request_headers_to_remove.is_empty()),
        ("response_headers_to_add", !host.response_headers_to_add.is_empty()),
        ("response_headers_to_remove", !host.response_headers_to_remove.is_empty()),
        ("retry_policy", host.retry_policy.is_some()),
        ("retry_policy_typed_config", host.retry_policy_typed_config.is_some()),
        ("hedge_policy", host.hedge_policy.is_some()),
        ("request_mirror_policies", !host.request_mirror_policies.is_empty()),
        ("route_specifiers", !host.route_specifiers.is_empty()),
    ])?;
    check_filters(&host.typed_per_filter_config)
}

/// Refuses filters that would be for all routes.
fn check_filters(configs: &HashMap<String, Any>) -> Decoded<()> {
    match filters::decode_configs(configs)?.is_empty() {
        true => Ok(()),
        false => Err(Fault::new("typed_per_filter_config", "is not supported for all routes at once")),
    }
}

fn encode_route(route: &Route) -> Vec<Wire> {
    let matches = matches::encode(&route.matches);
    match matches.tail {
        None => {
            let beside = Beside::of(Some(&matches.first), false);
            vec![encode_half(route, beside, matches.first)]
        }
        Some(tail) => {
            vec![encode_half(route, Beside::Head, matches.first), encode_half(route, Beside::Slash, tail)]
        }
    }
}

/// One route on the wire: all of a route, or the half of it that is beside this match.
fn encode_half(route: &Route, beside: Beside, matches: WireMatch) -> Wire {
    let (action, extension) = encode_action(&route.action, beside);
    let mut extension = ours::RouteExtension { prefix_head: beside == Beside::Head, ..extension };
    if let Some(filters) = &route.filters {
        filters::encode_own(filters, &mut extension);
    }
    let request = headers::encode(&route.request_headers);
    let response = headers::encode(&route.response_headers);
    let mut wire = Wire {
        name: route.object.as_ref().into(),
        r#match: Some(matches),
        action: Some(action),
        metadata: (extension != ours::RouteExtension::default()).then(|| wire::metadata(&extension)),
        request_headers_to_add: request.add,
        request_headers_to_remove: request.remove,
        response_headers_to_add: response.add,
        response_headers_to_remove: response.remove,
        ..Wire::default()
    };
    if let Some(filters) = &route.filters {
        filters::encode(filters, beside, &mut wire);
    }
    wire
}

fn encode_action(action: &Action, beside: Beside) -> (WireAction, ours::RouteExtension) {
    match action {
        Action::Forward(forward) if forward.backends.iter().any(|backend| backend.weight > 0) => {
            let extension = ours::RouteExtension {
                retry_policy: forward.retry.as_ref().and_then(retry::encode_exact),
                session: forward.session.as_ref().map(session::encode),
                hedge: forward.hedge.as_ref().map(retry::encode_hedge),
                backend_filters: filters::encode_backends(&forward.backends),
                ..ours::RouteExtension::default()
            };
            (WireAction::Route(action::encode(forward)), extension)
        }
        Action::Forward(_) => encode_no_backend(NO_WEIGHT),
        Action::Redirect(redirect) => {
            (WireAction::Redirect(redirect::encode(redirect, beside)), ours::RouteExtension::default())
        }
        Action::NoBackend { why } => encode_no_backend(why),
    }
}

fn encode_no_backend(why: &str) -> (WireAction, ours::RouteExtension) {
    let response =
        DirectResponseAction { status: NO_BACKEND_STATUS.as_u16().into(), ..DirectResponseAction::default() };
    let extension =
        ours::RouteExtension { no_backend: Some(why.to_owned()), ..ours::RouteExtension::default() };
    (WireAction::DirectResponse(response), extension)
}

fn decode_routes(wire: &[Wire], precedence: Precedence) -> Decoded<Vec<Route>> {
    let (mut routes, mut patterns) = (Vec::new(), 0);
    let mut rest = wire.iter().enumerate();
    while let Some((at, first)) = rest.next() {
        let within = |fault: Fault| fault.within(format!("routes[{at}]"));
        let extension: Option<ours::RouteExtension> =
            wire::extension(first.metadata.as_ref()).map_err(within)?;
        let extension = extension.unwrap_or_default();
        let mut route = decode_route(first, &extension).map_err(within)?;
        check_precedence(&route, precedence).map_err(within)?;
        if extension.prefix_head {
            let tail = rest.next().map(|(_, tail)| tail);
            route.matches.path = join(first, tail).map_err(within)?;
        }
        patterns += matches::patterns(&route.matches) + filters::patterns(&route);
        at_most("routes.match.safe_regex", patterns, MAX_PATTERNS)?;
        routes.push(route);
    }
    at_most("routes", routes.len(), MAX_ROUTES)?;
    Ok(routes)
}

/// Makes one segment prefix of its two halves.
fn join(head: &Wire, tail: Option<&Wire>) -> Decoded<PathMatch> {
    use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
    let torn =
        || Fault::new("metadata", "says that the next route is the other half of a prefix, which it is not");
    let tail = tail.ok_or_else(torn)?;
    let path = head.r#match.as_ref().and_then(|matches| matches.path_specifier.as_ref());
    let Some(PathSpecifier::Path(prefix)) = path else { return Err(torn()) };
    let mut expected = head.clone();
    expected.metadata.clone_from(&tail.metadata);
    if let Some(matches) = &mut expected.r#match {
        matches.path_specifier = Some(matches::halves(prefix).1);
    }
    match &mut expected.action {
        Some(WireAction::Route(route)) => rewrite::head_to_tail(&mut route.prefix_rewrite),
        Some(WireAction::Redirect(redirect)) => redirect::head_to_tail(redirect),
        _ => {}
    }
    match expected == *tail {
        true => Ok(PathMatch::Prefix(prefix.as_str().into())),
        false => Err(torn()),
    }
}

fn decode_route(wire: &Wire, extension: &ours::RouteExtension) -> Decoded<Route> {
    refuse(&[("route_specifiers", !wire.route_specifiers.is_empty())])?;
    let beside = Beside::of(wire.r#match.as_ref(), extension.prefix_head);
    let matches = wire.r#match.as_ref().ok_or_else(|| Fault::new("match", "is missing"))?;
    let matches = matches::decode(matches).map_err(|fault| fault.within("match"))?;
    let (add, remove) = (&wire.request_headers_to_add, &wire.request_headers_to_remove);
    let request_headers = headers::decode("request", add, remove)?;
    let (add, remove) = (&wire.response_headers_to_add, &wire.response_headers_to_remove);
    let response_headers = headers::decode("response", add, remove)?;
    let filters = filters::decode(wire, beside, extension)?;
    let action = decode_action(wire, beside, extension)?;
    let object = wire.name.as_str().into();
    let filters = (!filters.is_empty()).then(|| Box::new(filters));
    let mut route = Route { object, matches, action, request_headers, response_headers, filters };
    filters::decode_backends(&extension.backend_filters, &mut route)?;
    Ok(route)
}

fn decode_action(wire: &Wire, beside: Beside, extension: &ours::RouteExtension) -> Decoded<Action> {
    match &wire.action {
        Some(WireAction::Route(route)) => {
            let mut forward = action::decode(route).map_err(|fault| fault.within("route"))?;
            if let Some(exact) = &extension.retry_policy {
                let exact = retry::decode_exact(exact).map_err(|fault| fault.within("retry_policy"))?;
                forward.retry = Some(exact);
            }
            let session = extension.session.as_ref().map(session::decode).transpose();
            forward.session = session.map_err(|fault| fault.within("session"))?;
            let hedge = extension.hedge.as_ref().map(retry::decode_hedge).transpose();
            forward.hedge = hedge.map_err(|fault| fault.within("hedge"))?;
            Ok(Action::Forward(forward))
        }
        Some(WireAction::DirectResponse(_)) => match &extension.no_backend {
            Some(why) => Ok(Action::NoBackend { why: why.as_str().into() }),
            None => Err(Fault::new("direct_response", "is not supported")),
        },
        Some(WireAction::Redirect(redirect)) => {
            let redirect = redirect::decode(redirect, beside).map_err(|fault| fault.within("redirect"))?;
            Ok(Action::Redirect(redirect))
        }
        Some(WireAction::FilterAction(_)) => Err(Fault::new("filter_action", "is not supported")),
        Some(WireAction::NonForwardingAction(_)) => {
            Err(Fault::new("non_forwarding_action", "is not supported"))
        }
        None => Err(Fault::new("action", "is missing")),
    }
}

/// Refuses changes to one request field by a route and by a backend of it, where the route's would be the last word.
fn check_precedence(route: &Route, precedence: Precedence) -> Decoded<()> {
    let Action::Forward(Forward { backends, .. }) = &route.action else { return Ok(()) };
    if precedence == Precedence::Backend {
        return Ok(());
    }
    let mut both =
        backends.iter().filter_map(|it| headers::shared(&route.request_headers, &it.request_headers));
    match both.next() {
        Some(name) => Err(Fault::new(
            "request_headers_to_add",
            format!("{name} is changed by a cluster too, and most_specific_header_mutations_wins is not set"),
        )),
        None => Ok(()),
    }
}
