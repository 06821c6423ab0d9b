//! Rate limits, as RoutePolicy and InboundPolicy share them.

use std::sync::Arc;

use outrigger_model::filter::{Descriptor, GlobalRateLimit, LimitKey, RateLimit};
use outrigger_model::name::{Destination, Host};
use outrigger_model::route::Route;
use outrigger_resources::route_policy::{self as resources, LocalRateLimit, OnFailure, RoutePolicy};
use outrigger_resources::{Kind, ObjectRef};

use crate::world::{asked_service, service_host};

/// The limit of this name. A route, which is no part of what requests say, is told apart by the name.
pub(super) fn rate(limit: &LocalRateLimit, name: Arc<str>) -> RateLimit {
    RateLimit {
        name,
        requests: limit.requests,
        per: limit.per,
        burst: limit.burst.unwrap_or(limit.requests),
        key: limit.key.iter().filter_map(key).collect(),
    }
}

/// The limit that each proxy keeps for a rule. All rules of a policy count together, unless its key says `route`.
pub(super) fn local(policy: &RoutePolicy, rule: Option<&str>, route: &Route) -> Option<RateLimit> {
    let limit = policy.spec.rate_limit.as_ref()?.local.as_ref()?;
    let name = match limit.key.contains(&resources::LimitKey::Route) {
        true => format!("{}#{}", name_of(policy), place(rule, route)),
        false => name_of(policy),
    };
    Some(rate(limit, name.into()))
}

/// The limit that a service keeps for a rule.
pub(super) fn global(policy: &RoutePolicy, rule: Option<&str>, route: &Route) -> Option<GlobalRateLimit> {
    let limit = policy.spec.rate_limit.as_ref()?.global.as_ref()?;
    let service = asked_service(policy)?;
    let host = Host::Name(service_host(&service.namespace, &service.name));
    let descriptors = limit.descriptors.iter().map(|entry| match entry {
        resources::Descriptor::Fixed { key, value } => {
            Some(Descriptor::Fixed { key: key.clone(), value: value.clone() })
        }
        resources::Descriptor::From { key: name, from } => Some(match key(from) {
            Some(value) => Descriptor::FromRequest { key: name.clone(), value },
            None => Descriptor::Fixed { key: name.clone(), value: place(rule, route).parse().ok()? },
        }),
    });
    Some(GlobalRateLimit {
        name: name_of(policy).into(),
        cluster: Destination { host, port: limit.service.port }.cluster_name().into(),
        domain: limit.domain.clone(),
        descriptor: descriptors.collect::<Option<_>>()?,
        timeout: limit.timeout,
        fail_closed: limit.on_failure == OnFailure::Deny,
    })
}

/// What of a key a request says itself.
fn key(key: &resources::LimitKey) -> Option<LimitKey> {
    match key {
        resources::LimitKey::SourceIdentity => Some(LimitKey::SourceIdentity),
        resources::LimitKey::SourceAddress => Some(LimitKey::SourceAddress),
        resources::LimitKey::Header(name) => Some(LimitKey::Header(name.clone())),
        resources::LimitKey::Method => Some(LimitKey::Method),
        resources::LimitKey::Path => Some(LimitKey::Path),
        resources::LimitKey::Route => None,
    }
}

/// `HTTPRoute/shop/reviews`, and the name of its rule where it has one.
fn place(rule: Option<&str>, route: &Route) -> String {
    match rule {
        Some(rule) => format!("{}/{rule}", route.object),
        None => route.object.to_string(),
    }
}

fn name_of(policy: &RoutePolicy) -> String {
    let (kind, meta) = (Kind::RoutePolicy, &policy.meta);
    ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() }.to_string()
}
