//! Whose certificates are believed: all of it is ours.

use super::fault::{Decoded, Fault, at_most};
use super::wire::ours;
use super::{MAX_TRUST_DOMAINS, MAX_TRUST_ROOTS};
use crate::identity::check_trust_domain;
use crate::trust::{Trust, TrustBundle};

pub(super) fn encode(trust: &Trust) -> ours::Trust {
    let bundle = |bundle: &TrustBundle| ours::TrustBundle {
        trust_domain: bundle.trust_domain.as_ref().into(),
        roots: bundle.roots.iter().map(|root| root.to_vec()).collect(),
    };
    ours::Trust {
        bundles: trust.bundles.iter().map(bundle).collect(),
        signer: trust.signer.map(|signer| signer.to_vec()),
    }
}

pub(super) fn decode(wire: &ours::Trust) -> Decoded<Trust> {
    at_most("bundles", wire.bundles.len(), MAX_TRUST_DOMAINS)?;
    let mut trust = Trust::default();
    for (at, bundle) in wire.bundles.iter().enumerate() {
        let bundle = decode_bundle(bundle).map_err(|fault| fault.within(format!("bundles[{at}]")))?;
        if trust.of(&bundle.trust_domain).is_some() {
            return Err(Fault::new(format!("bundles[{at}]"), "is the second one of its trust domain"));
        }
        trust.bundles.push(bundle);
    }
    let signer = wire.signer.as_deref().map(<[u8; 32]>::try_from).transpose();
    trust.signer = signer.map_err(|_| Fault::new("signer", "is not a SHA-256 of 32 bytes"))?;
    Ok(trust)
}

fn decode_bundle(wire: &ours::TrustBundle) -> Decoded<TrustBundle> {
    check_trust_domain(&wire.trust_domain).map_err(|error| Fault::new("trust_domain", error))?;
    at_most("roots", wire.roots.len(), MAX_TRUST_ROOTS)?;
    if wire.roots.is_empty() {
        return Err(Fault::new("roots", "is empty: nobody of that trust domain could be believed"));
    }
    let roots = wire.roots.iter().map(|root| root.as_slice().into()).collect();
    Ok(TrustBundle { trust_domain: wire.trust_domain.as_str().into(), roots })
}
