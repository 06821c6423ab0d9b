//! RoutePolicies: which of them count for a rule, and what they make of it.
//!
//! Of several policies the most specific counts, section by section: one that a rule names by an `ExtensionRef` filter, one
//! that names the rule, one for its whole route, one that names the port of the Service, one for the whole Service; then the
//! oldest. What a policy writes replaces what the rule's own `retry` and `timeouts` say; the rest stays.

use outrigger_model::filter::{self as model, Share};
use outrigger_model::policy::{GrpcCodes, Hedge, RetryPolicy};
use outrigger_model::route::{Action, Route};
use outrigger_resources::object::OUTRIGGER_GROUP;
use outrigger_resources::route::{Filter, TargetRef};
use outrigger_resources::route_policy::{
    self as resources, Fault, Retry, RetryOn, RoutePolicy, RoutePolicySpec,
};
use outrigger_resources::{Kind, Object, ObjectRef};

use super::limit;
use super::session;
use super::target::PortOf;
use crate::world::{Held, Term, World, route_policy_target};

/// Without a bound of its own the longest wait before a retry is so many times the first.
const BACKOFF_GROWTH: u32 = 10;
/// Shares are written in millionths, the finest that Envoy knows.
const SHARE_DENOMINATOR: u32 = 1_000_000;

/// A rule, or a destination without routes: what policies are about.
#[derive(Debug, Clone)]
pub(crate) struct Site<'w> {
    /// The Service or ExternalService that was dialled, and the name of its port.
    pub(crate) port: Option<(ObjectRef, &'w str)>,
    /// The rule, if a route decides.
    pub(crate) rule: Option<RuleSite<'w>>,
}

/// A rule of a route.
#[derive(Debug, Clone)]
pub(crate) struct RuleSite<'w> {
    /// Its route.
    pub(crate) route: ObjectRef,
    /// Its name.
    pub(crate) name: Option<&'w str>,
    /// Its filters.
    pub(crate) filters: &'w [Filter],
}

/// How specific a policy is for a site; the least counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specific {
    Extension(usize),
    Rule,
    Route,
    Port,
    Service,
}

/// The sections of a policy, each of which stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Retry,
    Hedge,
    Fault,
    RateLimit,
    SessionAffinity,
}

impl Section {
    pub(crate) const ALL: [Self; 5] =
        [Self::Retry, Self::Hedge, Self::Fault, Self::RateLimit, Self::SessionAffinity];

    /// Where it is written.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Retry => "spec.retry",
            Self::Hedge => "spec.hedge",
            Self::Fault => "spec.fault",
            Self::RateLimit => "spec.rateLimit",
            Self::SessionAffinity => "spec.sessionAffinity",
        }
    }

    /// Whether a policy writes it.
    pub(crate) fn is_in(self, spec: &RoutePolicySpec) -> bool {
        match self {
            Self::Retry => spec.retry.is_some(),
            Self::Hedge => spec.hedge.is_some(),
            Self::Fault => spec.fault.is_some(),
            Self::RateLimit => spec.rate_limit.is_some(),
            Self::SessionAffinity => spec.session_affinity.is_some(),
        }
    }
}

impl<'w> Site<'w> {
    /// A port that no route decides about.
    pub(crate) fn of_port(port: PortOf<'w>) -> Self {
        Self { port: Some((port.reference(), &port.port.name)), rule: None }
    }

    /// The policies that are about it, the most specific first.
    pub(crate) fn policies(&self, world: &'w World) -> Vec<&'w RoutePolicy> {
        let mut ranked = Vec::new();
        if let Some(rule) = &self.rule {
            for (place, reference) in extensions(rule.filters, &rule.route).enumerate() {
                ranked.extend(world.get(&reference).map(|held| (Specific::Extension(place), held)));
            }
            ranked.extend(targeting(world, &rule.route, (rule.name, [Specific::Rule, Specific::Route])));
        }
        if let Some((service, port)) = &self.port {
            ranked.extend(targeting(world, service, (Some(*port), [Specific::Port, Specific::Service])));
        }
        ranked.sort_by(|a, b| (a.0, &a.1.age).cmp(&(b.0, &b.1.age)));
        ranked.into_iter().filter_map(|(_, held)| policy(held)).collect()
    }

    /// The policy whose section counts.
    pub(crate) fn in_force(&self, world: &'w World, section: Section) -> Option<&'w RoutePolicy> {
        self.policies(world).into_iter().find(|policy| section.is_in(&policy.spec))
    }
}

/// The rules of a route for requests; none of anything else.
pub(crate) fn rule_sites(object: &Object) -> Vec<RuleSite<'_>> {
    let route = object.reference();
    let site = |name, filters| RuleSite { route: route.clone(), name, filters };
    match object {
        Object::HttpRoute(http) => {
            http.spec.rules.iter().map(|rule| site(rule.name.as_deref(), &*rule.filters)).collect()
        }
        Object::GrpcRoute(grpc) => {
            grpc.spec.rules.iter().map(|rule| site(rule.name.as_deref(), &*rule.filters)).collect()
        }
        _ => Vec::new(),
    }
}

/// The policies that a rule names by filters.
pub(crate) fn extensions<'f>(
    filters: &'f [Filter],
    route: &'f ObjectRef,
) -> impl Iterator<Item = ObjectRef> + 'f {
    let names = filters.iter().filter_map(extension);
    names.map(|name| ObjectRef {
        kind: Kind::RoutePolicy,
        namespace: route.namespace.clone(),
        name: name.clone(),
    })
}

/// The name of the RoutePolicy that a filter means.
pub(crate) fn extension(filter: &Filter) -> Option<&std::sync::Arc<str>> {
    match filter {
        Filter::ExtensionRef { group, kind, name }
            if group == OUTRIGGER_GROUP && kind == Kind::RoutePolicy.name() =>
        {
            Some(name)
        }
        _ => None,
    }
}

/// Why a rule cannot be applied: it names a policy that is not there.
pub(crate) fn missing(world: &World, rule: &RuleSite<'_>) -> Option<String> {
    let mut named = extensions(rule.filters, &rule.route);
    let missing = named.find(|reference| world.get(reference).is_none())?;
    Some(format!("filter ExtensionRef names {missing}, which is not there"))
}

/// Policies with a target, each with how specific it is: the first of `specific` where it names the section.
fn targeting<'w>(
    world: &'w World,
    target: &ObjectRef,
    (section, specific): (Option<&str>, [Specific; 2]),
) -> Vec<(Specific, &'w std::sync::Arc<Held>)> {
    let found = world.find(&Term::RoutePolicyOf(target.clone()));
    let ranked = found.filter_map(|held| {
        let policy = policy(held)?;
        let means =
            |to: &&TargetRef| route_policy_target(to, &policy.meta.namespace).as_ref() == Some(target);
        let refs = || policy.spec.target_refs.iter().filter(means).map(|to| to.section_name.as_deref());
        let names_it = section.is_some() && refs().any(|name| name == section);
        match names_it {
            true => Some((specific[0], held)),
            false => refs().any(|name| name.is_none()).then_some((specific[1], held)),
        }
    });
    ranked.collect()
}

fn policy(held: &Held) -> Option<&RoutePolicy> {
    match &held.object {
        Object::RoutePolicy(policy) => Some(policy),
        _ => None,
    }
}

/// What the policies of a site make of a route.
pub(super) fn apply(world: &World, site: &Site<'_>, mut route: Route) -> Route {
    if let Some(why) = site.rule.as_ref().and_then(|rule| missing(world, rule)) {
        route.action = Action::NoBackend { why: why.into() };
        return route;
    }
    let policies = site.policies(world);
    if policies.is_empty() {
        return route;
    }
    if let Action::Forward(forward) = &mut route.action {
        if let Some(retry) = policies.iter().find_map(|policy| policy.spec.retry.as_ref()) {
            forward.retry = Some(retried(retry, forward.retry.take()));
        }
        forward.hedge = policies.iter().find_map(|policy| policy.spec.hedge).map(hedge);
        if let Some(affinity) = policies.iter().find_map(|policy| policy.spec.session_affinity.as_ref()) {
            forward.session = Some(session::of_policy(affinity));
        }
    }
    if let Some(fault) = policies.iter().find_map(|policy| policy.spec.fault.as_ref()) {
        route.filters.get_or_insert_default().fault = Some(failing(fault));
    }
    if let Some(policy) = policies.iter().find(|policy| Section::RateLimit.is_in(&policy.spec)) {
        let rule = site.rule.as_ref().and_then(|rule| rule.name);
        let (local, global) = (limit::local(policy, rule, &route), limit::global(policy, rule, &route));
        let filters = route.filters.get_or_insert_default();
        (filters.local_rate_limit, filters.global_rate_limit) = (local, global);
    }
    route
}

/// What a policy writes over what the rule says.
fn retried(retry: &Retry, rule: Option<RetryPolicy>) -> RetryPolicy {
    // A rule without `retry` of its own may have a timeout for each try; what says nothing retries what brings no answer.
    let silent = || RetryPolicy { on_reset: true, ..RetryPolicy::default() };
    let mut policy = match rule {
        Some(rule) if rule.on_reset => rule,
        Some(rule) => RetryPolicy { per_try_timeout: rule.per_try_timeout, ..silent() },
        None => silent(),
    };
    if let Some(on) = &retry.on {
        policy = RetryPolicy {
            statuses: Vec::new(),
            throttled: false,
            grpc: GrpcCodes::default(),
            on_reset: false,
            ..policy
        };
        for condition in on {
            add(&mut policy, *condition);
        }
    }
    policy.attempts = retry.attempts.unwrap_or(policy.attempts);
    policy.per_try_timeout = retry.per_try_timeout.or(policy.per_try_timeout);
    if let Some(base) = retry.backoff.base {
        policy.backoff_base = base;
        policy.backoff_max = base.saturating_mul(BACKOFF_GROWTH);
    }
    policy.backoff_max = retry.backoff.max.unwrap_or(policy.backoff_max);
    policy.backoff_base = policy.backoff_base.min(policy.backoff_max);
    policy
}

fn add(policy: &mut RetryPolicy, condition: RetryOn) {
    policy.statuses.extend(condition.statuses());
    match condition {
        RetryOn::ServerError | RetryOn::Reset => policy.on_reset = true,
        // Always safe, and tried again unasked.
        RetryOn::ConnectFailure | RetryOn::RefusedStream => {}
        RetryOn::Retriable4xx => policy.throttled = true,
        RetryOn::Grpc(code) => policy.grpc = policy.grpc.with(code),
        RetryOn::GatewayError | RetryOn::Status(_) => {}
    }
}

fn hedge(hedge: resources::Hedge) -> Hedge {
    Hedge { delay_percentile: hedge.delay_percentile, max_extra_percent: hedge.max_extra_percent }
}

fn failing(fault: &Fault) -> model::Fault {
    model::Fault {
        delay: fault.delay.map(|delay| (share(delay.percent), delay.fixed)),
        abort: fault.abort.map(|abort| (share(abort.percent), abort.status)),
    }
}

/// A percentage, which reading has held to 0 to 100.
fn share(percent: f64) -> Share {
    let numerator = (percent / 100.0 * f64::from(SHARE_DENOMINATOR)).round() as u32;
    Share { numerator, denominator: SHARE_DENOMINATOR }
}
