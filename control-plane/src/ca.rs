//! The certificate authority: turns a token and a certificate request into a certificate.
//!
//! The identity comes from the token, never from the request (contracts, section 3). The request gives the public key,
//! proves that its sender holds the private half, and may say how long the certificate should live. This module does
//! not know discovery; it learns the trust domain from the world.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use outrigger_base::ca::istio_certificate_service_server::IstioCertificateService;
use outrigger_base::ca::{IstioCertificateRequest, IstioCertificateResponse};
use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::http::meters::Meters;
use crate::token::Caller;
use crate::token::gate::Gate;
use crate::xds::Hub;
use limit::RateLimit;
use request::{KeyRequest, RequestError};
use root::{Root, SignError};

mod limit;
mod request;
pub mod root;
pub mod secret;
pub mod serving;
pub mod store;

/// The shortest life a certificate gets.
pub const MIN_VALIDITY: Duration = Duration::from_secs(5 * 60);
/// The life a certificate gets when the request does not ask for a shorter one.
pub const MAX_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Signs certificates of workloads.
#[derive(Debug)]
pub struct Authority {
    root: ArcSwap<Root>,
    /// The authorities that workloads trust, as PEM.
    bundle: watch::Sender<Arc<str>>,
    limit: Mutex<RateLimit>,
}

/// Why no certificate is given.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is not one that we sign.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request names somebody else.
    #[error("the request names {named}, but the token is for {caller}; the identity comes from the token")]
    Identity {
        /// Who is named.
        named: String,
        /// Who calls.
        caller: SpiffeId,
    },
    /// No identity can be made of the token.
    #[error("no identity can be made of the token: {0}")]
    Caller(#[from] SpiffeIdError),
    /// The same identity asks too often.
    #[error("{0} asks for certificates too often; try again later")]
    TooOften(SpiffeId),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Authority {
    /// An authority that signs with `root`.
    pub fn new(root: Root) -> Self {
        let bundle = watch::Sender::new(root.bundle().into());
        Self { root: ArcSwap::from_pointee(root), bundle, limit: Mutex::new(RateLimit::default()) }
    }

    /// The root that signs now.
    pub fn root(&self) -> Arc<Root> {
        self.root.load_full()
    }

    /// The authorities that workloads trust, as PEM, now and whenever they change.
    pub fn bundles(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    /// Signs with another root from now on, unless it is the same; whether it is another.
    pub fn replace(&self, root: Root) -> bool {
        let before = self.root.load();
        let same = before.certificate() == root.certificate() && before.bundle() == root.bundle();
        if !same {
            self.bundle.send_replace(root.bundle().into());
            self.root.store(Arc::new(root));
        }
        !same
    }

    /// Signs the key in `csr` for `caller`. The chain is PEM, leaf first, root last. `validity_seconds` is a wish.
    pub fn sign(
        &self,
        caller: &SpiffeId,
        csr: &str,
        validity_seconds: i64,
        now: SystemTime,
    ) -> Result<Vec<String>, Refusal> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !limit.take(caller, Instant::now()) {
            return Err(Refusal::TooOften(caller.clone()));
        }
        drop(limit);
        let request = KeyRequest::parse(csr)?;
        if let Some(named) = request.names().iter().find(|name| *name != caller.as_str()) {
            return Err(Refusal::Identity { named: named.clone(), caller: caller.clone() });
        }
        let root = self.root.load();
        let leaf = root.sign_workload(caller, request.public_key(), validity(validity_seconds), now)?;
        Ok(vec![leaf.pem(), root.pem().to_owned()])
    }
}

impl Refusal {
    /// One word for metrics and logs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Request(error) => error.word(),
            Self::Identity { .. } => "identity",
            Self::Caller(_) => "caller",
            Self::TooOften(_) => "rate_limited",
            Self::Sign(_) => "internal",
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::Request(_) => Code::InvalidArgument,
            Self::Identity { .. } | Self::Caller(_) => Code::PermissionDenied,
            Self::TooOften(_) => Code::ResourceExhausted,
            Self::Sign(_) => Code::Internal,
        }
    }
}

/// The life of a certificate, from what the request asks for in seconds (0 is no wish).
fn validity(seconds: i64) -> Duration {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).clamp(MIN_VALIDITY, MAX_VALIDITY),
        _ => MAX_VALIDITY,
    }
}

/// The gRPC service in front of an [`Authority`].
#[derive(Debug)]
pub struct CertificateService {
    authority: Arc<Authority>,
    gate: Gate,
    hub: Arc<Hub>,
    meters: Meters,
}

impl CertificateService {
    /// A service that signs for whom `gate` lets in, in the trust domain of the world in `hub`.
    pub fn new(authority: Arc<Authority>, gate: Gate, hub: Arc<Hub>, meters: Meters) -> Self {
        Self { authority, gate, hub, meters }
    }

    async fn answer(&self, request: &Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> {
        let unproven = |status: &Status| {
            let away = status.code() == Code::Unavailable;
            self.meters.csr(if away { "unavailable" } else { "unauthenticated" });
        };
        let trust_domain = self.hub.trust_domain();
        let proven = self.gate.certificate(request, &trust_domain).await.inspect_err(unproven)?;
        let caller = &proven.caller;
        let asked = request.get_ref();
        let signed = caller.identity(&trust_domain).map_err(Refusal::from).and_then(|identity| {
            let now = SystemTime::now();
            let chain = self.authority.sign(&identity, &asked.csr, asked.validity_duration, now)?;
            tracing::info!(peer.identity = %identity, "signed a certificate");
            Ok(chain)
        });
        if signed.is_ok() {
            self.gate.use_up(&proven).await.inspect_err(unproven)?;
        }
        self.meters.csr(signed.as_ref().map_or_else(Refusal::word, |_| "issued"));
        signed.map_err(|refusal| {
            let Caller { namespace, service_account } = caller;
            tracing::warn!(reason = refusal.word(), namespace, service_account, "no certificate: {refusal}");
            Status::new(refusal.code(), refusal.to_string())
        })
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let cert_chain = self.answer(&request).await?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

#[cfg(test)]
mod tests;
