//! What tokens requests must carry, and the keys with which such tokens are signed.

use std::sync::Arc;

/// The tokens (RFC 7519) that requests to a workload must carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRule {
    /// Where it was written: `InboundPolicy/shop/reviews`.
    pub name: Arc<str>,
    /// Who makes them (`iss`).
    pub issuer: Arc<str>,
    /// For whom they may be (`aud`), one of these; empty is anybody.
    pub audiences: Vec<Arc<str>>,
    /// The keys that sign them. `None` while they are not known: no token is good then.
    pub keys: Option<KeySet>,
}

/// Public keys as a JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// The JSON text.
    pub json: Arc<str>,
    /// After this moment, in seconds since 1970, the set is too old to be believed; `None` for one that was written down.
    pub usable_until: Option<u64>,
}
