//! Whose certificates are believed: the roots of each trust domain.

use std::sync::Arc;

/// What a mesh trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Each trust domain at most once, the own one first.
    pub bundles: Vec<TrustBundle>,
    /// SHA-256 of the root (DER) under which certificates are signed now. A workload whose certificate stands under another
    /// one asks for a new one soon, so that the other root can go.
    pub signer: Option<[u8; 32]>,
}

/// The roots of one trust domain (SPIFFE Trust Domain and Bundle, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose identities they may sign, and nobody else's.
    pub trust_domain: Arc<str>,
    /// Certificates in DER, at least one.
    pub roots: Vec<Arc<[u8]>>,
}

impl Trust {
    /// The bundle of a trust domain.
    pub fn of(&self, trust_domain: &str) -> Option<&TrustBundle> {
        self.bundles.iter().find(|bundle| *bundle.trust_domain == *trust_domain)
    }
}
