//! Sessions: what a rule says in the words of Gateway API (GEP-1619), or a RoutePolicy in its own.

use std::sync::Arc;

use outrigger_model::route::{Action, Route};
use outrigger_model::session::{SessionAffinity, SessionCarrier};
use outrigger_resources::ObjectRef;
use outrigger_resources::route::{CookieLifetime, SessionPersistence, SessionType};
use outrigger_resources::route_policy;

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
