//! TLS towards servers outside the mesh: what is asked of the server's certificate.

use std::sync::Arc;

/// How connections to endpoints without a sidecar are protected, and who must answer there. The whole of it is part of
/// what makes two connections the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The name sent to the server (SNI).
    pub server_name: Arc<str>,
    /// Who may sign the server's certificate.
    pub trust: Trust,
    /// The certificate must be for one of these; never empty.
    pub names: Vec<PeerName>,
}

/// Who may sign a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The authorities that the host of the proxy trusts.
    System,
    /// These, as PEM.
    Roots(Arc<str>),
    /// Nobody, and why: what was configured cannot be used, so every connection fails.
    Nobody(Arc<str>),
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// A host name. A name in the certificate may have `*` as its first label (RFC 6125, section 6.4.3).
    Dns(Arc<str>),
    /// A URI, compared as it is.
    Uri(Arc<str>),
}
