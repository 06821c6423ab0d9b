//! The tokens that requests carry: whether they are true, and what a true one says about its bearer.
//!
//! Bearer tokens (RFC 6750) that are JWTs (RFC 7519) signed with a key of their issuer, checked as RFC 8725 advises. What is
//! decided depends on the token, the rule and the time alone; [`Remembered`] keeps tokens that were found true, for a
//! worker. Nothing here knows where keys come from, and nothing ever repeats a token.

use std::sync::Arc;

use outrigger_base::jwks::{Algorithm, PublicKeys};
use outrigger_base::telemetry::metrics::Registry;
use outrigger_model::jwt::{JwtRule, KeySet};
use serde_json::{Map, Value};
use tracing::warn;

mod bearer;
mod claims;
mod refused;
mod remembered;
mod written;

pub use bearer::bearer;
pub use claims::Claims;
pub use refused::{METRICS, Refused};
pub use remembered::Remembered;

use refused::Refusals;
use written::Written;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far the clocks of issuers and of this host may be apart, in seconds: times in tokens are taken so much wider.
pub const LEEWAY_SECONDS: u64 = 60;

/// A rule about tokens, with the keys at hand.
#[derive(Debug)]
pub struct Verifier {
    rule: JwtRule,
    keys: Option<PublicKeys>,
    refusals: Refusals,
}

/// A token that was found true.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub claims: Arc<Claims>,
    /// From this moment on it is over, in seconds since 1970; the leeway is in it.
    pub until: u64,
}

impl Verifier {
    /// Reads the keys of a rule. Those that cannot verify tokens are left out and logged, once.
    pub fn new(rule: &JwtRule, registry: &Registry) -> Self {
        let keys = rule.keys.as_ref().and_then(|keys| read(&rule.name, keys));
        Self { rule: rule.clone(), keys, refusals: Refusals::new(registry) }
    }

    /// The rule it was made of.
    pub fn rule(&self) -> &JwtRule {
        &self.rule
    }

    /// Whether a token is true at this moment, in seconds since 1970.
    ///
    /// # Errors
    /// It is not, or cannot be told to be.
    pub fn verify(&self, token: &[u8], now_unix: u64) -> Result<Verified, Refused> {
        let keys = self.keys_at(now_unix)?;
        let written = Written::read(token)?;
        let algorithm = Algorithm::from_name(&written.header.alg).ok_or(Refused::Algorithm)?;
        let key = keys.find(written.header.kid.as_deref(), algorithm).ok_or(Refused::UnknownKey)?;
        if !key.verifies(algorithm, written.signed, &written.signature) {
            return Err(Refused::Signature);
        }
        let claims = written.claims()?;
        let until = self.judge(&claims, now_unix)?;
        Ok(Verified { claims: Arc::new(Claims::new(claims)), until })
    }

    /// The keys, while they may be believed.
    fn keys_at(&self, now_unix: u64) -> Result<&PublicKeys, Refused> {
        let until = self.rule.keys.as_ref().and_then(|keys| keys.usable_until);
        match &self.keys {
            Some(keys) if until.is_none_or(|until| now_unix < until) => Ok(keys),
            _ => Err(Refused::NoKeys),
        }
    }

    /// Whether the claims of a token that its issuer signed are those asked for; until when they hold.
    fn judge(&self, claims: &Map<String, Value>, now_unix: u64) -> Result<u64, Refused> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.rule.issuer) {
            return Err(Refused::Issuer);
        }
        if !self.rule.audiences.is_empty() && !self.is_for_us(claims.get("aud")) {
            return Err(Refused::Audience);
        }
        let expires = seconds(claims, "exp")?.ok_or(Refused::Malformed)?.saturating_add(LEEWAY_SECONDS);
        if now_unix >= expires {
            return Err(Refused::Expired);
        }
        for name in ["nbf", "iat"] {
            if seconds(claims, name)?.is_some_and(|from| now_unix.saturating_add(LEEWAY_SECONDS) < from) {
                return Err(Refused::NotYetValid);
            }
        }
        Ok(expires)
    }

    /// One audience, or a list of them (RFC 7519, section 4.1.3).
    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|text| self.rule.audiences.iter().any(|ours| **ours == *text))
        };
        match audience {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }
}

/// A time in seconds since 1970, which may have a fraction (RFC 7519, section 2); what is not a number is no time.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match (value.as_u64(), value.as_f64()) {
            (Some(whole), _) => Ok(Some(whole)),
            // The cast ends at 0 and at the largest number.
            (None, Some(number)) => Ok(Some(number as u64)),
            (None, None) => Err(Refused::Malformed),
        },
    }
}

fn read(policy: &str, set: &KeySet) -> Option<PublicKeys> {
    match PublicKeys::read(set.json.as_bytes()) {
        Ok(keys) => {
            for left_out in keys.left_out() {
                warn!(object = policy, %left_out, "a key of the issuer of tokens is left out");
            }
            Some(keys)
        }
        Err(error) => {
            warn!(object = policy, %error, "the keys of the issuer of tokens cannot be read: no token will be good");
            None
        }
    }
}

#[cfg(test)]
mod tests;
