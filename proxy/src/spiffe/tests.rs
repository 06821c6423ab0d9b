//! A workload and the agent of its host, which speaks the Workload API as the standard has it, over a socket in a
//! directory of the test.

use std::path::Path;
use std::pin::Pin;

use outrigger_base::spiffe::X509svid;
use outrigger_base::spiffe::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use outrigger_model::inbound::{Inbound, MeshSettings, MtlsMode};
use outrigger_model::trust::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::Response;

use super::*;
use crate::certificates::Issued;
use crate::snapshot::Snapshot;
use crate::xds::support::shared;

const OWN: &str = "spiffe://cluster.local/ns/shop/sa/web";
const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/reviews";
/// Long enough for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Ca = CertifiedIssuer<'static, KeyPair>;
type Messages = mpsc::Sender<Result<X509svidResponse, Status>>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn svid(id: &str, ca: &Ca) -> X509svid {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    X509svid {
        spiffe_id: id.to_owned(),
        x509_svid: params.signed_by(&key, ca).unwrap().der().to_vec(),
        x509_svid_key: key.serialize_der(),
        bundle: ca.der().to_vec(),
        hint: String::new(),
    }
}

fn message(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse { svids, ..X509svidResponse::default() }
}

/// Refuses calls without the header of the standard; hands each stream to the test, or refuses it as the test says.
struct Agent {
    streams: mpsc::Sender<Messages>,
    denies: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Agent {
    type FetchX509SVIDStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<X509svidResponse, Status>> + Send>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        if *self.denies.borrow() {
            return Err(Status::permission_denied("no identity issued"));
        }
        let (messages, queue) = mpsc::channel(4);
        self.streams.send(messages).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

struct Host {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    identity: Arc<LocalIdentity>,
    issued: watch::Receiver<Option<Arc<Issued>>>,
    denies: watch::Sender<bool>,
    streams: (mpsc::Sender<Messages>, mpsc::Receiver<Messages>),
    agent: Option<JoinHandle<()>>,
}

impl Host {
    /// A workload whose mesh has said its name, and an agent.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (shared, _) = shared();
        let identity = LocalIdentity::new(shared.clone(), None);
        let workload =
            Workload { namespace: "shop".into(), service_account: "web".into(), node: "node-1".into() };
        let socket = directory.path().join("agent.sock");
        let api = WorkloadApi::new(shared.clone(), identity.clone(), workload, socket);
        tokio::spawn(api.run());
        let mut host = Self {
            issued: identity.issued(),
            shared,
            identity,
            denies: watch::Sender::new(false),
            streams: mpsc::channel(4),
            agent: None,
            directory,
        };
        host.trust_domain("cluster.local");
        host.start_agent();
        host
    }

    fn trust_domain(&self, name: &str) {
        let mesh = MeshSettings { trust_domain: name.into(), ..MeshSettings::default() };
        let inbound = Inbound { mesh: mesh.clone(), ..Inbound::plain(MtlsMode::Strict) };
        let snapshot =
            Snapshot { inbound: Some(Arc::new(inbound)), mesh: Arc::new(mesh), ..Snapshot::empty() };
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.demand.changes().ring();
    }

    fn start_agent(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let agent = Agent { streams: self.streams.0.clone(), denies: self.denies.subscribe() };
        let router = tonic::transport::Server::builder().add_service(SpiffeWorkloadApiServer::new(agent));
        let serving = router.serve_with_incoming(UnixListenerStream::new(listener));
        self.agent = Some(tokio::spawn(async move { serving.await.unwrap() }));
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::join(self.directory.path(), "agent.sock")
    }

    async fn stream(&mut self) -> Messages {
        timeout(PATIENCE, self.streams.1.recv()).await.expect("nobody asks").unwrap()
    }

    async fn issued(&mut self) -> Arc<Issued> {
        timeout(PATIENCE, self.issued.changed()).await.expect("nothing is put in force").unwrap();
        self.issued.borrow_and_update().clone().unwrap()
    }
}

#[tokio::test]
async fn each_message_replaces_the_identity_and_the_trust() {
    let mut host = Host::start();
    let stream = host.stream().await;
    let (old, new, partner) = (ca(), ca(), ca());
    stream.send(Ok(message(vec![svid(OTHER, &old), svid(OWN, &old)]))).await.unwrap();
    let first = host.issued().await;
    assert_eq!((first.tls.identity().as_str(), first.roots.len()), (OWN, 1));
    assert!(Arc::ptr_eq(&host.identity.in_force().unwrap(), &first.tls));

    let mut next = message(vec![svid(OWN, &new)]);
    next.svids[0].bundle = [old.der().as_ref(), new.der().as_ref()].concat();
    next.crl = vec![b"not applied".to_vec()];
    next.federated_bundles = [
        ("spiffe://partner.example".to_owned(), partner.der().to_vec()),
        ("spiffe://bad".to_owned(), vec![1]),
    ]
    .into();
    stream.send(Ok(next)).await.unwrap();
    let second = host.issued().await;
    assert_ne!(first.facts.serial, second.facts.serial);
    assert_eq!((second.roots.len(), second.federated.len()), (2, 1));
    assert_eq!(second.federated["partner.example"].len(), 1);

    stream.send(Ok(message(vec![svid(OWN, &new)]))).await.unwrap();
    let third = host.issued().await;
    assert_eq!((third.roots.len(), third.federated.len()), (1, 0));
}

#[tokio::test]
async fn trust_of_the_configuration_is_united_with_that_of_the_agent() {
    let mut host = Host::start();
    let stream = host.stream().await;
    let (agents, meshs) = (ca(), ca());
    stream.send(Ok(message(vec![svid(OWN, &agents)]))).await.unwrap();
    host.issued().await;
    let der = |ca: &Ca| Arc::from(ca.der().as_ref());
    let said =
        Trust::alone("cluster.local", [der(&meshs)]).united(&Trust::alone("partner.example", [der(&ca())]));
    host.identity.trust(Some(&Arc::new(said))).unwrap();
    let issued = host.issued().await;
    assert_eq!((issued.roots.len(), issued.federated.len()), (2, 1));
    assert_eq!(issued.tls.identity().as_str(), OWN);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_what_is_in_force() {
    let mut host = Host::start();
    let stream = host.stream().await;
    let (ours, theirs) = (ca(), ca());
    stream.send(Ok(message(vec![svid(OWN, &ours)]))).await.unwrap();
    let before = host.issued().await;
    let good = || svid(OWN, &ours);
    for bad in [
        message(Vec::new()),
        message(vec![svid(OTHER, &ours)]),
        message(vec![X509svid { x509_svid: b"hello".to_vec(), ..good() }]),
        message(vec![X509svid { x509_svid_key: b"hello".to_vec(), ..good() }]),
        message(vec![X509svid { x509_svid_key: good().x509_svid_key, ..good() }]),
        message(vec![X509svid { bundle: Vec::new(), ..good() }]),
        message(vec![X509svid { bundle: theirs.der().to_vec(), ..good() }]),
        message(vec![X509svid { spiffe_id: OWN.to_owned(), ..svid(OTHER, &ours) }]),
    ] {
        stream.send(Ok(bad)).await.unwrap();
    }
    // Messages are taken in order: whatever was taken before this one would have been seen.
    stream.send(Ok(message(vec![good()]))).await.unwrap();
    let after = host.issued().await;
    assert_ne!(before.facts.serial, after.facts.serial);
    assert!(Arc::ptr_eq(&host.identity.in_force().unwrap(), &after.tls));
}

#[tokio::test]
async fn an_agent_that_goes_away_is_dialled_again_and_one_that_denies_is_asked_again() {
    let mut host = Host::start();
    let ours = ca();
    let stream = host.stream().await;
    stream.send(Ok(message(vec![svid(OWN, &ours)]))).await.unwrap();
    let before = host.issued().await;
    // The socket is gone; after that the agent has forgotten the workload.
    host.agent.take().unwrap().abort();
    drop(stream);
    std::fs::remove_file(host.socket()).unwrap();
    host.denies.send_replace(true);
    host.start_agent();
    tokio::time::pause();
    tokio::time::advance(RECONNECT.1 * 2).await;
    tokio::time::resume();
    assert!(Arc::ptr_eq(&host.identity.in_force().unwrap(), &before.tls));
    host.denies.send_replace(false);
    let stream = host.stream().await;
    stream.send(Ok(message(vec![svid(OWN, &ours)]))).await.unwrap();
    assert_ne!(host.issued().await.facts.serial, before.facts.serial);
}

#[tokio::test]
async fn another_trust_domain_is_looked_for_in_what_was_said_last() {
    let mut host = Host::start();
    let stream = host.stream().await;
    let (old, new) = (ca(), ca());
    let renamed = "spiffe://mesh.example/ns/shop/sa/web";
    stream.send(Ok(message(vec![svid(OWN, &old), svid(renamed, &new)]))).await.unwrap();
    assert_eq!(host.issued().await.tls.identity().as_str(), OWN);
    host.trust_domain("mesh.example");
    assert_eq!(host.issued().await.tls.identity().as_str(), renamed);
}

#[test]
fn an_error_names_what_is_offered() {
    let ours = ca();
    let own: SpiffeId = OWN.parse().unwrap();
    let error = |message: &X509svidResponse| svid::choose(message, &own).err().unwrap().to_string();
    let offered = error(&message(vec![svid(OTHER, &ours)]));
    assert!(
        offered.contains(OTHER) && offered.contains(OWN) && offered.contains("--service-account"),
        "{offered}"
    );
    assert!(error(&message(Vec::new())).ends_with("what is offered is nothing"));
    let many = vec![svid(OTHER, &ours); 12];
    assert!(error(&message(many)).ends_with("and 2 more"));
}
