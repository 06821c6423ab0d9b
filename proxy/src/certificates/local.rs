//! The identity of this workload as it stands: certificate and key, whom it trusts, and the TLS that is made of all three.
//!
//! Certificates come from an authority or a Workload API, trust from the configuration. Whichever changes makes the TLS
//! anew with the other as it is, at once; what cannot be used changes nothing. Open connections end by age.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_base::identity::date;
use outrigger_base::telemetry::metrics::{Gauge, Kind, MetricSpec};
use outrigger_base::tls::{Credentials, MeshTls, stands_under};
use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::Trust;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::sync::watch;

use super::bundle::TrustFile;
use super::issued::{Issued, Refused, sha256};
use crate::worker::Shared;

/// The metrics of certificates.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: "outrigger_certificate_expiration_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the certificate of this workload expires, in seconds since 1970.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_certificate_alarm",
        kind: Kind::Gauge,
        help: "1 when the certificate of this workload is expired, or was not renewed for so long that it soon will be.",
        labels: &[],
    },
];

/// What this workload is to its peers.
pub struct LocalIdentity {
    shared: Arc<Shared>,
    /// `--trust-bundle`.
    file: Option<Arc<TrustFile>>,
    state: Mutex<State>,
    issued: watch::Sender<Option<Arc<Issued>>>,
}

#[derive(Default)]
struct State {
    /// What the configuration says.
    configured: Option<Arc<Trust>>,
    held: Option<Held>,
    /// The configuration's trust is not in force, because our own certificate would be refused under it.
    is_at_odds: bool,
}

/// A certificate that was taken.
struct Held {
    own: SpiffeId,
    offer: Offer,
}

/// A certificate with its key, as it comes.
pub struct Offer {
    /// Leaf first; the root may be its end.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// What came with it.
    pub trust: OfferedTrust,
}

/// Whom the source of a certificate trusts.
#[derive(Debug, Clone)]
pub enum OfferedTrust {
    /// It does not say.
    Unsaid,
    /// Believed as long as neither configuration nor `--trust-bundle` says anything.
    Presumed(Trust),
    /// Believed beside whatever else is.
    Vouched(Trust),
}

impl LocalIdentity {
    /// Of a workload that has no certificate yet. `file` is `--trust-bundle`.
    pub fn new(shared: Arc<Shared>, file: Option<Arc<TrustFile>>) -> Arc<Self> {
        shared.telemetry.registry().declare(METRICS);
        Arc::new(Self { shared, file, state: Mutex::default(), issued: watch::Sender::new(None) })
    }

    /// The certificate in force, and each that follows.
    pub fn issued(&self) -> watch::Receiver<Option<Arc<Issued>>> {
        self.issued.subscribe()
    }

    /// The TLS in force.
    pub fn in_force(&self) -> Option<Arc<MeshTls>> {
        self.shared.tls.load_full()
    }

    /// Takes a certificate for `own` and puts it in force, or says why not and leaves everything as it is.
    ///
    /// # Errors
    /// What is wrong with it, or that it does not stand under a root that we trust.
    pub fn take(&self, own: &SpiffeId, offer: Offer) -> Result<Arc<Issued>, Refused> {
        let mut state = self.state();
        let held = Held { own: own.clone(), offer };
        let issued = Arc::new(self.build(&held, state.configured.as_deref())?);
        (state.held, state.is_at_odds) = (Some(held), false);
        let expires = issued.facts.not_after;
        tracing::info!(
            identity = %own,
            serial = issued.facts.serial,
            expires = date(expires),
            "certificate in force"
        );
        self.publish(issued.clone());
        Ok(issued)
    }

    /// Trusts whom the configuration says, in handshakes from here on. It may come before the first certificate.
    ///
    /// # Errors
    /// Why the TLS in force stays as it was: our own certificate would be refused. It is made anew with the next certificate.
    pub fn trust(&self, configured: Option<&Arc<Trust>>) -> Result<(), Refused> {
        let mut state = self.state();
        if state.configured.as_ref() == configured {
            return Ok(());
        }
        (state.configured, state.is_at_odds) = (configured.cloned(), false);
        let Some(held) = &state.held else { return Ok(()) };
        if self.awaits_another(held, configured) {
            tracing::info!("the trust of the configuration waits for another certificate of our own");
            return Ok(());
        }
        match self.build(held, configured.map(Arc::as_ref)) {
            Ok(issued) => {
                tracing::info!(
                    roots = issued.roots.len(),
                    federated = issued.federated.len(),
                    "trust in force"
                );
                self.publish(Arc::new(issued));
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the trust of the configuration does not go with our certificate; what was trusted stays until there is another");
                state.is_at_odds = true;
                self.ring();
                Err(error)
            }
        }
    }

    /// The trust of the configuration.
    pub fn configured(&self) -> Option<Arc<Trust>> {
        self.state().configured.clone()
    }

    /// The roots of our own trust domain, as the configuration says.
    pub fn own_roots(&self) -> Vec<CertificateDer<'static>> {
        let configured = self.configured();
        let own = configured.as_ref().and_then(|trust| trust.bundles.first());
        own.into_iter().flat_map(|own| &own.roots).map(|root| root.to_vec().into()).collect()
    }

    /// Whether certificates are signed under another root now than the one that ours stands under.
    pub fn is_under_an_old_root(&self, now: UnixTime) -> bool {
        let state = self.state();
        let (Some(trust), Some(held)) = (&state.configured, &state.held) else { return false };
        let Some(signer) = trust.signer else { return false };
        let own = trust.of(held.own.trust_domain());
        let root = own.and_then(|own| own.roots.iter().find(|root| sha256(root) == signer));
        root.is_some_and(|root| !stands_under(&held.offer.chain, root, now))
    }

    /// Whether the configuration's trust waits for another certificate of our own.
    pub(super) fn is_at_odds(&self) -> bool {
        self.state().is_at_odds
    }

    /// The gauge of the alarm.
    pub(super) fn alarm(&self) -> Gauge {
        self.shared.telemetry.registry().gauge(METRICS[1].name, Vec::new())
    }

    /// Wakes whoever looks at what is in force.
    pub(super) fn ring(&self) {
        self.shared.demand.changes().ring();
    }

    /// Whether another certificate is due anyway: ours is over, or the mesh has another name.
    fn awaits_another(&self, held: &Held, configured: Option<&Arc<Trust>>) -> bool {
        let mesh = configured.and_then(|trust| trust.bundles.first());
        let is_renamed = mesh.is_some_and(|mesh| *mesh.trust_domain != *held.own.trust_domain());
        let is_over = |issued: &Arc<Issued>| issued.facts.check_time(UnixTime::now()).is_err();
        is_renamed || self.issued.borrow().as_ref().is_some_and(is_over)
    }

    fn build(&self, held: &Held, configured: Option<&Trust>) -> Result<Issued, Refused> {
        let Held { own, offer } = held;
        let trust = self.trust_for(own, &offer.trust, configured).ok_or(Refused::NoRoot)?;
        let mut chain = offer.chain.clone();
        // Peers have the root already.
        let is_root = |last: &CertificateDer<'_>| {
            trust.bundles.iter().any(|bundle| bundle.roots.iter().any(|root| **root == **last))
        };
        if chain.len() > 1 && chain.last().is_some_and(is_root) {
            chain.pop();
        }
        Issued::build(Credentials { chain, key: offer.key.clone_key(), trust }, own)
    }

    /// Everybody who is trusted, the own trust domain first.
    fn trust_for(&self, own: &SpiffeId, offered: &OfferedTrust, configured: Option<&Trust>) -> Option<Trust> {
        let own = own.trust_domain();
        let from_file = || {
            let roots = self.file.as_ref()?.roots();
            Some(Trust::alone(own, roots.iter().map(|root| Arc::from(root.as_ref()))))
        };
        let said = configured.filter(|trust| trust.of(own).is_some()).cloned().or_else(from_file);
        let mut trust = match (said, offered) {
            (Some(said), OfferedTrust::Vouched(offered)) => said.united(offered),
            (Some(said), _) => said,
            (None, OfferedTrust::Vouched(offered) | OfferedTrust::Presumed(offered)) => offered.clone(),
            (None, OfferedTrust::Unsaid) => return None,
        };
        trust.bundles.sort_by_key(|bundle| *bundle.trust_domain != *own);
        Some(trust)
    }

    /// From here on new handshakes use it.
    fn publish(&self, issued: Arc<Issued>) {
        let expiration = self.shared.telemetry.registry().gauge(METRICS[0].name, Vec::new());
        expiration.set(issued.facts.not_after.as_secs() as f64);
        self.shared.tls.store(Some(issued.tls.clone()));
        self.issued.send_replace(Some(issued));
        self.ring();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LocalIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIdentity")
            .field("issued", &self.issued.borrow().is_some())
            .finish_non_exhaustive()
    }
}
