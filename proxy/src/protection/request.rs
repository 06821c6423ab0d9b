//! One request: may its sender ask for it?

use std::sync::Arc;

use http::Method;
use http::request::Parts;

use super::{Known, Protection, caller_of};
use crate::authorization::Call;
use crate::http::Exchange;
use crate::jwt::Claims;
use crate::reason::{Reason, Refusal};

/// Refuses a request that its sender may not make, and records what policies want recorded. The head must be the one that
/// goes on: without fields that belong to this hop. The claims are those of its token, where it was asked for one.
pub(crate) fn authorize(
    exchange: &mut Exchange,
    protection: &Arc<Protection>,
    (parts, claims): (&Parts, Option<&Claims>),
) -> Result<(), Refusal> {
    let connection = exchange.connection.clone();
    let call = call_of(parts, claims);
    let mut known = connection.known.borrow_mut();
    let standing = match &mut *known {
        Some(known) if known.is_under(protection) => &known.standing,
        known => &known.insert(Box::new(Known::of(protection, &caller_of(&connection.downstream)))).standing,
    };
    protection.audit(standing.as_ref(), Some(&call), |policy| exchange.record.audited(policy));
    let decided = protection.decide(standing.as_ref(), Some(&call));
    decided.map_err(|policy| {
        let object = policy.unwrap_or_else(|| connection.worker.shared.as_object());
        Refusal { reason: Reason::Denied, object }
    })
}

/// What a request asks for. CONNECT has no path (RFC 9110, section 9.3.6).
fn call_of<'a>(parts: &'a Parts, claims: Option<&'a Claims>) -> Call<'a> {
    Call {
        method: parts.method.as_str(),
        path: (parts.method != Method::CONNECT).then(|| parts.uri.path()),
        authority: parts.uri.authority().map_or("", http::uri::Authority::as_str),
        headers: &parts.headers,
        claims,
    }
}
