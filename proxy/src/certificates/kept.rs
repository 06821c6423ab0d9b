//! The certificate and its key on disk (`--state-identity`), so that a proxy that starts while the control plane is away is
//! believed by its peers at once.
//!
//! Off unless the flag says so: otherwise a key never leaves the memory of its process, and one that an earlier process
//! kept is removed. What is restored is taken like any certificate that comes: it must be our own, valid, and stand under a
//! root that is trusted.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_model::identity::SpiffeId;
use outrigger_model::trust::{Trust, TrustBundle};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Issued, LocalIdentity, Offer, OfferedTrust};
use crate::state::{Kept, StateDir};

/// The name of the file.
const FILE: &str = "identity";
/// It is written again after this share of its permitted age, because the process that uses it is there.
const REFRESH_SHARE: u32 = 8;
/// And at the latest after this.
const REFRESH_AFTER: Duration = Duration::from_secs(600);

/// What the file holds: DER in base64.
#[derive(Serialize, Deserialize)]
struct Content {
    chain: Vec<String>,
    /// PKCS #8.
    key: String,
    trust: Vec<Bundle>,
}

#[derive(Serialize, Deserialize)]
struct Bundle {
    trust_domain: String,
    roots: Vec<String>,
}

/// Why a file is of no use although it is whole.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it is not what this version writes: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is not what this version writes: {0}")]
    Base64(#[from] base64::DecodeError),
}

/// Puts the certificate in force that an earlier process of `own` kept, if it may be used; otherwise a line says why not.
pub fn restore(state: &StateDir, identity: &LocalIdentity, own: &SpiffeId, now: SystemTime) {
    let Some(kept) = state.read(FILE, now) else { return };
    let taken = match offer(&kept.content) {
        Ok(offer) => identity.take(own, offer).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match taken {
        Ok(_) => {
            tracing::info!(identity = %own, "the certificate of the process before is in force until it is renewed")
        }
        Err(error) => {
            let path = state.path(FILE);
            tracing::warn!(path = %path.display(), error, "the certificate kept on disk is not used");
        }
    }
}

/// Removes what an earlier process kept.
///
/// # Errors
/// When there is a key that cannot be removed.
pub fn forget(state: &StateDir) -> io::Result<()> {
    if state.remove(FILE)? {
        tracing::info!("the key that an earlier process kept is removed: --state-identity is off");
    }
    Ok(())
}

/// Keeps the certificate in force, and each that follows, for ever.
pub async fn keep(state: Arc<StateDir>, identity: Arc<LocalIdentity>) {
    let refresh_after = REFRESH_AFTER.min(state.max_age() / REFRESH_SHARE);
    let mut issued = identity.issued();
    loop {
        let current = issued.borrow_and_update().clone();
        if let Some(current) = current {
            let state = state.clone();
            // The disk may be slow, and handshakes wait for nothing. Whoever is cut off here is at the end of the process.
            let _ = tokio::task::spawn_blocking(move || write(&state, &current)).await;
        }
        if let Ok(Err(_)) = timeout(refresh_after, issued.changed()).await {
            std::future::pending::<()>().await;
        }
    }
}

fn write(state: &StateDir, issued: &Issued) {
    let content = content(issued).map_err(io::Error::other);
    let written = content.and_then(|content| state.write(FILE, &Kept { content, as_of: SystemTime::now() }));
    if let Err(error) = written {
        let path = state.path(FILE);
        tracing::warn!(path = %path.display(), %error, "the certificate in force could not be kept on disk");
    }
}

fn content(issued: &Issued) -> Result<Vec<u8>, String> {
    let credentials = &issued.credentials;
    let PrivateKeyDer::Pkcs8(key) = &credentials.key else {
        return Err("its key does not have the form PKCS #8".to_owned());
    };
    let bundle = |bundle: &TrustBundle| Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        roots: bundle.roots.iter().map(|root| STANDARD.encode(root)).collect(),
    };
    let content = Content {
        chain: credentials.chain.iter().map(|certificate| STANDARD.encode(certificate)).collect(),
        key: STANDARD.encode(key.secret_pkcs8_der()),
        trust: credentials.trust.bundles.iter().map(bundle).collect(),
    };
    serde_json::to_vec(&content).map_err(|error| error.to_string())
}

fn offer(content: &[u8]) -> Result<Offer, Unreadable> {
    let Content { chain, key, trust } = serde_json::from_slice(content)?;
    let chain = chain.iter().map(|der| Ok(CertificateDer::from(STANDARD.decode(der)?)));
    let bundles = trust.iter().map(|bundle| {
        let roots = bundle.roots.iter().map(|root| Ok(Arc::from(STANDARD.decode(root)?)));
        Ok(TrustBundle {
            trust_domain: bundle.trust_domain.as_str().into(),
            roots: roots.collect::<Result<_, Unreadable>>()?,
        })
    });
    let trust = Trust { bundles: bundles.collect::<Result<_, Unreadable>>()?, signer: None };
    Ok(Offer {
        chain: chain.collect::<Result<_, Unreadable>>()?,
        key: PrivatePkcs8KeyDer::from(STANDARD.decode(key)?).into(),
        trust: OfferedTrust::Presumed(trust),
    })
}

#[cfg(test)]
mod tests;
