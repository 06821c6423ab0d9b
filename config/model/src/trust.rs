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
    /// Of one trust domain alone.
    pub fn alone(trust_domain: &str, roots: impl IntoIterator<Item = Arc<[u8]>>) -> Self {
        let bundle = TrustBundle { trust_domain: trust_domain.into(), roots: roots.into_iter().collect() };
        Self { bundles: vec![bundle], signer: None }
    }

    /// This one, and beside it whatever `other` has more: roots of the same trust domains, and other trust domains.
    #[must_use]
    pub fn united(mut self, other: &Self) -> Self {
        for theirs in &other.bundles {
            match self.bundles.iter_mut().find(|ours| ours.trust_domain == theirs.trust_domain) {
                None => self.bundles.push(theirs.clone()),
                Some(ours) => {
                    let more = theirs.roots.iter().filter(|root| !ours.roots.contains(root));
                    let more: Vec<_> = more.cloned().collect();
                    ours.roots.extend(more);
                }
            }
        }
        self.signer = self.signer.or(other.signer);
        self
    }

    /// The bundle of a trust domain.
    pub fn of(&self, trust_domain: &str) -> Option<&TrustBundle> {
        self.bundles.iter().find(|bundle| *bundle.trust_domain == *trust_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(byte: u8) -> Arc<[u8]> {
        [byte].into()
    }

    #[test]
    fn united_trust_has_every_root_once_under_its_own_domain() {
        let ours = Trust { signer: Some([7; 32]), ..Trust::alone("a.example", [root(1), root(2)]) };
        let theirs =
            Trust::alone("b.example", [root(1)]).united(&Trust::alone("a.example", [root(2), root(3)]));
        let both = ours.united(&theirs);
        let domains: Vec<_> = both.bundles.iter().map(|bundle| &*bundle.trust_domain).collect();
        assert_eq!(domains, ["a.example", "b.example"]);
        assert_eq!(both.of("a.example").unwrap().roots, [root(1), root(2), root(3)]);
        assert_eq!(both.of("b.example").unwrap().roots, [root(1)]);
        assert_eq!((both.of("c.example"), both.signer), (None, Some([7; 32])));
    }
}
