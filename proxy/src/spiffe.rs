//! The identity of this workload from a SPIFFE Workload API on the host, such as the agent of SPIRE, instead of the control
//! plane's authority (`--identity spiffe-workload-api:unix:///...`).
//!
//! The agent knows who we are by itself, makes the key, and renews in time: here nothing is asked for but to be told. Each
//! message replaces everything that was told before. While the agent is away what is in force stays, and it is dialled
//! again. Not here: whom the agent gives which identity.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use outrigger_base::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use outrigger_base::spiffe::{X509svidRequest, X509svidResponse};
use outrigger_model::identity::SpiffeId;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::certificates::{LocalIdentity, Workload};
use crate::worker::Shared;
use crate::xds::Backoff;

mod svid;

/// Sent with every call, so that nobody is tricked into making one (SPIFFE Workload Endpoint, section 4).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The shortest and the longest wait before the agent is dialled again.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long dialling may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What follows a Workload API.
pub struct WorkloadApi {
    shared: Arc<Shared>,
    identity: Arc<LocalIdentity>,
    workload: Workload,
    socket: PathBuf,
    channel: Channel,
}

impl WorkloadApi {
    /// Of the agent at this socket; must be called on the runtime that will use it.
    pub fn new(
        shared: Arc<Shared>,
        identity: Arc<LocalIdentity>,
        workload: Workload,
        socket: PathBuf,
    ) -> Self {
        // The authority of a call over a socket means nothing.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
        let path = socket.clone();
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        Self { shared, identity, workload, socket, channel }
    }

    /// Runs for ever.
    pub async fn run(self) {
        let (mut backoff, mut rng) = (Backoff::new(RECONNECT.0, RECONNECT.1), fastrand::Rng::new());
        let mut told = String::new();
        loop {
            let ended = match self.follow(&mut backoff, &mut told).await {
                Ok(()) => Status::unavailable("it closed the stream"),
                Err(status) => status,
            };
            self.tell(&ended, &mut told);
            sleep(backoff.next(&mut rng)).await;
        }
    }

    /// One stream, from opening it to its end.
    async fn follow(&self, backoff: &mut Backoff, told: &mut String) -> Result<(), Status> {
        let client = SpiffeWorkloadApiClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut request = Request::new(X509svidRequest {});
        request.metadata_mut().insert(SECURITY_HEADER, AsciiMetadataValue::from_static("true"));
        let mut messages = client.fetch_x509svid(request).await?.into_inner();
        let mut changes = self.shared.demand.changes().listen();
        let (mut last, mut looked_for) = (None, None);
        loop {
            tokio::select! {
                message = messages.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    backoff.reset();
                    told.clear();
                    (last, looked_for) = (Some(message), None);
                }
                Ok(()) = changes.changed() => {}
            }
            // Whom to look for is known once the mesh has said what its trust domain is.
            let Some(Ok(own)) = self.workload.id(&self.shared) else { continue };
            if let Some(message) = &last
                && looked_for.as_ref() != Some(&own)
            {
                self.take(message, &own);
                looked_for = Some(own);
            }
        }
    }

    fn take(&self, message: &X509svidResponse, own: &SpiffeId) {
        if !message.crl.is_empty() {
            tracing::warn!(
                lists = message.crl.len(),
                "the Workload API sent revocation lists: they are not applied"
            );
        }
        let offer = match svid::choose(message, own) {
            Ok(offer) => offer,
            Err(error) => {
                tracing::error!(socket = %self.socket.display(), %error, "no identity from the Workload API; what is in force stays");
                return;
            }
        };
        if let Err(error) = self.identity.take(own, offer) {
            tracing::error!(socket = %self.socket.display(), %error, "the identity from the Workload API is refused; what is in force stays");
        }
    }

    /// A failure is told once, not each time it is met again.
    fn tell(&self, status: &Status, told: &mut String) {
        let why = match status.code() {
            Code::PermissionDenied => format!(
                "it has no identity for this process yet; is there a registration entry for {}/{}? ({})",
                self.workload.namespace,
                self.workload.service_account,
                status.message()
            ),
            code => format!("{code:?}: {}", status.message()),
        };
        if *told != why {
            tracing::warn!(socket = %self.socket.display(), why, "no word from the Workload API: what is in force stays, and it is asked again");
            *told = why;
        }
    }
}

#[cfg(test)]
mod tests;
