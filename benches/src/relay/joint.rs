//! How a relay joins its two connections: on which side there is TLS, and whose certificates.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use outrigger_base::tls::{Alpn, Credentials, MeshTls, endpoint_name};
use outrigger_control_plane::ca::root::Root;
use outrigger_control_plane::ca::store::Store;
use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::Trust;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::Side;
use super::end::End;

const TRUST_DOMAIN: &str = "cluster.local";
/// The life of a relay's certificate.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// On which side there is TLS, if on any.
#[derive(Clone)]
pub(super) enum Joint {
    Plain,
    TlsUpstream(Arc<ClientConfig>),
    TlsDownstream(Arc<ServerConfig>),
}

impl Joint {
    pub(super) fn build(tls: Option<Side>, data: Option<&Path>) -> Result<Self> {
        let (Some(side), Some(data)) = (tls, data) else { return Ok(Self::Plain) };
        let tls = mesh_tls(data)?;
        // Every connection costs a whole handshake: the relay is the floor where that is measured.
        Ok(match side {
            Side::Upstream => {
                let mut config = ClientConfig::clone(&tls.client(Alpn::Tcp));
                config.resumption = Resumption::disabled();
                Self::TlsUpstream(Arc::new(config))
            }
            Side::Downstream => {
                let mut config = ServerConfig::clone(&tls.server());
                config.send_tls13_tickets = 0;
                Self::TlsDownstream(Arc::new(config))
            }
        })
    }

    /// The two ends of one connection.
    pub(super) fn ends(
        &self,
        downstream: TcpStream,
        (upstream, to): (TcpStream, SocketAddr),
    ) -> Result<[End; 2]> {
        Ok(match self {
            Self::Plain => [End::plain(downstream), End::plain(upstream)],
            Self::TlsUpstream(config) => {
                let client =
                    ClientConnection::new(config.clone(), endpoint_name(to)).context("no TLS upstream")?;
                [End::plain(downstream), End::tls(upstream, client.into())]
            }
            Self::TlsDownstream(config) => {
                let server = ServerConnection::new(config.clone()).context("no TLS downstream")?;
                [End::tls(downstream, server.into()), End::plain(upstream)]
            }
        })
    }
}

/// TLS with a certificate signed by the root in `data`, which is made by the first that comes.
fn mesh_tls(data: &Path) -> Result<MeshTls> {
    let now = SystemTime::now();
    let root = Root::open(&Store::open(data)?, now)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key can be made")?;
    let identity = SpiffeId::new(TRUST_DOMAIN, "bench", "relay")?;
    let certificate = root.sign_workload(&identity, &key, VALIDITY, now)?.certificate;
    let credentials = Credentials {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        trust: Trust::alone(TRUST_DOMAIN, [root.certificate().as_ref().into()]),
    };
    MeshTls::build(&credentials).map_err(|error| anyhow!(Arc::new(error)))
}
