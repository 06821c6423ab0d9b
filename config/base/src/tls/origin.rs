//! TLS to servers outside the mesh: a chain that ends at a trusted authority, and a name that was asked for.
//!
//! TLS 1.2 is spoken as well, because such servers are not ours. We show no certificate: our own is for the mesh.

use std::sync::Arc;

use outrigger_model::upstream_tls::{PeerName, Trust, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Alpn, root_store};
use crate::keys::parse_chain_pem;

/// The client side for one server, or for several that are verified alike.
#[derive(Debug, Clone)]
pub struct OriginTls {
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

/// Why no server can be verified.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OriginError {
    /// The control plane says so.
    #[error("{0}")]
    Untrusted(Arc<str>),
    /// The authorities cannot be read.
    #[error("the authorities cannot be used: {0}")]
    Roots(String),
    /// The host trusts nobody.
    #[error("this host has no trusted authorities; install ca-certificates or set SSL_CERT_FILE")]
    NoSystemRoots,
    /// The name to send is none.
    #[error("{0:?} is not the name of a server")]
    Name(Arc<str>),
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(Error),
}

impl OriginTls {
    /// Builds it. `system` gives the authorities that the host trusts; it is called when they are wanted.
    ///
    /// # Errors
    /// Whatever keeps a server from being verified: connections must fail then.
    pub fn build(
        wanted: &UpstreamTls,
        system: impl FnOnce() -> Vec<CertificateDer<'static>>,
    ) -> Result<Self, OriginError> {
        let roots = match &wanted.trust {
            Trust::Nobody(why) => return Err(OriginError::Untrusted(why.clone())),
            Trust::System => system_store(system())?,
            Trust::Roots(pem) => pem_store(pem)?,
        };
        let name = ServerName::try_from(wanted.server_name.to_string())
            .map_err(|_| OriginError::Name(wanted.server_name.clone()))?;
        let provider = Arc::new(provider());
        let algorithms = provider.signature_verification_algorithms;
        let servers = Servers { roots, algorithms, names: wanted.names.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(OriginError::Setup)?;
        let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(servers));
        let config = config.with_no_client_auth();
        let speaking = |alpn: Alpn| Arc::new(super::with_alpn(&config, alpn));
        let (http1, h2) = (speaking(Alpn::Http1), speaking(Alpn::H2));
        Ok(Self { name, http1, h2, bytes: Arc::new(config) })
    }

    /// The configuration for dialling a server that is to speak `alpn`. Bytes are offered under no name.
    pub fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        match alpn {
            Alpn::Http1 => self.http1.clone(),
            Alpn::H2 => self.h2.clone(),
            Alpn::Tcp => self.bytes.clone(),
        }
    }

    /// The name that is sent to the server.
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// Whether what a server agreed to is what was asked for. HTTP/1.1 needs no agreement (RFC 7301 is younger).
    pub fn agrees(alpn: Alpn, agreed: Option<&[u8]>) -> bool {
        match (alpn, agreed) {
            (Alpn::Tcp, _) | (Alpn::Http1, None) => true,
            (_, agreed) => agreed == Some(alpn.id()),
        }
    }
}

/// Whether a text is a bundle of authorities that could be trusted.
///
/// # Errors
/// Why not.
pub fn check_authorities(pem: &str) -> Result<(), OriginError> {
    pem_store(pem).map(|_| ())
}

fn pem_store(pem: &str) -> Result<RootCertStore, OriginError> {
    let certificates =
        parse_chain_pem(pem.as_bytes()).map_err(|error| OriginError::Roots(error.to_string()))?;
    root_store(&certificates).map_err(|error| OriginError::Roots(error.to_string()))
}

/// A host may trust certificates that webpki cannot read; the others count.
fn system_store(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, OriginError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 { Err(OriginError::NoSystemRoots) } else { Ok(store) }
}

/// The algorithms of the mesh first, then what servers of others may need.
fn provider() -> CryptoProvider {
    let mesh = super::provider();
    let default = aws_lc_rs::default_provider();
    let others = default.cipher_suites.into_iter().filter(|suite| !mesh.cipher_suites.contains(suite));
    let mut cipher_suites = mesh.cipher_suites.clone();
    cipher_suites.extend(others);
    CryptoProvider { cipher_suites, kx_groups: default.kx_groups, ..mesh }
}

#[derive(Debug)]
struct Servers {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    names: Vec<PeerName>,
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
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let mut last = CertificateError::NotValidForName.into();
        for name in &self.names {
            match is_for(end_entity, &parsed, name) {
                Ok(()) => return Ok(ServerCertVerified::assertion()),
                Err(error) => last = error,
            }
        }
        Err(last)
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

fn is_for(der: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>, name: &PeerName) -> Result<(), Error> {
    match name {
        PeerName::Dns(name) => {
            let name = ServerName::try_from(name.as_ref());
            verify_server_name(parsed, &name.map_err(|_| CertificateError::NotValidForName)?)
        }
        PeerName::Uri(wanted) => {
            let read = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?.1;
            let names = read.subject_alternative_name().map_err(|_| CertificateError::BadEncoding)?;
            let names = names.iter().flat_map(|extension| &extension.value.general_names);
            let mut uris = names.filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
            let found = uris.any(|uri| uri == wanted.as_ref());
            if found { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
        }
    }
}
