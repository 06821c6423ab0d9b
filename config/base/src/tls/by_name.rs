//! TLS between a proxy and the control plane: the server is known by its host name, as everywhere else, and the client by
//! its certificate of the mesh when it has one.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};

use super::{Alpn, MeshTls, TLS13_ONLY, TlsError, provider, root_store, with_alpn};
use crate::keys::parse_chain_pem;

/// A server that shows `chain` and asks clients for nothing: the control plane's HTTPS ports.
pub fn server_side_only(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocols: &[Alpn],
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(TLS13_ONLY)
        .map_err(TlsError::Setup)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Key)?;
    config.alpn_protocols = protocols.iter().map(|alpn| alpn.id().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A client that trusts the certificates in `bundle_pem`, verifies the host name and speaks HTTP/2: a proxy that dials
/// an `https://` control plane.
pub fn client_with_bundle(bundle_pem: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    client_by_name(&parse_chain_pem(bundle_pem).map_err(TlsError::Bundle)?, None)
}

/// As [`client_with_bundle`], with the roots at hand. It shows the certificate of `own`, when there is one, to a server
/// that asks for it.
pub fn client_by_name(
    roots: &[CertificateDer<'static>],
    own: Option<&MeshTls>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(TLS13_ONLY)
        .map_err(TlsError::Setup)?;
    let builder = builder.with_root_certificates(root_store(roots)?);
    let config = match own {
        Some(own) => builder.with_client_cert_resolver(own.own.clone()),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(with_alpn(&config, Alpn::H2)))
}
