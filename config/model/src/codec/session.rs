//! Sessions of routes: the standard has a filter for them, whose cookies tell clients addresses; ours travel beside it.

use super::fault::{Decoded, Fault};
use super::wire::ours::session_affinity::{Carrier, Cookie};
use super::wire::{self, ours};
use crate::session::{SessionAffinity, SessionCarrier};

pub(super) fn encode(session: &SessionAffinity) -> ours::SessionAffinity {
    let carrier = match &session.carrier {
        SessionCarrier::Cookie { name, max_age } => {
            Carrier::Cookie(Cookie { name: name.as_ref().into(), max_age: max_age.map(wire::duration) })
        }
        SessionCarrier::Header(name) => Carrier::Header(name.as_str().to_owned()),
    };
    ours::SessionAffinity {
        carrier: Some(carrier),
        absolute_timeout: session.absolute_timeout.map(wire::duration),
        idle_timeout: session.idle_timeout.map(wire::duration),
    }
}

pub(super) fn decode(wire: &ours::SessionAffinity) -> Decoded<SessionAffinity> {
    let carrier = match &wire.carrier {
        Some(Carrier::Cookie(cookie)) => {
            wire::token("cookie.name", &cookie.name)?;
            let max_age = wire::optional_duration("cookie.max_age", cookie.max_age.as_ref())?;
            SessionCarrier::Cookie { name: cookie.name.as_str().into(), max_age }
        }
        Some(Carrier::Header(name)) => {
            let parsed = name.parse().map_err(|_| Fault::new("header", "is not a field name"));
            SessionCarrier::Header(parsed?)
        }
        None => return Err(Fault::new("carrier", "is missing")),
    };
    Ok(SessionAffinity {
        carrier,
        absolute_timeout: wire::optional_duration("absolute_timeout", wire.absolute_timeout.as_ref())?,
        idle_timeout: wire::optional_duration("idle_timeout", wire.idle_timeout.as_ref())?,
    })
}
