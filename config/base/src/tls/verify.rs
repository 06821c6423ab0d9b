//! Whom to believe in a handshake: a chain that webpki accepts, and one SPIFFE id of a trust domain that we trust.
//!
//! Chain, signatures, validity and extended key usage are rustls' and webpki's work. A leaf without the extended key
//! usage extension may be used for both sides, as X509-SVID section 4.4 has it; one that has it must name the side.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::domains::Domains;
use super::known::Known;
use crate::identity::IdentityError;

/// Judges servers that we dial.
#[derive(Debug)]
pub(super) struct Servers {
    domains: Arc<Domains>,
    pub(super) known: Known,
}

/// Judges clients that dial us.
#[derive(Debug)]
pub(super) struct Clients {
    domains: Arc<Domains>,
    pub(super) known: Known,
}

pub(super) fn servers(domains: Arc<Domains>) -> Arc<Servers> {
    Arc::new(Servers { domains, known: Known::default() })
}

pub(super) fn clients(domains: Arc<Domains>) -> Arc<Clients> {
    Arc::new(Clients { domains, known: Known::default() })
}

/// An [`IdentityError`] as rustls carries it.
pub(super) fn identity_error(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
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
            let identity = self.domains.server(end_entity, intermediates, now)?;
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
        verify_tls12_signature(message, cert, dss, self.domains.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, self.domains.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.domains.algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a client shows its certificate also while roots are being replaced.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.known.holds(end_entity, intermediates, now) {
            let identity = self.domains.client(end_entity, intermediates, now)?;
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
        verify_tls12_signature(message, cert, dss, self.domains.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, self.domains.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.domains.algorithms().supported_schemes()
    }
}
