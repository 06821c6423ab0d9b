//! The certificate of the control plane's own TLS ports, signed by the root and renewed at half of its life.
//!
//! Clients are known by their token or by a certificate of the mesh, so a certificate is asked for but not required.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger_base::tls::{Alpn, provider};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::ca::Authority;
use crate::ca::root::{Root, SignError};
use crate::kubernetes::names::CONTROL_PLANE;
use crate::world::World;
use crate::xds::Hub;

/// The life of the certificate.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Names under which the control plane is reached on its own host.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Names of the control plane's Service in a namespace.
pub fn service_names(namespace: &str) -> Vec<String> {
    let service = CONTROL_PLANE;
    vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ]
}

/// Makes TLS configurations for the ports of the control plane.
#[derive(Debug)]
pub struct ServingTls {
    authority: Arc<Authority>,
    clients: Clients,
    names: Vec<SanType>,
    /// The root that signed the current certificate.
    root: Arc<Root>,
    /// The picture whose roots are believed, and those that users added to ours.
    believed: Believed,
    current: Arc<ServerConfig>,
    renew_at: SystemTime,
}

/// Roots of the own trust domain that users added to ours, as a picture of the mesh has them.
#[derive(Debug, Default)]
struct Believed {
    world: Arc<World>,
    added: Vec<Arc<[u8]>>,
}

/// Who dials a port.
#[derive(Debug, Clone)]
pub enum Clients {
    /// Proxies, by HTTP/2, with a certificate of the mesh or a token. The hub knows the trust domain and its other roots.
    Mesh(Arc<Hub>),
    /// API servers, by HTTP/2 or HTTP/1.1; who they are does not matter.
    Anyone,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A name cannot be part of a certificate.
    #[error("{0:?} is neither a host name nor an address; choose another --tls-name")]
    Name(String),
    /// The certificate cannot be signed.
    #[error("no certificate can be made for the TLS port: {0}")]
    Sign(#[from] SignError),
    /// The key cannot be made.
    #[error("no key can be made for the TLS port: {0}")]
    Key(#[from] rcgen::Error),
    /// TLS refuses the certificate.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl ServingTls {
    /// A first configuration. `names` are host names and addresses that clients dial, beside those of loopback.
    pub fn new(
        authority: Arc<Authority>,
        clients: Clients,
        names: &[String],
        now: SystemTime,
    ) -> Result<Self, ServingError> {
        let all = LOOPBACK_NAMES.into_iter().chain(names.iter().map(String::as_str));
        let names = all.map(san).collect::<Result<Vec<_>, _>>()?;
        let root = authority.root();
        let believed = Believed::of(&clients);
        let renew_at = half_of_life(&root, now);
        let current = configure(&root, &clients, &believed.added, &names, now)?;
        Ok(Self { authority, clients, names, root, believed, current, renew_at })
    }

    /// The configuration for a handshake now. One that cannot be renewed stays in use.
    pub fn current(&mut self, now: SystemTime) -> Arc<ServerConfig> {
        let root = self.authority.root();
        let others = self.believed.refresh(&self.clients);
        if now >= self.renew_at || !Arc::ptr_eq(&root, &self.root) || others {
            match configure(&root, &self.clients, &self.believed.added, &self.names, now) {
                Ok(config) => {
                    self.current = config;
                    self.renew_at = half_of_life(&root, now);
                    self.root = root;
                }
                Err(error) => tracing::error!("the TLS port keeps its old certificate: {error}"),
            }
        }
        self.current.clone()
    }
}

/// When a certificate that is signed now is to be renewed: at half of its life, which ends with that of the signer.
fn half_of_life(root: &Root, now: SystemTime) -> SystemTime {
    now + VALIDITY.min(root.not_after().duration_since(now).unwrap_or_default()) / 2
}

impl Believed {
    fn of(clients: &Clients) -> Self {
        let mut believed = Self::default();
        believed.refresh(clients);
        believed
    }

    /// Looks at the picture in force, when it is another; whether other roots are believed.
    fn refresh(&mut self, clients: &Clients) -> bool {
        let Clients::Mesh(hub) = clients else { return false };
        let world = hub.world();
        if Arc::ptr_eq(&world, &self.world) {
            return false;
        }
        let mesh = world.mesh();
        let own = mesh.trust_bundles.into_iter().filter(|bundle| bundle.trust_domain == mesh.trust_domain);
        let added: Vec<_> = own.flat_map(|bundle| bundle.certificates).collect();
        self.world = world;
        let others = added != self.added;
        self.added = added;
        others
    }
}

fn san(name: &str) -> Result<SanType, ServingError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || ServingError::Name(name.to_owned());
    outrigger_model::name::Host::parse(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

/// Those of the mesh show a certificate of one of its roots, or none.
fn mesh_clients(
    root: &Root,
    added: &[Arc<[u8]>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ServingError> {
    let tls = |error: &dyn std::fmt::Display| ServingError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    for trusted in root.authorities() {
        roots.add(trusted.clone()).map_err(|error| tls(&error))?;
    }
    for trusted in added {
        roots.add(CertificateDer::from(trusted.to_vec())).map_err(|error| tls(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| tls(&error))
}

fn configure(
    root: &Root,
    clients: &Clients,
    added: &[Arc<[u8]>],
    names: &[SanType],
    now: SystemTime,
) -> Result<Arc<ServerConfig>, ServingError> {
    let tls = |error: &dyn std::fmt::Display| ServingError::Tls(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let chain = root.sign_server(names.to_vec(), &key, VALIDITY, now)?;
    let provider = Arc::new(provider());
    let verifier = match clients {
        Clients::Mesh(_) => mesh_clients(root, added, provider.clone())?,
        Clients::Anyone => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .map_err(|error| tls(&error))?;
    let spoken: &[Alpn] = match clients {
        Clients::Mesh(_) => &[Alpn::H2],
        Clients::Anyone => &[Alpn::H2, Alpn::Http1],
    };
    config.alpn_protocols = spoken.iter().map(|alpn| alpn.id().to_vec()).collect();
    // A resumed session would not show its certificate again.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
