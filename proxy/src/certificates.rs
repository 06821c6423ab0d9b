//! The life of a certificate: asked for, checked, published, renewed.
//!
//! The key is made here and never leaves the process. What comes back is checked before it replaces anything: chain,
//! validity, and that the identity is our own. Client and server side are published together; handshakes only ever see
//! a complete pair. Renewal begins at two thirds of life; a renewal that fails keeps what is valid and is tried again,
//! louder as time runs out. Not here: who may have which identity, which is the control plane's decision.

use std::sync::Arc;
use std::time::Duration;

use outrigger_base::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use outrigger_base::ca::{IstioCertificateRequest, IstioCertificateResponse};
use outrigger_base::keys::WorkloadKey;
use outrigger_base::telemetry::metrics::{Gauge, Kind, MetricSpec};
use outrigger_model::identity::SpiffeId;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

use crate::demand::Changes;
use crate::worker::Shared;
use crate::xds::{Backoff, ControlPlane, TokenError};

mod issued;
mod schedule;

pub use issued::{CertificateView, Issued};

use issued::{Refused, accept};
use schedule::Schedule;

/// The metric of this module.
pub const METRICS: &[MetricSpec] = &[MetricSpec {
    name: "outrigger_certificate_expiration_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the certificate of this workload expires, in seconds since 1970.",
    labels: &[],
}];

/// How long a certificate is asked for.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The shortest and the longest wait between tries, while there is a certificate.
const RENEWAL_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The longest wait while there is none: the workload waits for it.
const FIRST_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Whose certificate it is, by the flags; the trust domain is the mesh's to say.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Whom the mesh trusts.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Whoever stands last in the chain that the control plane answers with.
    FromChain,
    /// The certificates of `--trust-bundle`.
    Bundle(Vec<CertificateDer<'static>>),
}

/// What keeps a workload's certificate valid.
pub struct Certificates {
    shared: Arc<Shared>,
    control_plane: ControlPlane,
    workload: Workload,
    roots: Roots,
    changes: Changes,
    issued: watch::Sender<Option<Arc<Issued>>>,
    expiration: Gauge,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum IssueError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Key(#[from] outrigger_base::keys::KeyError),
    #[error("the authority did not answer within {CALL_TIMEOUT:?}")]
    Timeout,
    #[error("the authority answered {:?}: {}", .0.code(), .0.message())]
    Call(Box<tonic::Status>),
    #[error("the certificate that the authority sent is refused: {0}")]
    Refused(#[from] Refused),
}

impl Certificates {
    /// For a workload that has a token.
    pub fn new(shared: Arc<Shared>, control_plane: ControlPlane, workload: Workload, roots: Roots) -> Self {
        let registry = shared.telemetry.registry();
        registry.declare(METRICS);
        let expiration = registry.gauge(METRICS[0].name, Vec::new());
        let changes = shared.demand.changes().clone();
        let issued = watch::Sender::new(None);
        Self { shared, control_plane, workload, roots, changes, issued, expiration }
    }

    /// The certificate in force, for people.
    pub fn issued(&self) -> watch::Receiver<Option<Arc<Issued>>> {
        self.issued.subscribe()
    }

    /// Runs for ever.
    pub async fn run(self) {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(RENEWAL_BACKOFF.0, RENEWAL_BACKOFF.1);
        let mut in_force: Option<(SpiffeId, Schedule)> = None;
        loop {
            let id = self.own_id().await;
            let error = match self.issue(&id).await {
                Ok(issued) => {
                    backoff.reset();
                    let schedule = Schedule::of(&issued.facts, rustls::pki_types::UnixTime::now(), &mut rng);
                    self.publish(issued);
                    self.until_due(&id, schedule.renew_at).await;
                    in_force = Some((id, schedule));
                    continue;
                }
                Err(error) => error,
            };
            let wait = backoff.next(&mut rng);
            match &in_force {
                Some((known, schedule)) if *known == id && Instant::now() < schedule.expires_at => {
                    tell_renewal_failed(&error, schedule, Instant::now());
                    sleep(wait).await;
                }
                _ => {
                    tracing::warn!(identity = %id, %error, "no certificate: neither mutual TLS nor readiness until there is one");
                    sleep(wait.min(FIRST_BACKOFF_MAX)).await;
                }
            }
        }
    }

    /// Our identity, once the mesh has said what its trust domain is.
    async fn own_id(&self) -> SpiffeId {
        let mut changes = self.changes.listen();
        loop {
            match self.id_of_now() {
                Some(Ok(id)) => return id,
                Some(Err(error)) => tracing::error!(%error, "this workload can have no identity"),
                None => {}
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn id_of_now(&self) -> Option<Result<SpiffeId, outrigger_model::identity::SpiffeIdError>> {
        let snapshot = self.shared.snapshot.load();
        snapshot.inbound.as_ref()?;
        Some(SpiffeId::new(
            &snapshot.mesh.trust_domain,
            &self.workload.namespace,
            &self.workload.service_account,
        ))
    }

    /// Until the certificate is to be renewed, or the mesh has another trust domain.
    async fn until_due(&self, id: &SpiffeId, renew_at: Instant) {
        let mut changes = self.changes.listen();
        let due = sleep(renew_at.saturating_duration_since(Instant::now()));
        tokio::pin!(due);
        loop {
            if matches!(self.id_of_now(), Some(Ok(now)) if now != *id) {
                return;
            }
            tokio::select! {
                () = &mut due => return,
                Ok(()) = changes.changed() => {}
            }
        }
    }

    async fn issue(&self, id: &SpiffeId) -> Result<Issued, IssueError> {
        let key = WorkloadKey::generate()?;
        let mut request = Request::new(IstioCertificateRequest {
            csr: key.csr_pem(id)?,
            validity_duration: VALIDITY.as_secs() as i64,
            metadata: None,
        });
        self.control_plane.authorize(&mut request)?;
        let client = IstioCertificateServiceClient::new(self.control_plane.channel());
        let mut client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
        let answered = timeout(CALL_TIMEOUT, client.create_certificate(request)).await;
        let answered = answered.map_err(|_| IssueError::Timeout)?;
        let answered = answered.map_err(|status| IssueError::Call(Box::new(status)))?;
        let IstioCertificateResponse { cert_chain } = answered.into_inner();
        Ok(accept(&key, &cert_chain, id, &self.roots)?)
    }

    /// From here on new handshakes use it; open connections end by age.
    fn publish(&self, issued: Issued) {
        let expires = issued.facts.not_after;
        tracing::info!(
            identity = %issued.tls.identity(),
            serial = issued.facts.serial,
            expires = outrigger_base::identity::date(expires),
            "certificate in force"
        );
        self.expiration.set(expires.as_secs() as f64);
        self.shared.tls.store(Some(issued.tls.clone()));
        self.issued.send_replace(Some(Arc::new(issued)));
        self.changes.ring();
    }
}

/// In the first half of what is left it is routine; after that somebody should look.
fn tell_renewal_failed(error: &IssueError, schedule: &Schedule, now: Instant) {
    let left = schedule.expires_at.saturating_duration_since(now);
    let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
    if now >= schedule.alarm_at {
        tracing::warn!(%error, valid_for = %left, "certificate not renewed");
    } else {
        tracing::info!(%error, valid_for = %left, "certificate not renewed yet");
    }
}

#[cfg(test)]
mod tests;
