//! What the control plane knows beside the objects that users wrote: its own roots, and what it fetched for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::jwt::KeySet;

/// Everything known beside the objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The roots of the mesh's own trust domain.
    pub roots: Option<Roots>,
    /// Keys of issuers of tokens, by the URL they come from. One that is not here was never fetched.
    pub keys: BTreeMap<Arc<str>, KeySet>,
    /// Why keys cannot be fetched from these URLs at the moment, as a clause.
    pub key_faults: BTreeMap<Arc<str>, Arc<str>>,
}

/// The roots of the mesh's own trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Certificates in DER, at least one.
    pub certificates: Vec<Arc<[u8]>>,
    /// SHA-256 of the one under which certificates are signed now.
    pub signer: [u8; 32],
}

/// Something learned.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The roots are these from now on.
    Roots(Roots),
    /// The keys at a URL are these from now on; `None` when nobody asks for them any more.
    Keys(Arc<str>, Option<KeySet>),
    /// Why keys cannot be fetched from a URL at the moment; `None` when they can, or nobody asks for them.
    KeysFault(Arc<str>, Option<Arc<str>>),
}

impl Facts {
    /// Takes in a fact; whether it is news.
    pub(super) fn learn(&mut self, fact: Fact) -> bool {
        match fact {
            Fact::Roots(roots) => self.roots.replace(roots.clone()) != Some(roots),
            Fact::Keys(url, Some(keys)) => self.keys.insert(url, keys.clone()) != Some(keys),
            Fact::Keys(url, None) => self.keys.remove(&url).is_some(),
            Fact::KeysFault(url, Some(why)) => self.key_faults.insert(url, why.clone()) != Some(why),
            Fact::KeysFault(url, None) => self.key_faults.remove(&url).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_news() {
        let mut facts = Facts::default();
        let roots = Roots { certificates: vec![Arc::from([1u8].as_slice())], signer: [7; 32] };
        let keys = KeySet { json: "{}".into(), usable_until: Some(1) };
        let url: Arc<str> = "https://issuer.example/keys".into();
        assert!(facts.learn(Fact::Roots(roots.clone())) && !facts.learn(Fact::Roots(roots)));
        assert!(facts.learn(Fact::Keys(url.clone(), Some(keys.clone()))));
        assert!(!facts.learn(Fact::Keys(url.clone(), Some(keys))));
        assert!(facts.learn(Fact::Keys(url.clone(), None)) && !facts.learn(Fact::Keys(url.clone(), None)));
        let fault = |why: &str| Fact::KeysFault(url.clone(), Some(why.into()));
        assert!(facts.learn(fault("away")) && !facts.learn(fault("away")) && facts.learn(fault("late")));
        let none = || Fact::KeysFault(url.clone(), None);
        assert!(facts.learn(none()) && !facts.learn(none()));
    }
}
