//! The roots of each trust domain, and the one rule about them: the trust domain of an id selects the roots that its
//! certificate must stand under (SPIFFE Trust Domain and Bundle, section 4; X509-SVID, section 5).

use std::sync::Arc;

use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::{Trust, TrustBundle};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{Error, RootCertStore};

use super::verify::identity_error;
use super::{TlsError, provider, root_store};
use crate::identity::{IdentityError, peer_identity};

/// Everybody who is trusted. The own trust domain is the first.
#[derive(Debug)]
pub(super) struct Domains {
    domains: Vec<Domain>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// One trust domain. Both sides are judged by the same roots; only the extended key usage differs.
#[derive(Debug)]
struct Domain {
    name: Arc<str>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// Checks that every root of every trust domain can be used.
///
/// # Errors
/// Which one cannot, and why.
pub fn check_trust(trust: &Trust) -> Result<(), TlsError> {
    Domains::new(trust, &Arc::new(provider())).map(drop)
}

/// Whether a chain stands under this root at this time.
pub fn stands_under(chain: &[CertificateDer<'static>], root: &[u8], now: UnixTime) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    let mut roots = RootCertStore::empty();
    let parsed = ParsedCertificate::try_from(leaf);
    let (Ok(()), Ok(parsed)) = (roots.add(root.to_vec().into()), parsed) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms).is_ok()
}

impl Domains {
    pub(super) fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        if trust.bundles.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let domains =
            trust.bundles.iter().map(|bundle| Domain::new(bundle, provider)).collect::<Result<_, _>>()?;
        Ok(Self { domains, algorithms: provider.signature_verification_algorithms })
    }

    /// How signatures are verified.
    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Whom a server's certificate names.
    pub(super) fn server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Error> {
        let (id, domain) = self.of(leaf)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &domain.roots, intermediates, now, algorithms)?;
        Ok(id)
    }

    /// Whom a client's certificate names.
    pub(super) fn client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Error> {
        let (id, domain) = self.of(leaf)?;
        domain.clients.verify_client_cert(leaf, intermediates, now)?;
        Ok(id)
    }

    /// Judges our own certificate as peers will, on both sides, and gives our identity, which is of our own trust domain.
    pub(super) fn own(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> Result<SpiffeId, Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.client(leaf, intermediates, now)?;
        let id = self.server(leaf, intermediates, now)?;
        if id.trust_domain() == &*self.domains[0].name { Ok(id) } else { Err(self.stranger(id)) }
    }

    fn of(&self, leaf: &CertificateDer<'_>) -> Result<(SpiffeId, &Domain), Error> {
        let id = peer_identity(leaf).map_err(identity_error)?;
        match self.domains.iter().find(|domain| *domain.name == *id.trust_domain()) {
            Some(domain) => Ok((id, domain)),
            None => Err(self.stranger(id)),
        }
    }

    fn stranger(&self, id: SpiffeId) -> Error {
        identity_error(IdentityError::OtherTrustDomain { id, ours: self.domains[0].name.to_string() })
    }
}

impl Domain {
    fn new(bundle: &TrustBundle, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let name = bundle.trust_domain.clone();
        let failed = |source| TlsError::Domain { trust_domain: name.clone(), source: Box::new(source) };
        let roots: Vec<_> = bundle.roots.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let roots = Arc::new(root_store(&roots).map_err(failed)?);
        // Without hints a client shows its certificate also while roots are being replaced.
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let clients = builder.clear_root_hint_subjects().build();
        let clients = clients.map_err(|error| failed(TlsError::Setup(Error::General(error.to_string()))))?;
        Ok(Self { name, roots, clients })
    }
}
