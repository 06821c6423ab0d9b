//! A certificate that was just issued: whether it is taken, and what is shown of it.

use std::sync::Arc;

use outrigger_base::identity::{CertificateFacts, certificate_facts, date, peer_identity};
use outrigger_base::keys::{KeyError, WorkloadKey, parse_chain_pem};
use outrigger_base::tls::{Credentials, MeshTls, TlsError};
use outrigger_model::identity::SpiffeId;
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::Roots;

/// A certificate that may be used.
#[derive(Debug)]
pub struct Issued {
    /// Both sides of it.
    pub tls: Arc<MeshTls>,
    /// Its serial number and time.
    pub facts: CertificateFacts,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateView>,
    /// SHA-256 of each root, in hexadecimal.
    pub roots: Vec<String>,
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
pub(super) enum Refused {
    #[error("{0}")]
    Chain(#[from] KeyError),
    #[error("it came without the root that signed it, and no --trust-bundle says whom to trust")]
    NoRoot,
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("it is for {found}, and this workload is {own}; does the token belong to it?")]
    OtherIdentity { found: SpiffeId, own: SpiffeId },
}

/// Takes what an authority answered for `key`, or says why not.
pub(super) fn accept(
    key: &WorkloadKey,
    answer: &[String],
    own: &SpiffeId,
    roots: &Roots,
) -> Result<Issued, Refused> {
    let mut chain = parse_chain_pem(answer.join("\n").as_bytes())?;
    let roots = match roots {
        Roots::Bundle(roots) => roots.clone(),
        Roots::FromChain if chain.len() < 2 => return Err(Refused::NoRoot),
        Roots::FromChain => chain.last().cloned().into_iter().collect(),
    };
    // Peers have the root already.
    if chain.len() > 1 && chain.last().is_some_and(|last| roots.contains(last)) {
        chain.pop();
    }
    let credentials =
        Credentials { chain, key: key.private_key(), roots, trust_domain: own.trust_domain().to_owned() };
    let tls = MeshTls::build(&credentials)?;
    if tls.identity() != own {
        return Err(Refused::OtherIdentity { found: tls.identity().clone(), own: own.clone() });
    }
    Ok(Issued {
        facts: tls.facts().clone(),
        chain: credentials.chain.iter().filter_map(view).collect(),
        roots: credentials.roots.iter().map(fingerprint).collect(),
        tls: Arc::new(tls),
    })
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

fn fingerprint(certificate: &CertificateDer<'static>) -> String {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(certificate));
    hash.map(|hash| hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()).unwrap_or_default()
}
