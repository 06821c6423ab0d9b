//! The certificate authority: turns a token and a certificate request into a certificate.
//!
//! The identity comes from the token, never from the request (contracts, section 3). The request gives the public key,
//! proves that its sender holds the private half, and may say how long the certificate should live. This module does
//! not know discovery; it learns the trust domain from the world.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use outrigger_base::ca::istio_certificate_service_server::IstioCertificateService;
use outrigger_base::ca::{IstioCertificateRequest, IstioCertificateResponse};
use outrigger_base::identity::date;
use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use prost_types::value::Kind;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::http::meters::Meters;
use crate::token::Caller;
use crate::token::gate::Gate;
use crate::xds::Hub;
use ledger::{Leaf, Ledger};
use limit::RateLimit;
use request::{KeyRequest, RequestError};
use root::{Root, SignError, fingerprint};
use rotation::Journal;

mod chain;
pub mod files;
pub mod kept;
pub mod ledger;
mod limit;
pub mod news;
pub mod place;
mod request;
pub mod root;
pub mod rotation;
pub mod secret;
pub mod serving;
pub mod store;

/// The shortest life of a certificate that may be set.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(5 * 60);
/// The longest life of a certificate that may be set.
pub const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The field of a request's metadata that names its workload: the proxy's node id.
const WORKLOAD_HINT: &str = "WORKLOAD";

/// How long certificates of workloads live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// What a request gets that asks for less.
    pub shortest: Duration,
    /// What a request gets that asks for more, or for nothing.
    pub longest: Duration,
}

/// Signs certificates of workloads.
#[derive(Debug)]
pub struct Authority {
    root: ArcSwap<Root>,
    /// The authorities that workloads trust, as PEM. Changes with every change of the root.
    bundle: watch::Sender<Arc<str>>,
    lifetimes: Lifetimes,
    limit: Mutex<RateLimit>,
    ledger: Mutex<Ledger>,
    rotation: Mutex<Option<Journal>>,
}

/// A certificate that was signed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM: the leaf, what stands above it, the root last.
    pub chain: Vec<String>,
    /// Its serial number in lower case hexadecimal.
    pub serial: Arc<str>,
    /// When it ends.
    pub not_after: SystemTime,
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
    pub fn new(root: Root, lifetimes: Lifetimes) -> Self {
        Self {
            bundle: watch::Sender::new(root.bundle().into()),
            root: ArcSwap::from_pointee(root),
            lifetimes,
            limit: Mutex::default(),
            ledger: Mutex::new(Ledger::new(SystemTime::now())),
            rotation: Mutex::default(),
        }
    }

    /// The same, for a process that has signed nothing before this moment but since then knows of everything: it began before
    /// the root was read or made.
    pub fn remembering_since(self, since: SystemTime) -> Self {
        Self { ledger: Mutex::new(Ledger::new(since)), ..self }
    }

    /// The root that signs now.
    pub fn root(&self) -> Arc<Root> {
        self.root.load_full()
    }

    /// How long certificates live.
    pub fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    /// The authorities that workloads trust, as PEM, now and whenever they or the root that signs change.
    pub fn bundles(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    /// Signs with another root from now on, unless it is the same; whether it is another.
    pub fn replace(&self, root: Root) -> bool {
        let before = self.root.load();
        let same = before.certificate() == root.certificate() && before.bundle() == root.bundle();
        if !same {
            let bundle = root.bundle().into();
            // Whoever is told looks at the root.
            self.root.store(Arc::new(root));
            self.bundle.send_replace(bundle);
        }
        !same
    }

    /// The rotation that is under way.
    pub fn rotation(&self) -> Option<Journal> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far a rotation is.
    pub fn set_rotation(&self, journal: Option<Journal>) {
        *self.rotation.lock().unwrap_or_else(PoisonError::into_inner) = journal;
    }

    /// Looks at what was signed.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs the key of a request for `caller`, whose workload it names if it does.
    pub fn sign(
        &self,
        caller: &SpiffeId,
        asked: &IstioCertificateRequest,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !limit.take(caller, Instant::now()) {
            return Err(Refusal::TooOften(caller.clone()));
        }
        drop(limit);
        let request = KeyRequest::parse(&asked.csr)?;
        if let Some(named) = request.names().iter().find(|name| *name != caller.as_str()) {
            return Err(Refusal::Identity { named: named.clone(), caller: caller.clone() });
        }
        let root = self.root.load();
        let validity = self.lifetimes.of(asked.validity_duration);
        let signed = root.sign_workload(caller, request.public_key(), validity, now)?;
        let (serial, not_after): (Arc<str>, _) = (signed.serial.into(), signed.not_after);
        let chain = [signed.certificate.pem()].into_iter().chain(root.path_pems()).collect();
        let noted = Leaf {
            identity: caller.clone(),
            workload: workload(asked).into(),
            serial: serial.clone(),
            root: fingerprint(root.root_certificate()),
            issued_at: now,
            not_after,
        };
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).note(noted);
        Ok(Issued { chain, serial, not_after })
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

impl Default for Lifetimes {
    fn default() -> Self {
        Self { shortest: SHORTEST_LIFE, longest: Duration::from_secs(24 * 3600) }
    }
}

impl Lifetimes {
    /// The life of a certificate, from what the request asks for in seconds (0 is no wish).
    fn of(self, seconds: i64) -> Duration {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).clamp(self.shortest, self.longest),
            _ => self.longest,
        }
    }
}

/// What the caller calls its workload; a hint that nothing is granted for.
fn workload(asked: &IstioCertificateRequest) -> &str {
    let hint = asked.metadata.as_ref().and_then(|metadata| metadata.fields.get(WORKLOAD_HINT));
    match hint.and_then(|hint| hint.kind.as_ref()) {
        Some(Kind::StringValue(name)) => name,
        _ => "",
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
            let issued = self.authority.sign(&identity, asked, now)?;
            let life = issued.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
            let expires = date(UnixTime::since_unix_epoch(life));
            tracing::info!(peer.identity = %identity, serial = &*issued.serial, expires, "signed a certificate");
            Ok(issued.chain)
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
