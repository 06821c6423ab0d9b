//! What became of RoutePolicies, for each of their targets.

use outrigger_resources::route::TargetRef;
use outrigger_resources::route_policy::RoutePolicy;
use outrigger_resources::{Kind, Object, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{PortOf, RuleSite, Section, Site, routes_on, rule_sites};
use crate::world::{Held, Term, World, asked_service, parent_service, route_parents, route_policy_target};

/// One status for each target of a policy; one for the policy itself when only rules name it.
pub(super) fn statuses(world: &World, held: &Held, policy: &RoutePolicy) -> Vec<ObjectStatus> {
    if policy.spec.target_refs.is_empty() {
        return vec![untargeted(world, held, policy)];
    }
    policy.spec.target_refs.iter().map(|target| status(world, held, policy, target)).collect()
}

fn untargeted(world: &World, held: &Held, policy: &RoutePolicy) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    if world.find(&Term::RouteNaming(held.object.reference())).next().is_none() {
        let message = "targetRefs is empty, and no rule names it by an ExtensionRef filter";
        verdict.refuse(reason::TARGET_NOT_FOUND, message.to_owned());
    }
    look_for_service(world, &mut verdict, policy);
    verdict.done()
}

fn status(world: &World, held: &Held, policy: &RoutePolicy, target: &TargetRef) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    let Some(reference) = route_policy_target(target, &policy.meta.namespace) else {
        let kind = [target.group.as_str(), target.kind.as_str()].join("/");
        let message = format!(
            "targetRefs: {kind} cannot be a target; use an HTTPRoute or GRPCRoute (group gateway.networking.k8s.io) or a Service"
        );
        verdict.refuse(reason::TARGET_NOT_FOUND, message);
        return verdict.done();
    };
    match world.get(&reference) {
        None => verdict.refuse(reason::TARGET_NOT_FOUND, format!("{reference} is not there")),
        Some(found) => {
            let sites = sites(world, found, target.section_name.as_deref());
            match sites.is_empty() {
                true => verdict.refuse(reason::TARGET_NOT_FOUND, without_section(&reference, target)),
                false => compare(world, &mut verdict, policy, &sites),
            }
        }
    }
    look_for_service(world, &mut verdict, policy);
    verdict.with_parent(reference).done()
}

fn without_section(reference: &ObjectRef, target: &TargetRef) -> String {
    let is_route = matches!(reference.kind, Kind::HttpRoute | Kind::GrpcRoute);
    match (&target.section_name, is_route) {
        (Some(name), true) => format!("{reference} has no rule with the name {name:?}"),
        (Some(name), false) => format!("{reference} has no port with the name {name:?}"),
        (None, true) => format!("{reference} has no rule"),
        (None, false) => format!("{reference} has no port"),
    }
}

/// A rate limit service that is not there is asked in vain; what becomes of requests then is the policy's own word.
fn look_for_service(world: &World, verdict: &mut Verdict, policy: &RoutePolicy) {
    let Some(reference) = asked_service(policy) else { return };
    let port = policy
        .spec
        .rate_limit
        .as_ref()
        .and_then(|limit| limit.global.as_ref())
        .map(|limit| limit.service.port);
    let service = world.service(&reference.namespace, &reference.name);
    let has =
        |number: u16| service.is_some_and(|service| PortOf::all(service).any(|it| it.port.port == number));
    if let Some(number) = port.filter(|number| !has(*number)) {
        let message = format!("spec.rateLimit.global.service: {reference} with port {number} is not there");
        verdict.unresolve(reason::TARGET_NOT_FOUND, message);
    }
}

/// Says which sections come from another policy.
fn compare(world: &World, verdict: &mut Verdict, policy: &RoutePolicy, sites: &[Site<'_>]) {
    let written: Vec<_> = Section::ALL.into_iter().filter(|section| section.is_in(&policy.spec)).collect();
    let (mut lost, mut all) = (Vec::new(), 0);
    for section in written {
        let in_force = sites.iter().filter_map(|site| site.in_force(world, section));
        all += sites.len();
        let others = in_force.filter(|other| other.meta != policy.meta);
        lost.extend(others.map(|other| (section, &other.meta)));
    }
    let Some((section, other)) = lost.first() else { return };
    let other = format!("RoutePolicy/{}/{}", other.namespace, other.name);
    let field = section.field();
    match lost.len() == all {
        true => verdict.refuse(
            reason::CONFLICTED,
            format!("{other} is more specific or older, and counts instead ({field})"),
        ),
        false => verdict.invalidate(
            reason::CONFLICTED,
            format!("{field}: on some rules {other} is more specific or older, and counts instead"),
        ),
    }
}

/// The rules and ports that a target stands for.
fn sites<'w>(world: &'w World, found: &'w Held, section: Option<&str>) -> Vec<Site<'w>> {
    let named = |name: Option<&str>| section.is_none() || section == name;
    match &found.object {
        Object::Service(service) => {
            let ports = PortOf::all(service).filter(|port| named(Some(&port.port.name)));
            ports.flat_map(|port| sites_of_port(world, port)).collect()
        }
        Object::ExternalService(external) => {
            let ports = external.spec.ports.iter().filter(|port| named(Some(&port.name)));
            let site = |name| Site { port: Some((found.object.reference(), name)), rule: None };
            ports.map(|port| site(port.name.as_str())).collect()
        }
        route => {
            let rules = rule_sites(route).into_iter().filter(|rule| named(rule.name));
            rules.flat_map(|rule| sites_of_rule(world, route, &rule)).collect()
        }
    }
}

/// A port, or the rules of all routes that decide about it for some client.
fn sites_of_port<'w>(world: &'w World, port: PortOf<'w>) -> Vec<Site<'w>> {
    let rules: Vec<RuleSite<'w>> =
        routes_on(world, port).into_iter().flat_map(|held| rule_sites(&held.object)).collect();
    match rules.is_empty() {
        true => vec![Site::of_port(port)],
        false => rules.into_iter().map(|rule| Site { rule: Some(rule), ..Site::of_port(port) }).collect(),
    }
}

/// A rule at each Service that it is attached to. Which port it is matters to policies of Services only, which come last.
fn sites_of_rule<'w>(world: &'w World, route: &'w Object, rule: &RuleSite<'w>) -> Vec<Site<'w>> {
    let namespace = &route.meta().namespace;
    let parents = route_parents(route).iter().filter_map(|parent| parent_service(parent, namespace));
    let services = parents.filter_map(|parent| world.service(&parent.namespace, &parent.name));
    let mut sites: Vec<_> = services
        .flat_map(PortOf::all)
        .map(|port| Site { rule: Some(rule.clone()), ..Site::of_port(port) })
        .collect();
    if sites.is_empty() {
        sites.push(Site { port: None, rule: Some(rule.clone()) });
    }
    sites
}
