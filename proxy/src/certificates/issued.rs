//! A certificate in force: what it was made of, and what is shown of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_base::identity::{CertificateFacts, certificate_facts, date, peer_identity};
use outrigger_base::keys::KeyError;
use outrigger_base::tls::{Credentials, MeshTls, TlsError};
use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::TrustBundle;
use rustls::pki_types::CertificateDer;
use serde::Serialize;

/// A certificate that may be used.
#[derive(Debug)]
pub struct Issued {
    /// Both sides of it.
    pub tls: Arc<MeshTls>,
    /// Its serial number and time.
    pub facts: CertificateFacts,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateView>,
    /// SHA-256 of each root of our own trust domain, in hexadecimal.
    pub roots: Vec<String>,
    /// The same of other trust domains, by their names.
    pub federated: BTreeMap<String, Vec<String>>,
    /// Chain, key and trust, from which it can be made again: the key must not leave the process but for a place that is
    /// meant for it.
    pub credentials: Credentials,
}

/// One certificate of a chain. Never a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    /// The SPIFFE id of a leaf.
    pub identity: Option<String>,
    /// In hexadecimal.
    pub serial: String,
    /// The first second in which it is valid.
    pub not_before: String,
    /// The last second in which it is valid.
    pub not_after: String,
}

/// Why a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The chain cannot be read.
    #[error("{0}")]
    Chain(#[from] KeyError),
    /// Nobody says whom to trust.
    #[error(
        "it came without the root that signed it, and neither the configuration nor --trust-bundle says whom to trust"
    )]
    NoRoot,
    /// It is of no use for TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// It is somebody else's.
    #[error("it is for {found}, and this workload is {own}; does the token belong to it?")]
    OtherIdentity {
        /// Whose it is.
        found: SpiffeId,
        /// Whose it should be.
        own: SpiffeId,
    },
}

impl Issued {
    /// Builds both sides of the TLS of `own`, or says why these credentials are refused.
    pub(super) fn build(credentials: Credentials, own: &SpiffeId) -> Result<Self, Refused> {
        let tls = MeshTls::build(&credentials)?;
        if tls.identity() != own {
            return Err(Refused::OtherIdentity { found: tls.identity().clone(), own: own.clone() });
        }
        let fingerprints =
            |bundle: &TrustBundle| bundle.roots.iter().map(|root| hexadecimal(&sha256(root))).collect();
        let (ours, others) = credentials.trust.bundles.split_at(1);
        Ok(Self {
            facts: tls.facts().clone(),
            chain: credentials.chain.iter().filter_map(view).collect(),
            roots: ours.iter().flat_map(fingerprints).collect(),
            federated: others
                .iter()
                .map(|other| (other.trust_domain.to_string(), fingerprints(other)))
                .collect(),
            tls: Arc::new(tls),
            credentials,
        })
    }
}

/// SHA-256 of a certificate in DER, as people and configuration name it.
pub(super) fn sha256(der: &[u8]) -> Vec<u8> {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite.map(|suite| suite.common.hash_provider.hash(der).as_ref().to_vec()).unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn view(certificate: &CertificateDer<'static>) -> Option<CertificateView> {
    let facts = certificate_facts(certificate).ok()?;
    Some(CertificateView {
        identity: peer_identity(certificate).ok().map(|id| id.to_string()),
        serial: facts.serial,
        not_before: date(facts.not_before),
        not_after: date(facts.not_after),
    })
}
