//! GRPCRoutes in the order in which their matches count. A gRPC call is a POST to `/<service>/<method>`.

use std::cmp::Reverse;
use std::sync::Arc;

use outrigger_model::route::{PathMatch, Pattern, Route, RouteMatch};
use outrigger_resources::route::{Expression, GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRule};
use outrigger_resources::{Kind, ObjectRef};

use super::filters::Rule;
use super::http::headers;
use super::order::{Place, in_order};
use super::route_policy::{self, RuleSite, Site};
use super::session;
use super::target::PortOf;
use crate::world::World;

/// Any service, or any method.
const ANY_SEGMENT: &str = "[^/]+";

/// Where a match stands: Gateway API orders by characters in the service, then in the method, then by headers, then
/// the older route, then the order of rules. Where expressions stand it leaves open: here behind exact names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_regex: bool,
    service: Reverse<usize>,
    method: Reverse<usize>,
    headers: Reverse<usize>,
    place: Place,
}

/// The routes of some GRPCRoutes, which come oldest first.
pub(super) fn routes(world: &World, port: PortOf<'_>, routes: &[&GrpcRoute]) -> Vec<Route> {
    let mut ranked = Vec::new();
    for (route_index, route) in routes.iter().enumerate() {
        for rule in &route.spec.rules {
            let template =
                route_policy::apply(world, &site(port, route, rule), template(world, port, route, rule));
            for (match_index, matches) in rule.matches.iter().enumerate() {
                let place = Place { route: route_index, rule: rule.index, matching: match_index };
                let Some(condition) = condition(matches) else { continue };
                ranked.push((rank(matches, place), Route { matches: condition, ..template.clone() }));
            }
        }
    }
    in_order(ranked)
}

fn rank(matches: &GrpcMatch, place: Place) -> Rank {
    let length = |text: Option<&str>| Reverse(text.map_or(0, |text| text.chars().count()));
    let (is_regex, service, method) = match &matches.method {
        None => (false, length(None), length(None)),
        Some(GrpcMethodMatch::Exact { service, method }) => {
            (false, length(service.as_deref()), length(method.as_deref()))
        }
        Some(GrpcMethodMatch::Regex { service, method }) => {
            (true, length(text(service.as_ref())), length(text(method.as_ref())))
        }
    };
    // A match of any method is the least specific of all, behind expressions as well.
    let is_regex = is_regex || matches.method.is_none();
    Rank { is_regex, service, method, headers: Reverse(matches.headers.len()), place }
}

fn site<'w>(port: PortOf<'w>, route: &GrpcRoute, rule: &'w GrpcRule) -> Site<'w> {
    let (kind, meta) = (Kind::GrpcRoute, &route.meta);
    let route = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
    let rule = RuleSite { route, name: rule.name.as_deref(), filters: &rule.filters };
    Site { rule: Some(rule), ..Site::of_port(port) }
}

fn template(world: &World, port: PortOf<'_>, route: &GrpcRoute, rule: &GrpcRule) -> Route {
    let meta = &route.meta;
    let object =
        ObjectRef { kind: Kind::GrpcRoute, namespace: meta.namespace.clone(), name: meta.name.clone() };
    let common = Rule { object: &object, filters: &rule.filters, backends: &rule.backend_refs };
    let route = common.route(world, port.port.port);
    session::keep(route, rule.session_persistence.as_ref(), (&object, rule.index))
}

fn condition(matches: &GrpcMatch) -> Option<RouteMatch> {
    let path = match &matches.method {
        None => PathMatch::default(),
        Some(GrpcMethodMatch::Exact { service, method }) => exact(service.as_ref(), method.as_ref())?,
        Some(GrpcMethodMatch::Regex { service, method }) => {
            regex(text(service.as_ref()), text(method.as_ref()))?
        }
    };
    Some(RouteMatch { path, method: None, headers: headers(&matches.headers)?, query: Vec::new() })
}

fn exact(service: Option<&Arc<str>>, method: Option<&Arc<str>>) -> Option<PathMatch> {
    match (service, method) {
        (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}").into())),
        (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}").into())),
        // A method has letters, digits and underscores only, so it is its own expression.
        (None, Some(method)) => regex(None, Some(method)),
        (None, None) => Some(PathMatch::default()),
    }
}

fn regex(service: Option<&str>, method: Option<&str>) -> Option<PathMatch> {
    let service = service.unwrap_or(ANY_SEGMENT);
    let method = method.unwrap_or(ANY_SEGMENT);
    Pattern::new(&format!("/(?:{service})/(?:{method})")).ok().map(PathMatch::Regex)
}

fn text(expression: Option<&Expression>) -> Option<&str> {
    expression.map(Expression::as_str)
}
