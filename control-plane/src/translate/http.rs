//! HTTPRoutes in the order in which their matches count.

use std::cmp::Reverse;
use std::time::Duration;

use outrigger_model::policy::{GrpcCodes, RetryPolicy};
use outrigger_model::route::{
    Action, HeaderMatch, PathMatch, Pattern, QueryMatch, Route, RouteMatch, ValueMatch,
};
use outrigger_resources::route::{
    self as resources, Expression, HttpMatch, HttpRoute, HttpRule, Retry, Timeouts,
};
use outrigger_resources::{Kind, ObjectRef};

use super::filters::Rule;
use super::route_policy::{self, RuleSite, Site};
use super::session;
use super::target::PortOf;
use crate::world::World;

/// The longest wait before a retry is at least so many times the shortest.
const BACKOFF_GROWTH: u32 = 10;

/// Where a match stands among all matches of all rules of all routes on a port: the least comes first.
///
/// Gateway API orders exact paths, then longer prefixes, then a method, then more headers, then more query
/// parameters, then the older route, then the order of rules. Where expressions stand it leaves open: here between
/// exact paths and prefixes, the longer expression first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    path: PathRank,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    place: super::order::Place,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Regex(Reverse<usize>),
    Prefix(Reverse<usize>),
}

/// The routes of some HTTPRoutes, which come oldest first.
pub(super) fn routes(world: &World, port: PortOf<'_>, routes: &[&HttpRoute]) -> Vec<Route> {
    let mut ranked = Vec::new();
    for (route_index, route) in routes.iter().enumerate() {
        for rule in &route.spec.rules {
            let template =
                route_policy::apply(world, &site(port, route, rule), template(world, port, route, rule));
            for (match_index, matches) in rule.matches.iter().enumerate() {
                let place =
                    super::order::Place { route: route_index, rule: rule.index, matching: match_index };
                let Some(matches) = condition(matches) else { continue };
                ranked.push((rank(&matches, place), Route { matches, ..template.clone() }));
            }
        }
    }
    super::order::in_order(ranked)
}

fn rank(matches: &RouteMatch, place: super::order::Place) -> Rank {
    let path = match &matches.path {
        PathMatch::Exact(_) => PathRank::Exact,
        PathMatch::Regex(pattern) => PathRank::Regex(Reverse(pattern.source().chars().count())),
        PathMatch::Prefix(prefix) => PathRank::Prefix(Reverse(prefix.chars().count())),
    };
    Rank {
        path,
        without_method: matches.method.is_none(),
        headers: Reverse(matches.headers.len()),
        query: Reverse(matches.query.len()),
        place,
    }
}

fn site<'w>(port: PortOf<'w>, route: &HttpRoute, rule: &'w HttpRule) -> Site<'w> {
    let (kind, meta) = (Kind::HttpRoute, &route.meta);
    let route = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
    let rule = RuleSite { route, name: rule.name.as_deref(), filters: &rule.filters };
    Site { rule: Some(rule), ..Site::of_port(port) }
}

/// What a rule does, still without its matches.
fn template(world: &World, port: PortOf<'_>, route: &HttpRoute, rule: &HttpRule) -> Route {
    let meta = &route.meta;
    let object =
        ObjectRef { kind: Kind::HttpRoute, namespace: meta.namespace.clone(), name: meta.name.clone() };
    let common = Rule { object: &object, filters: &rule.filters, backends: &rule.backend_refs };
    let route = common.route(world, port.port.port);
    let route = Route { action: with_timeouts(route.action, rule), ..route };
    session::keep(route, rule.session_persistence.as_ref(), (&object, rule.index))
}

fn with_timeouts(action: Action, rule: &HttpRule) -> Action {
    match action {
        Action::Forward(mut forward) => {
            forward.timeout = rule.timeouts.request;
            forward.retry = retry_policy(rule.retry.as_ref(), rule.timeouts);
            Action::Forward(forward)
        }
        answered => answered,
    }
}

/// Gateway API retries connection errors together with the codes; a timeout for one try alone retries nothing more.
fn retry_policy(retry: Option<&Retry>, timeouts: Timeouts) -> Option<RetryPolicy> {
    let per_try_timeout = timeouts.backend_request;
    let Some(retry) = retry else {
        let policy = RetryPolicy { attempts: 0, per_try_timeout, ..RetryPolicy::default() };
        return per_try_timeout.map(|_| policy);
    };
    let default = RetryPolicy::default();
    let base: Duration = retry.backoff.unwrap_or(default.backoff_base);
    Some(RetryPolicy {
        attempts: retry.attempts.unwrap_or(default.attempts),
        statuses: retry.codes.clone(),
        throttled: false,
        grpc: GrpcCodes::default(),
        on_reset: true,
        per_try_timeout,
        backoff_base: base,
        backoff_max: default.backoff_max.max(base.saturating_mul(BACKOFF_GROWTH)),
    })
}

/// `None` for an expression that the data plane cannot compile, which reading has refused already.
fn condition(matches: &HttpMatch) -> Option<RouteMatch> {
    let path = match &matches.path {
        resources::PathMatch::Exact(path) => PathMatch::Exact(path.clone()),
        resources::PathMatch::Prefix(prefix) => PathMatch::Prefix(prefix.trim_end_matches('/').into()),
        resources::PathMatch::Regex(expression) => PathMatch::Regex(pattern(expression)?),
    };
    let query = matches
        .query_params
        .iter()
        .map(|query| Some(QueryMatch { name: query.name.clone(), value: value(&query.value)? }));
    Some(RouteMatch {
        path,
        method: matches.method.clone(),
        headers: headers(&matches.headers)?,
        query: query.collect::<Option<_>>()?,
    })
}

/// Conditions on headers, as HTTPRoute and GRPCRoute share them.
pub(super) fn headers(matches: &[resources::HeaderMatch]) -> Option<Vec<HeaderMatch>> {
    let headers = matches.iter();
    headers
        .map(|header| Some(HeaderMatch { name: header.name.clone(), value: value(&header.value)? }))
        .collect()
}

/// An expression as the data plane holds it.
pub(super) fn pattern(expression: &Expression) -> Option<Pattern> {
    Pattern::new(expression.as_str()).ok()
}

fn value(value: &resources::ValueMatch) -> Option<ValueMatch> {
    Some(match value {
        resources::ValueMatch::Exact(text) => ValueMatch::Exact(text.clone()),
        resources::ValueMatch::Regex(expression) => ValueMatch::Regex(pattern(expression)?),
    })
}
