//! Whom to believe in a handshake: a chain that webpki accepts, and one SPIFFE id of our trust domain.
//!
//! Chain, signatures, validity and extended key usage are rustls' and webpki's work. A leaf without the extended key
//! usage extension may be used for both sides, as X509-SVID section 4.4 has it; one that has it must name the side.

use std::sync::Arc;

use outrigger_model::identity::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::TlsError;
use super::known::Known;
use crate::identity::{IdentityError, peer_identity};

/// Judges servers that we dial.
#[derive(Debug)]
pub(super) struct Servers {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    trust_domain: Box<str>,
    pub(super) known: Known,
}

/// Judges clients that dial us.
#[derive(Debug)]
pub(super) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: Box<str>,
    pub(super) known: Known,
}

pub(super) fn servers(
    roots: Arc<RootCertStore>,
    provider: &CryptoProvider,
    trust_domain: &str,
) -> Arc<Servers> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(Servers { roots, algorithms, trust_domain: trust_domain.into(), known: Known::default() })
}

pub(super) fn clients(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    trust_domain: &str,
) -> Result<Arc<Clients>, TlsError> {
    // Without hints a client shows its certificate also while roots are being replaced.
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let chain = builder
        .clear_root_hint_subjects()
        .build()
        .map_err(|error| TlsError::Setup(Error::General(error.to_string())))?;
    Ok(Arc::new(Clients { chain, trust_domain: trust_domain.into(), known: Known::default() }))
}

/// Judges our own certificate as peers will, on both sides, and gives our identity.
pub(super) fn own(
    chain: &[CertificateDer<'static>],
    (servers, clients): (&Servers, &Clients),
    now: UnixTime,
) -> Result<SpiffeId, Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    clients.chain.verify_client_cert(leaf, intermediates, now)?;
    servers.check(leaf, intermediates, now)
}

/// An [`IdentityError`] as rustls carries it.
pub(super) fn identity_error(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn trusted_identity(certificate: &CertificateDer<'_>, trust_domain: &str) -> Result<SpiffeId, Error> {
    let id = peer_identity(certificate).map_err(identity_error)?;
    if id.trust_domain() != trust_domain {
        return Err(identity_error(IdentityError::OtherTrustDomain { id, ours: trust_domain.to_owned() }));
    }
    Ok(id)
}

impl Servers {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        trusted_identity(leaf, &self.trust_domain)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.known.holds(end_entity, intermediates, now) {
            let identity = self.check(end_entity, intermediates, now)?;
            self.known.remember(end_entity, intermediates, identity);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.known.holds(end_entity, intermediates, now) {
            self.chain.verify_client_cert(end_entity, intermediates, now)?;
            let identity = trusted_identity(end_entity, &self.trust_domain)?;
            self.known.remember(end_entity, intermediates, identity);
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
