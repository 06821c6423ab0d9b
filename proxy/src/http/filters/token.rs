//! Who calls, as a token says it that a request must carry.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::WWW_AUTHENTICATE;
use http::request::Parts;

use crate::http::exchange::Exchange;
use crate::jwt::{Claims, Verifier};
use crate::reason::{Reason, Refusal};

/// What the token of a request says. Without a good one the request goes no further, whatever its method is: browsers ask
/// for permission (preflights) without a token, and are refused like anybody else.
pub(crate) fn check_token(
    exchange: &mut Exchange,
    verifier: &Arc<Verifier>,
    parts: &Parts,
) -> Result<Arc<Claims>, Refusal> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let tokens = &exchange.connection.worker.tokens;
    tokens.check(verifier, &parts.headers, now.as_secs()).map_err(|refused| {
        exchange.answer_fields().set.push((WWW_AUTHENTICATE, refused.challenge()));
        Refusal::at(Reason::Unauthenticated, &verifier.rule().name)
    })
}
