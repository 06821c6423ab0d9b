//! The life of a certificate: asked for, checked, published, renewed.
//!
//! The key is made here and never leaves the process. What comes back is checked before it replaces anything: chain,
//! validity, and that the identity is our own. Client and server side are published together ([`LocalIdentity`]); handshakes
//! only ever see a complete pair. Renewal begins at two thirds of life, or soon after another root began to sign; a renewal
//! that fails keeps what is valid and is tried again, louder as time runs out. Not here: who may have which identity, which is
//! the control plane's decision.

use std::sync::Arc;
use std::time::Duration;

use outrigger_base::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use outrigger_base::ca::{IstioCertificateRequest, IstioCertificateResponse};
use outrigger_base::keys::{WorkloadKey, parse_chain_pem};
use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use outrigger_model::trust::Trust;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Request;

use crate::demand::Changes;
use crate::worker::Shared;
use crate::xds::{Backoff, Connection, ControlPlane, TokenError};

pub mod alarm;
mod bundle;
mod issued;
pub mod kept;
mod local;
mod schedule;

pub use bundle::{BundleError, TrustFile};
pub use issued::{CertificateView, Issued, Refused};
pub use local::{LocalIdentity, METRICS, Offer, OfferedTrust};

use schedule::Schedule;

/// How long a certificate is asked for, in seconds: no wish, it is the authority's to say.
const VALIDITY_SECONDS: i64 = 0;
/// How long the authority may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The shortest and the longest wait between tries, while there is a certificate.
const RENEWAL_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The longest wait while there is none: the workload waits for it.
const FIRST_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The field of a request's metadata that says which workload it is for, beside whose identity.
const WORKLOAD: &str = "WORKLOAD";

/// Whose certificate it is, by the flags; the trust domain is the mesh's to say.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The id of its node, as discovery says it.
    pub node: String,
}

impl Workload {
    /// Its identity, once the mesh has said what its trust domain is.
    pub(crate) fn id(&self, shared: &Shared) -> Option<Result<SpiffeId, SpiffeIdError>> {
        let snapshot = shared.snapshot.load();
        snapshot.inbound.as_ref()?;
        Some(SpiffeId::new(&snapshot.mesh.trust_domain, &self.namespace, &self.service_account))
    }

    /// Waits for it.
    pub(crate) async fn own_id(&self, shared: &Shared) -> SpiffeId {
        let mut changes = shared.demand.changes().listen();
        loop {
            match self.id(shared) {
                Some(Ok(id)) => return id,
                Some(Err(error)) => tracing::error!(%error, "this workload can have no identity"),
                None => {}
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What keeps a workload's certificate valid.
pub struct Certificates {
    shared: Arc<Shared>,
    identity: Arc<LocalIdentity>,
    control_plane: ControlPlane,
    workload: Workload,
    changes: Changes,
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
    /// For a workload that can prove who it is.
    pub fn new(
        shared: Arc<Shared>,
        identity: Arc<LocalIdentity>,
        control_plane: ControlPlane,
        workload: Workload,
    ) -> Self {
        let changes = shared.demand.changes().clone();
        Self { shared, identity, control_plane, workload, changes }
    }

    /// Runs for ever. A certificate that is in force already is renewed when its time comes.
    pub async fn run(self) {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(RENEWAL_BACKOFF.0, RENEWAL_BACKOFF.1);
        loop {
            let id = self.workload.own_id(&self.shared).await;
            if let Some(schedule) = self.schedule_of(&id, &mut rng) {
                self.until_due(&id, schedule, &mut rng).await;
            }
            // The mesh may have another name by now.
            while let Err(error) = self.issue(&self.workload.own_id(&self.shared).await).await {
                self.pause(&error, backoff.next(&mut rng), &mut rng).await;
            }
            backoff.reset();
        }
    }

    /// The moments of the certificate in force, when it is one for `id` and is valid.
    fn schedule_of(&self, id: &SpiffeId, rng: &mut fastrand::Rng) -> Option<Schedule> {
        let issued = self.identity.issued().borrow().clone()?;
        let now = UnixTime::now();
        let is_good = issued.tls.identity() == id && issued.facts.check_time(now).is_ok();
        is_good.then(|| Schedule::of(&issued.facts, now, rng))
    }

    /// Until the certificate is to be renewed, the mesh has another trust domain, or no longer trusts the root of ours.
    async fn until_due(&self, id: &SpiffeId, mut schedule: Schedule, rng: &mut fastrand::Rng) {
        let mut changes = self.changes.listen();
        let mut seen: Option<Arc<Trust>> = None;
        loop {
            let is_another = matches!(self.workload.id(&self.shared), Some(Ok(now)) if now != *id);
            if is_another || self.identity.is_at_odds() {
                return;
            }
            let trust = self.identity.configured();
            if trust != seen {
                seen = trust;
                if self.identity.is_under_an_old_root(UnixTime::now()) {
                    schedule = schedule.hastened(Instant::now(), rng);
                    tracing::info!(
                        "another root signs certificates now: this workload asks for one under it soon"
                    );
                }
            }
            tokio::select! {
                () = sleep_until(schedule.renew_at) => return,
                Ok(()) = changes.changed() => {}
            }
        }
    }

    /// Tells of a failure, and waits before the next try.
    async fn pause(&self, error: &IssueError, wait: Duration, rng: &mut fastrand::Rng) {
        let id = self.workload.own_id(&self.shared).await;
        let now = Instant::now();
        let wait = match self.schedule_of(&id, rng) {
            Some(schedule) => {
                tell_renewal_failed(error, &schedule, now);
                schedule.wait(wait, RENEWAL_BACKOFF.0, now)
            }
            None => {
                tracing::warn!(identity = %id, %error, "no certificate: neither mutual TLS nor readiness until there is one");
                wait.min(FIRST_BACKOFF_MAX)
            }
        };
        sleep(wait).await;
    }

    async fn issue(&self, id: &SpiffeId) -> Result<(), IssueError> {
        let key = WorkloadKey::generate()?;
        let csr = key.csr_pem(id)?;
        let connection = self.control_plane.connection();
        let answer = match self.ask(&connection, &csr).await {
            // The certificate may prove nothing any more where the token does.
            Err(IssueError::Call(status)) if connection.is_refused_for_its_certificate(&status) => {
                self.ask(&self.control_plane.connection(), &csr).await?
            }
            answer => answer?,
        };
        let chain = parse_chain_pem(answer.join("\n").as_bytes()).map_err(Refused::Chain)?;
        let trust = presumed_trust(id, &chain);
        self.identity.take(id, Offer { chain, key: key.private_key(), trust })?;
        Ok(())
    }

    async fn ask(&self, connection: &Connection, csr: &str) -> Result<Vec<String>, IssueError> {
        let workload = Value { kind: Some(Kind::StringValue(self.workload.node.clone())) };
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: VALIDITY_SECONDS,
            metadata: Some(Struct { fields: [(WORKLOAD.to_owned(), workload)].into() }),
        });
        connection.authorize(&mut request)?;
        let client = IstioCertificateServiceClient::new(connection.channel());
        let mut client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
        let answered = timeout(CALL_TIMEOUT, client.create_certificate(request)).await;
        let answered = answered.map_err(|_| IssueError::Timeout)?;
        let answered = answered.map_err(|status| IssueError::Call(Box::new(status)))?;
        let IstioCertificateResponse { cert_chain } = answered.into_inner();
        Ok(cert_chain)
    }
}

/// Whoever stands last in the chain is the root, as long as nobody else says who is.
fn presumed_trust(id: &SpiffeId, chain: &[CertificateDer<'static>]) -> OfferedTrust {
    match chain {
        [_, .., root] => OfferedTrust::Presumed(Trust::alone(id.trust_domain(), [root.as_ref().into()])),
        _ => OfferedTrust::Unsaid,
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
