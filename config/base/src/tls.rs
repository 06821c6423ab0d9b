//! TLS of the mesh: one immutable pair of client and server configurations for each certificate.
//!
//! A [`MeshTls`] is built whole from [`Credentials`] or not at all, so that a handshake only ever sees a complete
//! configuration; renewal builds a new one and swaps it in. TLS 1.3 only, X25519MLKEM768 first. A peer is trusted when
//! its certificate names one SPIFFE id and its chain ends at a root of the trust domain of that id: a root of one domain never
//! vouches for another. Which id is expected there is the caller's question, answered by [`verified_peer`] after the handshake. Host names play no part between
//! sidecars. This module does no I/O and knows neither pools nor policy.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::Trust;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};

use crate::identity::{CertificateFacts, IdentityError, certificate_facts, peer_identity};
use crate::keys::KeyError;

mod by_name;
mod describe;
mod domains;
mod known;
mod origin;
pub mod unverified;
mod verify;

pub use by_name::{client_by_name, client_with_bundle, server_side_only};
pub use describe::{describe, describe_io};
pub use domains::{check_trust, stands_under};
pub use known::KNOWN_CHAINS;
pub use origin::{OriginError, OriginTls, check_authorities};

use domains::Domains;
use known::Known;

/// For how many endpoints a client keeps session tickets.
pub const RESUMABLE_ENDPOINTS: usize = 256;

/// How many tickets rustls keeps for one endpoint; sizes its cache are counted in tickets.
const TICKETS_PER_ENDPOINT: usize = 8;

/// Tickets a server gives after each handshake: a connection that resumes uses one up and gets one back.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// The most roots that the bundle of one trust domain may hold.
pub const MAX_ROOTS: usize = 64;

/// Offered beside the protocol by every client of the mesh, and never agreed on: it tells a sidecar's handshake from one that
/// the application itself makes, which a sidecar may have to pass through unopened.
pub const MESH_MARK: &[u8] = b"outrigger";

const TLS13_ONLY: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/1.1, `http/1.1`.
    Http1,
    /// HTTP/2, `h2`.
    H2,
    /// Opaque TCP between two sidecars, `outrigger/tcp`.
    Tcp,
}

/// What a process needs to take part in the mesh.
pub struct Credentials {
    /// Our certificate, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of our certificate.
    pub key: PrivateKeyDer<'static>,
    /// Whom we trust to sign the certificates of others: the roots of each trust domain that peers may be of. The first
    /// domain is our own, and one of its roots signed our certificate.
    pub trust: Trust,
}

/// Client and server configurations of one certificate, published together.
///
/// Session tickets belong to it: a new certificate or new roots mean a new `MeshTls`, and no session of the old one can
/// be resumed with it.
#[derive(Clone)]
pub struct MeshTls {
    http1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    tcp: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    own: Arc<SingleCertAndKey>,
    servers: Arc<verify::Servers>,
    clients: Arc<verify::Clients>,
    identity: SpiffeId,
    facts: CertificateFacts,
}

/// Why a TLS configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is nobody to trust.
    #[error("the trust bundle has no root certificate")]
    NoRoots,
    /// There are too many roots.
    #[error("the trust bundle has {0} root certificates, more than {MAX_ROOTS}")]
    TooManyRoots(usize),
    /// One root is not a certificate.
    #[error("root certificate {place} of the trust bundle cannot be used: {}", describe(.source))]
    Root {
        /// Which one, counted from 1.
        place: usize,
        /// What went wrong.
        source: rustls::Error,
    },
    /// The bundle of one trust domain cannot be used.
    #[error("trust domain {trust_domain}: {source}")]
    Domain {
        /// Whose bundle.
        trust_domain: Arc<str>,
        /// What is wrong with it.
        source: Box<TlsError>,
    },
    /// The trust bundle is not PEM.
    #[error("the trust bundle cannot be read")]
    Bundle(#[source] KeyError),
    /// Certificate and key are of no use together.
    #[error("our certificate and key cannot be used: {}", describe(.0))]
    Key(rustls::Error),
    /// Every peer would refuse our certificate.
    #[error("our own certificate would be refused: {}", describe(.0))]
    OwnCertificate(rustls::Error),
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up: {}", describe(.0))]
    Setup(rustls::Error),
}

impl Alpn {
    /// The protocol id on the wire.
    pub fn id(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::H2 => b"h2",
            Self::Tcp => b"outrigger/tcp",
        }
    }

    /// The protocol of an id.
    pub fn from_id(id: &[u8]) -> Option<Self> {
        [Self::Http1, Self::H2, Self::Tcp].into_iter().find(|alpn| alpn.id() == id)
    }
}

impl MeshTls {
    /// Builds both sides. Credentials that peers would refuse are refused here, so that they never replace good ones.
    pub fn build(credentials: &Credentials) -> Result<Self, TlsError> {
        Self::build_with_time(credentials, Arc::new(DefaultTimeProvider))
    }

    /// As [`build`](Self::build), with another clock for all that depends on time in handshakes.
    pub fn build_with_time(credentials: &Credentials, time: Arc<dyn TimeProvider>) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let domains = Arc::new(Domains::new(&credentials.trust, &provider)?);
        let key = credentials.key.clone_key();
        let key = CertifiedKey::from_der(credentials.chain.clone(), key, &provider).map_err(TlsError::Key)?;
        let leaf = key.end_entity_cert().map_err(TlsError::Key)?.clone();
        let servers = verify::servers(domains.clone());
        let clients = verify::clients(domains.clone());

        let now = time.current_time().ok_or(TlsError::Setup(rustls::Error::FailedToGetCurrentTime))?;
        let identity = domains.own(&credentials.chain, now).map_err(TlsError::OwnCertificate)?;
        let facts =
            certificate_facts(&leaf).map_err(|e| TlsError::OwnCertificate(verify::identity_error(e)))?;

        let cert = Arc::new(SingleCertAndKey::from(key));
        let client = client_config(provider.clone(), time.clone(), servers.clone(), cert.clone())?;
        let server = server_config(provider, time, clients.clone(), cert.clone())?;
        let for_alpn = |alpn: Alpn| marked(&client, alpn);
        Ok(Self {
            http1: for_alpn(Alpn::Http1),
            h2: for_alpn(Alpn::H2),
            tcp: for_alpn(Alpn::Tcp),
            server: Arc::new(server),
            own: cert,
            servers,
            clients,
            identity,
            facts,
        })
    }

    /// The configuration for dialling a peer that is to speak `alpn`.
    pub fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        match alpn {
            Alpn::Http1 => self.http1.clone(),
            Alpn::H2 => self.h2.clone(),
            Alpn::Tcp => self.tcp.clone(),
        }
    }

    /// The configuration for accepting peers: every protocol of [`Alpn`], and only with a client certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// As [`verified_peer`], for a server that was dialled with [`client`](Self::client). A certificate that was met before
    /// is not read again.
    pub fn server_of(&self, connection: &CommonState) -> Result<SpiffeId, IdentityError> {
        known_peer(&self.servers.known, connection)
    }

    /// As [`verified_peer`], for a client that was accepted with [`server`](Self::server). A certificate that was met before
    /// is not read again.
    pub fn client_of(&self, connection: &CommonState) -> Result<SpiffeId, IdentityError> {
        known_peer(&self.clients.known, connection)
    }

    /// Our own identity.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Serial number and time of our certificate.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }
}

impl fmt::Debug for MeshTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshTls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust_domain = self.trust.bundles.first().map(|bundle| &bundle.trust_domain);
        f.debug_struct("Credentials").field("trust_domain", &trust_domain).finish_non_exhaustive()
    }
}

/// Who is at the other end of a connection whose handshake is complete.
///
/// A resumed session does not show its certificate again, so its time is checked here, against the system clock.
pub fn verified_peer(connection: &CommonState) -> Result<SpiffeId, IdentityError> {
    verified_peer_at(connection, UnixTime::now())
}

/// As [`verified_peer`], at a given time.
pub fn verified_peer_at(connection: &CommonState, now: UnixTime) -> Result<SpiffeId, IdentityError> {
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(IdentityError::NoCertificate)?;
    certificate_facts(leaf)?.check_time(now)?;
    peer_identity(leaf)
}

fn known_peer(known: &Known, connection: &CommonState) -> Result<SpiffeId, IdentityError> {
    let now = UnixTime::now();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    match leaf.and_then(|leaf| known.identity(leaf, now)) {
        Some(identity) => Ok(identity),
        None => verified_peer_at(connection, now),
    }
}

/// The name under which a client remembers sessions of an endpoint. It is not sent: peers are known by SPIFFE id.
pub fn endpoint_name(endpoint: SocketAddr) -> ServerName<'static> {
    let host: String = endpoint.ip().to_string().replace([':', '.'], "-");
    let name = format!("p{}.i{host}.endpoint", endpoint.port());
    ServerName::try_from(name).unwrap_or_else(|_| ServerName::IpAddress(endpoint.ip().into()))
}

/// The one set of algorithms: TLS 1.3, the post-quantum hybrid first, AES-128-GCM first.
pub fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    if roots.len() > MAX_ROOTS {
        return Err(TlsError::TooManyRoots(roots.len()));
    }
    let mut store = RootCertStore::empty();
    for (place, root) in (1..).zip(roots) {
        store.add(root.clone()).map_err(|source| TlsError::Root { place, source })?;
    }
    Ok(store)
}

fn client_config(
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    servers: Arc<verify::Servers>,
    cert: Arc<SingleCertAndKey>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(TLS13_ONLY)
        .map_err(TlsError::Setup)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(servers);
    let mut config = builder.with_client_cert_resolver(cert);
    let sessions = ClientSessionMemoryCache::new(RESUMABLE_ENDPOINTS * TICKETS_PER_ENDPOINT);
    config.resumption = Resumption::store(Arc::new(sessions));
    config.enable_sni = false;
    Ok(config)
}

fn server_config(
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    clients: Arc<verify::Clients>,
    cert: Arc<SingleCertAndKey>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(TLS13_ONLY)
        .map_err(TlsError::Setup)?;
    let mut config = builder.with_client_cert_verifier(clients).with_cert_resolver(cert);
    config.alpn_protocols = [Alpn::H2, Alpn::Http1, Alpn::Tcp].map(|alpn| alpn.id().to_vec()).into();
    // Tickets are sealed and kept by clients: the memory of a server does not grow with the sessions it could resume.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    Ok(config)
}

/// Copies share the verifier, the certificate and the sessions of `config`.
fn with_alpn(config: &ClientConfig, alpn: Alpn) -> ClientConfig {
    let mut config = config.clone();
    config.alpn_protocols = vec![alpn.id().to_vec()];
    config
}

/// As [`with_alpn`], with the mark that tells sidecars from applications.
fn marked(config: &ClientConfig, alpn: Alpn) -> Arc<ClientConfig> {
    let mut config = with_alpn(config, alpn);
    config.alpn_protocols.push(MESH_MARK.to_vec());
    Arc::new(config)
}

#[cfg(test)]
mod tests;
