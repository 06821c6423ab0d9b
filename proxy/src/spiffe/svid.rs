//! From a message of a Workload API to the one identity that is ours. Pure.

use outrigger_base::keys::{KeyError, MAX_CHAIN_CERTIFICATES, parse_concatenated_der};
use outrigger_base::spiffe::{X509svid, X509svidResponse};
use outrigger_base::tls::{MAX_ROOTS, check_trust};
use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::Trust;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::certificates::{Offer, OfferedTrust};

/// The most other trust domains that are believed.
const MAX_FEDERATED: usize = 64;
/// How many of the identities that are offered an error names.
const MAX_NAMED: usize = 10;

/// Why a message has no identity for us.
#[derive(Debug, thiserror::Error)]
pub(super) enum SvidError {
    #[error(
        "this workload is {own}, by the mesh's trust domain, --namespace and --service-account, and what is offered is {}",
        named(.offered)
    )]
    NotOffered { own: SpiffeId, offered: Vec<String> },
    #[error("the certificates of {own}: {source}")]
    Chain { own: SpiffeId, source: KeyError },
    #[error("the trust bundle of {own}: {source}")]
    Bundle { own: SpiffeId, source: KeyError },
}

/// The identity `own`, with everybody whom the message says to trust.
pub(super) fn choose(message: &X509svidResponse, own: &SpiffeId) -> Result<Offer, SvidError> {
    let svid = message.svids.iter().find(|svid| svid.spiffe_id == own.as_str());
    let svid = svid.ok_or_else(|| SvidError::NotOffered {
        own: own.clone(),
        offered: message.svids.iter().map(|svid| svid.spiffe_id.clone()).collect(),
    })?;
    let X509svid { x509_svid, x509_svid_key, bundle, .. } = svid;
    let chain = parse_concatenated_der(x509_svid, MAX_CHAIN_CERTIFICATES)
        .map_err(|source| SvidError::Chain { own: own.clone(), source })?;
    let bundle = parse_concatenated_der(bundle, MAX_ROOTS)
        .map_err(|source| SvidError::Bundle { own: own.clone(), source })?;
    let trust = trust(own.trust_domain(), &bundle).united(&federated(message, own));
    Ok(Offer {
        chain,
        key: PrivatePkcs8KeyDer::from(x509_svid_key.clone()).into(),
        trust: OfferedTrust::Vouched(trust),
    })
}

/// Other trust domains. One whose bundle cannot be used is not believed, which is no reason to refuse the others.
fn federated(message: &X509svidResponse, own: &SpiffeId) -> Trust {
    let mut all = Trust::default();
    let mut bundles: Vec<_> = message.federated_bundles.iter().collect();
    bundles.sort_unstable();
    for (id, der) in bundles {
        let name = id.strip_prefix("spiffe://").unwrap_or(id).trim_end_matches('/');
        // Who we are is in the bundle that came with our own identity.
        if name == own.trust_domain() {
            continue;
        }
        if all.bundles.len() == MAX_FEDERATED {
            tracing::warn!(
                "the Workload API names more than {MAX_FEDERATED} other trust domains: the rest is not believed"
            );
            break;
        }
        let read = parse_concatenated_der(der, MAX_ROOTS).map_err(|error| error.to_string());
        let read = read.map(|roots| trust(name, &roots));
        match read.and_then(|trust| check_trust(&trust).map(|()| trust).map_err(|error| error.to_string())) {
            Ok(trust) => all = all.united(&trust),
            Err(error) => tracing::warn!(
                trust_domain = name,
                error,
                "the federated bundle cannot be used: nobody of that trust domain is believed"
            ),
        }
    }
    all
}

fn trust(trust_domain: &str, roots: &[CertificateDer<'static>]) -> Trust {
    Trust::alone(trust_domain, roots.iter().map(|root| root.as_ref().into()))
}

fn named(offered: &[String]) -> String {
    let shown = offered.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match offered.len() {
        0 => "nothing".to_owned(),
        all if all > MAX_NAMED => format!("{shown} and {} more", all - MAX_NAMED),
        _ => shown,
    }
}
