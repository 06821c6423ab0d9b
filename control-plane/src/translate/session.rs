//! Sessions: what a rule or the policy of a Service says in the words of Gateway API (GEP-1619), or a RoutePolicy in its own.
//! Of these the RoutePolicy counts before the rule, and the rule before the policy of the Service that was dialled.

use std::sync::Arc;

use outrigger_model::route::{Action, Route};
use outrigger_model::session::{SessionAffinity, SessionCarrier};
use outrigger_resources::route::{CookieLifetime, SessionPersistence, SessionType};
use outrigger_resources::route_policy;
use outrigger_resources::{Kind, ObjectRef};

use super::policy::standard;
use super::target::PortOf;
use crate::world::World;

/// What names of sessions start with that nobody has chosen.
const NAME_PREFIX: &str = "outrigger-session";

/// Puts what a rule says onto its route.
pub(super) fn keep(
    mut route: Route,
    persistence: Option<&SessionPersistence>,
    (object, rule): (&ObjectRef, usize),
) -> Route {
    if let Action::Forward(forward) = &mut route.action {
        forward.session = persistence.map(|persistence| of_rule(persistence, object, rule));
    }
    route
}

fn of_rule(persistence: &SessionPersistence, object: &ObjectRef, rule: usize) -> SessionAffinity {
    // Rules of one host share its cookies, so that each needs a name of its own.
    let chosen = || format!("{NAME_PREFIX}-{}-{}-{rule}", object.namespace, object.name);
    let name = persistence.session_name.clone().unwrap_or_else(chosen);
    let permanent = persistence.cookie_lifetime == CookieLifetime::Permanent;
    let cookie = |name: String| SessionCarrier::Cookie {
        name: name.into(),
        max_age: persistence.absolute_timeout.filter(|_| permanent),
    };
    let carrier = match persistence.type_ {
        SessionType::Cookie => cookie(name),
        // Reading has refused names that cannot be those of a header.
        SessionType::Header => name.parse().map_or_else(|_| cookie(name), SessionCarrier::Header),
    };
    SessionAffinity {
        carrier,
        absolute_timeout: persistence.absolute_timeout,
        idle_timeout: persistence.idle_timeout,
    }
}

/// Puts what the standard's policy of a Service says onto the routes there that say nothing of sessions themselves.
pub(super) fn keep_at(world: &World, port: PortOf<'_>, routes: &mut [Route]) {
    let Some(policy) = standard(world, &port.reference(), &port.port.name) else { return };
    let Some(persistence) = &policy.spec.session_persistence else { return };
    let meta = &policy.meta;
    let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
    let object = ObjectRef { kind: Kind::XBackendTrafficPolicy, namespace, name };
    for route in routes {
        if let Action::Forward(forward) = &mut route.action {
            forward.session.get_or_insert_with(|| of_rule(persistence, &object, 0));
        }
    }
}

/// What a RoutePolicy says.
pub(super) fn of_policy(affinity: &route_policy::SessionAffinity) -> SessionAffinity {
    let carrier = match affinity {
        route_policy::SessionAffinity::Cookie { name, ttl } => {
            SessionCarrier::Cookie { name: Arc::from(name.as_str()), max_age: *ttl }
        }
        route_policy::SessionAffinity::Header(name) => SessionCarrier::Header(name.clone()),
    };
    SessionAffinity { carrier, absolute_timeout: None, idle_timeout: None }
}
