//! What became of routes, for each of their parents.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::codec::MAX_ROUTES;
use outrigger_resources::route::{BackendRef, Filter, ParentRef, TcpRule, TlsRoute};
use outrigger_resources::{Kind, Object, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{
    Applied, Declared, PortOf, backend_cluster, has_rules, means, missing_route_policy, routes_on,
    rule_sites, suits, taken_names,
};
use crate::world::{Held, World, parent_service, route_parents};

/// Which kinds of routes come before all others on a port, the first before the second and so on.
const RANKS: [Kind; 3] = [Kind::GrpcRoute, Kind::HttpRoute, Kind::TlsRoute];

/// One status for each parent of a route; one for the route itself when it has none.
pub(super) fn statuses(world: &World, held: &Arc<Held>) -> Vec<ObjectStatus> {
    let parents = route_parents(&held.object);
    if parents.is_empty() {
        let mut verdict = Verdict::about(held);
        let message = "spec.parentRefs is empty; name the Service whose traffic it is for";
        verdict.refuse(reason::NO_MATCHING_PARENT, message.to_owned());
        return vec![verdict.done()];
    }
    parents.iter().map(|parent| status(world, held, parent)).collect()
}

fn status(world: &World, held: &Arc<Held>, parent: &ParentRef) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let namespace = &held.object.meta().namespace;
    references(world, &mut verdict, &held.object);
    rules(world, &mut verdict, &held.object);
    match parent_service(parent, namespace) {
        None => {
            let message =
                format!("parentRefs: a {} is not served by this version; name a Service", parent.kind);
            verdict.refuse(reason::NO_MATCHING_PARENT, message);
            verdict.done()
        }
        Some(service) => {
            attachment(world, &mut verdict, held, parent);
            verdict.with_parent(service).done()
        }
    }
}

/// Judges the route on every port that a parentRef means.
fn attachment(world: &World, verdict: &mut Verdict, held: &Arc<Held>, parent: &ParentRef) {
    let namespace = &held.object.meta().namespace;
    let Some(reference) = parent_service(parent, namespace) else { return };
    let Some(service) = world.service(&reference.namespace, &reference.name) else {
        return verdict.refuse(reason::NO_MATCHING_PARENT, format!("{reference} is not there"));
    };
    let ports: Vec<_> = PortOf::all(service).filter(|port| means(parent, namespace, *port)).collect();
    if ports.is_empty() {
        let known: Vec<_> = PortOf::all(service).map(|port| port.port.port.to_string()).collect();
        let message = format!("{reference} has no such TCP port; it has {}", known.join(", "));
        return verdict.refuse(reason::NO_MATCHING_PARENT, message);
    }
    let obstacles: Vec<_> = ports.iter().filter_map(|port| obstacle(world, held, *port)).collect();
    let all = obstacles.len() == ports.len();
    for (reason, message) in obstacles {
        match all {
            true => verdict.refuse(reason, message),
            false => verdict.invalidate(reason, message),
        }
    }
    for port in ports {
        repeated_matches(world, verdict, held, port);
        repeated_names(world, verdict, held, port);
    }
}

/// Says which hostnames of a TLSRoute an older one has as well.
fn repeated_names(world: &World, verdict: &mut Verdict, held: &Arc<Held>, port: PortOf<'_>) {
    let Object::TlsRoute(route) = &held.object else { return };
    let peers = peers(world, held, port);
    let older: Vec<&TlsRoute> = peers
        .iter()
        .filter(|peer| peer.age < held.age)
        .filter_map(|peer| match &peer.object {
            Object::TlsRoute(route) => Some(route),
            _ => None,
        })
        .collect();
    let taken = taken_names(route, &older);
    if taken.is_empty() {
        return;
    }
    let number = port.port.port;
    let message = format!(
        "spec.hostnames: {} on port {number} are those of an older TLSRoute, which counts",
        taken.join(", ")
    );
    match taken.len() >= route.spec.hostnames.len().max(1) {
        true => verdict.refuse(reason::CONFLICTED, message),
        false => verdict.invalidate(reason::CONFLICTED, message),
    }
}

/// Why a route is not in force on a port.
fn obstacle(world: &World, held: &Arc<Held>, port: PortOf<'_>) -> Option<(&'static str, String)> {
    let number = port.port.port;
    let kind = held.object.kind();
    if !suits(kind, Declared::of(port.port)) {
        let message =
            format!("port {number} of {} is declared as something a {kind} is not for", port.reference());
        return Some((reason::NOT_ALLOWED_BY_LISTENERS, message));
    }
    let peers = peers(world, held, port);
    let rank = |kind: Kind| RANKS.iter().position(|known| *known == kind).unwrap_or(RANKS.len());
    let higher = peers.iter().find(|peer| rank(peer.object.kind()) < rank(kind));
    let older = peers.first().filter(|first| kind == Kind::TcpRoute && first.age < held.age);
    let winner = higher.or(older)?;
    let why = if higher.is_some() { "is of a kind that comes first" } else { "is older" };
    Some((reason::CONFLICTED, format!("on port {number} {} {why} and counts instead", winner.reference())))
}

/// The other routes that are for the same clients.
fn peers<'w>(world: &'w World, held: &Arc<Held>, port: PortOf<'w>) -> Vec<&'w Arc<Held>> {
    let namespace = &held.object.meta().namespace;
    let own = held.object.reference();
    let routes = routes_on(world, port).into_iter();
    routes.filter(|peer| peer.object.meta().namespace == *namespace && peer.reference() != own).collect()
}

/// Says which matches an older route has as well, and when there are too many for a proxy.
fn repeated_matches(world: &World, verdict: &mut Verdict, held: &Arc<Held>, port: PortOf<'_>) {
    let peers = peers(world, held, port);
    let count: usize = peers.iter().map(|peer| matches(&peer.object)).sum::<usize>() + matches(&held.object);
    if count > MAX_ROUTES {
        let message = format!(
            "port {} has {count} matches; the last {} are not in force",
            port.port.port,
            count - MAX_ROUTES
        );
        verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
    }
    for peer in peers.iter().filter(|peer| peer.age < held.age) {
        if let Some(field) = same_match(&held.object, &peer.object) {
            let message =
                format!("{field} is a match of {} as well, which is older and counts", peer.reference());
            verdict.invalidate(reason::CONFLICTED, message);
        }
    }
}

fn matches(object: &Object) -> usize {
    match object {
        Object::HttpRoute(route) => route.spec.rules.iter().map(|rule| rule.matches.len()).sum(),
        Object::GrpcRoute(route) => route.spec.rules.iter().map(|rule| rule.matches.len()).sum(),
        _ => 0,
    }
}

fn same_match(route: &Object, other: &Object) -> Option<String> {
    match (route, other) {
        (Object::HttpRoute(route), Object::HttpRoute(other)) => {
            let taken: Vec<_> = other.spec.rules.iter().flat_map(|rule| &rule.matches).collect();
            let mut rules = route.spec.rules.iter();
            rules.find_map(|rule| {
                Some((rule.index, rule.matches.iter().position(|own| taken.contains(&own))?))
            })
        }
        (Object::GrpcRoute(route), Object::GrpcRoute(other)) => {
            let taken: Vec<_> = other.spec.rules.iter().flat_map(|rule| &rule.matches).collect();
            let mut rules = route.spec.rules.iter();
            rules.find_map(|rule| {
                Some((rule.index, rule.matches.iter().position(|own| taken.contains(&own))?))
            })
        }
        _ => None,
    }
    .map(|(rule, matching)| format!("spec.rules[{rule}].matches[{matching}]"))
}

/// A rule as all kinds of routes have it.
struct Rule<'a> {
    index: usize,
    name: Option<&'a str>,
    filters: &'a [Filter],
    backends: &'a [BackendRef],
}

fn rules_of(object: &Object) -> Vec<Rule<'_>> {
    match object {
        Object::HttpRoute(route) => {
            let rules = route.spec.rules.iter();
            let view = rules.map(|rule| Rule {
                index: rule.index,
                name: rule.name.as_deref(),
                filters: &rule.filters,
                backends: &rule.backend_refs,
            });
            view.collect()
        }
        Object::GrpcRoute(route) => {
            let rules = route.spec.rules.iter();
            let view = rules.map(|rule| Rule {
                index: rule.index,
                name: rule.name.as_deref(),
                filters: &rule.filters,
                backends: &rule.backend_refs,
            });
            view.collect()
        }
        Object::TcpRoute(route) => route.spec.rules.iter().map(opaque_rule).collect(),
        Object::TlsRoute(route) => route.spec.rules.iter().map(opaque_rule).collect(),
        _ => Vec::new(),
    }
}

fn opaque_rule(rule: &TcpRule) -> Rule<'_> {
    Rule { index: rule.index, name: rule.name.as_deref(), filters: &[], backends: &rule.backend_refs }
}

/// Whether every backendRef can be used.
fn references(world: &World, verdict: &mut Verdict, object: &Object) {
    let route = object.reference();
    for rule in rules_of(object) {
        // What gets no traffic need not be there.
        for (index, backend) in rule.backends.iter().enumerate().filter(|(_, backend)| backend.weight > 0) {
            if let Err(fault) = backend_cluster(world, &backend.object, &route) {
                let message = format!("spec.rules[{}].backendRefs[{index}]: {}", rule.index, fault.message);
                verdict.unresolve(fault.reason, message);
            }
        }
        let of_rule = (format!("spec.rules[{}].filters", rule.index), rule.filters);
        let of_backends = rule.backends.iter().enumerate().map(|(index, backend)| {
            let field = format!("spec.rules[{}].backendRefs[{index}].filters", rule.index);
            (field, backend.filters.as_slice())
        });
        for (field, filters) in std::iter::once(of_rule).chain(of_backends) {
            mirrors(world, verdict, (&field, filters), &route);
        }
    }
}

/// Whether every mirror can be used; requests go on without one that cannot.
fn mirrors(world: &World, verdict: &mut Verdict, (field, filters): (&str, &[Filter]), route: &ObjectRef) {
    for (index, filter) in filters.iter().enumerate() {
        let Filter::RequestMirror(mirror) = filter else { continue };
        if let Err(fault) = backend_cluster(world, &mirror.backend, route) {
            let message =
                format!("{field}[{index}].requestMirror.backendRef: {}; nothing is copied", fault.message);
            verdict.unresolve(fault.reason, message);
        }
    }
}

/// Says which rules have a name that an earlier one has, so that nobody can tell which of them is meant by it.
fn repeated_rule_names(verdict: &mut Verdict, object: &Object) {
    let mut first = BTreeMap::new();
    for rule in rules_of(object) {
        let Some(name) = rule.name else { continue };
        let earlier = *first.entry(name).or_insert(rule.index);
        if earlier != rule.index {
            let message = format!(
                "spec.rules[{}].name: {name:?} is the name of spec.rules[{earlier}] already; give each its own",
                rule.index
            );
            verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
        }
    }
}

/// Whether every rule can be applied.
fn rules(world: &World, verdict: &mut Verdict, object: &Object) {
    if !has_rules(object) {
        let message = "no rule of it can be used, so it takes no traffic".to_owned();
        return verdict.refuse(reason::UNSUPPORTED_VALUE, message);
    }
    repeated_rule_names(verdict, object);
    let route = object.reference();
    for (rule, site) in rules_of(object).iter().zip(rule_sites(object)) {
        if let Some(why) = missing_route_policy(world, &site) {
            let message = format!("spec.rules[{}].filters: {why}; the rule answers 500", rule.index);
            verdict.unresolve(reason::INVALID_FILTER, message);
        }
    }
    for (position, rule) in rules_of(object).iter().enumerate() {
        let field = format!("spec.rules[{}]", rule.index);
        if let Err(why) = Applied::of(world, &route, rule.filters) {
            verdict.invalidate(
                reason::UNSUPPORTED_VALUE,
                format!("{field}.filters: {why}; the rule answers 500"),
            );
        }
        for (index, backend) in rule.backends.iter().enumerate() {
            if let Err(why) = Applied::of_backend(world, &route, &backend.filters) {
                let message = format!("{field}.backendRefs[{index}].filters: {why}; its share answers 500");
                verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
            }
        }
        if position > 0 && matches!(object.kind(), Kind::TcpRoute | Kind::TlsRoute) {
            let message = format!("{field}: only the first rule of a {} counts", object.kind());
            verdict.invalidate(reason::UNSUPPORTED_VALUE, message);
        }
    }
}
