//! An agent that speaks the SPIFFE Workload API over sockets: one for each workload, whose identity it says, and to
//! everybody whom to trust.

use std::path::{Path, PathBuf};

use outrigger_base::spiffe::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use outrigger_base::spiffe::{X509svid, X509svidRequest, X509svidResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

/// The authority behind an agent.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// A new authority.
pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The agent of one workload.
pub(crate) struct Agent {
    socket: PathBuf,
    id: String,
    message: watch::Sender<X509svidResponse>,
}

impl Agent {
    /// Serves on a socket of this name until the test is over.
    pub(crate) fn start(directory: &Path, workload: &str) -> Self {
        let socket = directory.join(format!("{workload}.sock"));
        let message = watch::Sender::new(X509svidResponse::default());
        let service = SpiffeWorkloadApiServer::new(Service(message.subscribe()));
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
        Self { socket, id: format!("spiffe://cluster.local/ns/shop/sa/{workload}"), message }
    }

    /// The value of `--identity`.
    pub(crate) fn flag(&self) -> String {
        format!("spiffe-workload-api:unix://{}", self.socket.display())
    }

    /// Gives the workload a new certificate, which `signer` signs, and has it trust these.
    pub(crate) fn say(&self, signer: &Authority, trusted: &[&Authority]) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(self.id.as_str().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let svid = X509svid {
            spiffe_id: self.id.clone(),
            x509_svid: params.signed_by(&key, signer).unwrap().der().to_vec(),
            x509_svid_key: key.serialize_der(),
            bundle: trusted.iter().flat_map(|root| root.der().to_vec()).collect(),
            hint: String::new(),
        };
        self.message.send_replace(X509svidResponse { svids: vec![svid], ..X509svidResponse::default() });
    }
}

/// Refuses calls without the header of the standard, and tells nobody anything before there is something to tell.
struct Service(watch::Receiver<X509svidResponse>);

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = ReceiverStream<Result<X509svidResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let (sender, queue) = mpsc::channel(1);
        let mut messages = self.0.clone();
        tokio::spawn(async move {
            loop {
                let message = messages.borrow_and_update().clone();
                let is_over = !message.svids.is_empty() && sender.send(Ok(message)).await.is_err();
                if is_over || messages.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}
