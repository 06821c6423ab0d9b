//! Chains of certificates that were found good before, so that a peer that comes again costs neither the signatures of its
//! chain nor the reading of its certificate.
//!
//! A verdict belongs to one verifier: its side and the roots of its trust domains never change. It is found by every byte of
//! the chain and holds only while all certificates of the chain are valid; whatever else is asked goes the whole way. That
//! a peer has the key of its certificate is proved in every full handshake and is no matter of this module.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use outrigger_model::identity::SpiffeId;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::identity::certificate_facts;

/// How many chains a verifier remembers. When there are more it forgets all and starts again.
pub const KNOWN_CHAINS: usize = 256;

/// Good chains, by their leaf.
#[derive(Debug, Default)]
pub(super) struct Known(RwLock<HashMap<Box<[u8]>, Verdict>>);

#[derive(Debug)]
struct Verdict {
    intermediates: Box<[CertificateDer<'static>]>,
    identity: SpiffeId,
    /// When all certificates of the chain are valid, first and last second.
    valid: (UnixTime, UnixTime),
}

impl Known {
    /// Whether this very chain was found good, and would be found good now.
    pub(super) fn holds(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let known = self.read();
        known
            .get(leaf.as_ref())
            .is_some_and(|verdict| verdict.is_valid(now) && *verdict.intermediates == *intermediates)
    }

    /// Whom the leaf of a good chain names.
    pub(super) fn identity(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Option<SpiffeId> {
        let known = self.read();
        let verdict = known.get(leaf.as_ref()).filter(|verdict| verdict.is_valid(now))?;
        Some(verdict.identity.clone())
    }

    /// Remembers a chain that was found good, unless a part of it does not say when it is valid.
    pub(super) fn remember(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        identity: SpiffeId,
    ) {
        let Some(valid) = validity(leaf, intermediates) else { return };
        let intermediates = intermediates.iter().map(|der| der.clone().into_owned()).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_CHAINS {
            known.clear();
        }
        known.insert(leaf.as_ref().into(), Verdict { intermediates, identity, valid });
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<[u8]>, Verdict>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    fn is_valid(&self, now: UnixTime) -> bool {
        let (first, last) = self.valid;
        first <= now && now <= last
    }
}

fn validity(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<(UnixTime, UnixTime)> {
    let facts = certificate_facts(leaf).ok()?;
    intermediates.iter().try_fold((facts.not_before, facts.not_after), |(first, last), certificate| {
        let facts = certificate_facts(certificate).ok()?;
        Some((first.max(facts.not_before), last.min(facts.not_after)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// The first and the last second of 2026-01-01 to 2026-01-02.
    const FIRST: u64 = 1_767_225_600;
    const LAST: u64 = 1_767_312_000;

    fn certificate(name: &str, last_day: u8) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, last_day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn web() -> SpiffeId {
        SpiffeId::new("cluster.local", "shop", "web").unwrap()
    }

    #[test]
    fn a_chain_is_known_whole_and_while_all_of_it_is_valid() {
        let (leaf, other) = (certificate("a", 9), certificate("c", 9));
        let between = [certificate("b", 2)];
        let known = Known::default();
        assert!(!known.holds(&leaf, &between, at(FIRST)));
        known.remember(&leaf, &between, web());
        for (now, good) in [(FIRST - 1, false), (FIRST, true), (LAST, true), (LAST + 1, false)] {
            assert_eq!(known.holds(&leaf, &between, at(now)), good, "{now}");
            assert_eq!(known.identity(&leaf, at(now)), good.then(web), "{now}");
        }
        let others = [other];
        let longer = [between.clone(), others.clone()].concat();
        for chain in [&[][..], &others, &longer] {
            assert!(!known.holds(&leaf, chain, at(FIRST)), "{} intermediates", chain.len());
        }
        assert!(!known.holds(&others[0], &between, at(FIRST)));
        assert_eq!(known.identity(&others[0], at(FIRST)), None);
    }

    #[test]
    fn what_does_not_say_when_it_is_valid_is_not_remembered() {
        let known = Known::default();
        let leaf = certificate("a", 2);
        known.remember(&leaf, &[b"hello".to_vec().into()], web());
        assert_eq!(known.identity(&leaf, at(FIRST)), None);
    }

    #[test]
    fn no_more_than_the_bound_is_remembered() {
        let known = Known::default();
        let leaf = certificate("a", 2);
        known.remember(&leaf, &[], web());
        let verdict = || Verdict { intermediates: [].into(), identity: web(), valid: (at(FIRST), at(LAST)) };
        let fill = |known: &Known| {
            let mut table = known.0.write().unwrap();
            (1..KNOWN_CHAINS).for_each(|i| drop(table.insert(i.to_be_bytes().into(), verdict())));
        };
        fill(&known);
        assert_eq!(known.read().len(), KNOWN_CHAINS);
        let one_more = certificate("b", 2);
        known.remember(&one_more, &[], web());
        assert_eq!(known.read().len(), 1);
        assert!(known.holds(&one_more, &[], at(FIRST)));
    }
}
