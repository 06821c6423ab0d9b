//! The floor: copies bytes between two connections and looks at none of them, so it costs what the kernel costs and,
//! in a pair, what mutual TLS costs.
//!
//! Its TLS is that of the mesh (algorithms, certificates, verification), so that a sidecar is compared with a relay
//! that does the same work below HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use outrigger_base::lifecycle::ready;
use outrigger_base::tls::{Alpn, Credentials, MeshTls, endpoint_name};
use outrigger_control_plane::ca::root::Root;
use outrigger_control_plane::ca::store::Store;
use outrigger_model::identity::SpiffeId;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::accept;

const TRUST_DOMAIN: &str = "cluster.local";
/// The life of a relay's certificate.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// What a relay is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Where the bytes go
    #[arg(long)]
    to: SocketAddr,
    /// On which side it speaks mutual TLS; on none unless given
    #[arg(long, value_enum, requires = "data")]
    tls: Option<Side>,
    /// Where the root is kept that signs the certificates of a pair
    #[arg(long)]
    data: Option<PathBuf>,
    /// Written when it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

/// A side of a relay.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Side {
    /// Towards whom we dial.
    Upstream,
    /// Towards who dials us.
    Downstream,
}

/// How a relay joins its two connections.
#[derive(Clone)]
enum Joint {
    Plain,
    TlsUpstream(TlsConnector),
    TlsDownstream(TlsAcceptor),
}

/// Relays until it is killed.
pub(crate) async fn serve(args: Args) -> Result<()> {
    let joint = Joint::build(args.tls, args.data.as_deref())?;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen at {}", args.listen))?;
    ready::write(args.ready_file.as_deref(), None, &json!({ "listen": listener.local_addr()? }))?;
    let to = args.to;
    accept::each(listener, move |downstream| {
        let joint = joint.clone();
        async move {
            // The load counts a lost connection as an error; here is told why.
            if let Err(error) = joint.relay(downstream, to).await {
                eprintln!("relay to {to}: {error:#}");
            }
        }
    })
    .await
}

impl Joint {
    fn build(tls: Option<Side>, data: Option<&Path>) -> Result<Self> {
        let (Some(side), Some(data)) = (tls, data) else { return Ok(Self::Plain) };
        let tls = mesh_tls(data)?;
        Ok(match side {
            Side::Upstream => {
                Self::TlsUpstream(TlsConnector::from(without_resumption(&tls.client(Alpn::Tcp))))
            }
            Side::Downstream => Self::TlsDownstream(TlsAcceptor::from(tls.server())),
        })
    }

    async fn relay(self, downstream: TcpStream, to: SocketAddr) -> Result<()> {
        let upstream = TcpStream::connect(to).await.context("cannot connect")?;
        upstream.set_nodelay(true)?;
        match self {
            Self::Plain => copy(downstream, upstream).await,
            Self::TlsUpstream(tls) => {
                let upstream = tls.connect(endpoint_name(to), upstream).await.context("no TLS upstream")?;
                copy(downstream, upstream).await
            }
            Self::TlsDownstream(tls) => {
                let downstream = tls.accept(downstream).await.context("no TLS downstream")?;
                copy(downstream, upstream).await
            }
        }
    }
}

/// Copies both ways until both have ended.
async fn copy<D, U>(mut downstream: D, mut upstream: U) -> Result<()>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional(&mut downstream, &mut upstream).await.context("the connection broke")?;
    Ok(())
}

/// TLS with a certificate signed by the root in `data`, which is made by the first that comes.
fn mesh_tls(data: &Path) -> Result<MeshTls> {
    let now = SystemTime::now();
    let root = Root::open(&Store::open(data)?, now)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key can be made")?;
    let identity = SpiffeId::new(TRUST_DOMAIN, "bench", "relay")?;
    let certificate = root.sign_workload(&identity, &key, VALIDITY, now)?;
    let credentials = Credentials {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        roots: vec![root.certificate().clone()],
        trust_domain: TRUST_DOMAIN.to_owned(),
    };
    MeshTls::build(&credentials).map_err(|error| anyhow!(Arc::new(error)))
}

/// Every connection costs a whole handshake: the relay is the floor where that is measured.
fn without_resumption(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinSet;

    use super::*;

    /// Starts a relay on a free port.
    async fn start(tasks: &mut JoinSet<()>, joint: Joint, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let (downstream, _) = listener.accept().await.unwrap();
            joint.relay(downstream, to).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_pair_carries_bytes_and_ends_both_ways() {
        let data = tempfile::tempdir().unwrap();
        let mut tasks = JoinSet::new();
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = Joint::build(Some(Side::Downstream), Some(data.path())).unwrap();
        let far = start(&mut tasks, far, origin.local_addr().unwrap()).await;
        let near = Joint::build(Some(Side::Upstream), Some(data.path())).unwrap();
        let near = start(&mut tasks, near, far).await;

        let mut client = TcpStream::connect(near).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = origin.accept().await.unwrap();
        let mut asked = String::new();
        served.read_to_string(&mut asked).await.unwrap();
        served.write_all(b"pong").await.unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ping", "pong"));
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    }
}
