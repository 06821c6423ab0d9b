//! The root in a cluster: a Secret that all replicas share, made by whoever comes first.
//!
//! It has the shape that cert-manager and `kubectl create secret tls` give it, so that the root of an organisation can
//! be put there. While a root of ours takes over from another, it also holds the next root and how far that is (`rotation.rs`);
//! it changes as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::ca::root::{Flaw, MadeRoot, Root, SignError};
use crate::ca::rotation::{Journal, Phase, State};
use crate::kubernetes::calls::{Refused, patiently};
use crate::kubernetes::names::{AUTHORITIES_KEY, ROOT_SECRET};

/// The keys of a Secret for TLS, as Kubernetes names them.
const CERTIFICATE_KEY: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
const NEXT_CERTIFICATE_KEY: &str = "next.crt";
const NEXT_PRIVATE_KEY: &str = "next.key";
const JOURNAL_KEY: &str = "rotation.json";
const TLS_TYPE: &str = "kubernetes.io/tls";

/// The Secret with the root, in the namespace of the control plane.
#[derive(Clone)]
pub struct RootSecret {
    secrets: Api<Secret>,
    namespace: Arc<str>,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The Secret is there but cannot be used.
    #[error(
        "Secret/{namespace}/{ROOT_SECRET}: {key}: {why}; put a good one there (kubectl create secret tls), or delete \
             the Secret and restart the control plane to have a new root made (no workload trusts it until it gets a new \
             certificate)"
    )]
    Broken {
        /// The namespace of the Secret.
        namespace: Arc<str>,
        /// The key of the Secret that is wrong.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It was there and is not any more.
    #[error("Secret/{namespace}/{ROOT_SECRET} is gone; restore it from a backup")]
    Gone {
        /// The namespace of the Secret.
        namespace: Arc<str>,
    },
    /// None can be made.
    #[error("no root can be made: {0}")]
    Make(#[from] SignError),
}

impl RootSecret {
    /// The Secret of the control plane in `namespace`.
    pub fn new(client: Client, namespace: &Arc<str>) -> Self {
        Self { secrets: Api::namespaced(client, namespace), namespace: namespace.clone() }
    }

    /// Reads the root, makes it when there is none. Of several replicas that make one at once, one wins and the others
    /// read what it made. Waits for an API that is away.
    pub async fn open(&self, now: SystemTime) -> Result<Root, SecretError> {
        loop {
            if let Some(secret) = patiently("the root key", || self.secrets.get_opt(ROOT_SECRET)).await? {
                return self.read(&secret, now);
            }
            let made = MadeRoot::new(now)?;
            let secret = written(&made);
            match patiently("the root key", || self.create(&secret)).await? {
                Created::Ours => {
                    tracing::info!("made a new root certificate in Secret/{}/{ROOT_SECRET}", self.namespace);
                    return self.read(&secret, now);
                }
                Created::SomebodyElses => {}
            }
        }
    }

    /// The authority that is there, and the rotation that is under way.
    pub async fn look(&self, now: SystemTime) -> Result<(Root, Option<Journal>), SecretError> {
        let found = self.secrets.get_opt(ROOT_SECRET).await;
        let found = found.map_err(|error| Refused::new("the root key", error))?;
        let secret = found.ok_or_else(|| SecretError::Gone { namespace: self.namespace.clone() })?;
        let state = state_of(&secret).map_err(|bad| self.broken(bad))?;
        Ok((self.authority(&state, now)?, state.journal))
    }

    async fn create(&self, secret: &Secret) -> Result<Created, kube::Error> {
        match self.secrets.create(&PostParams::default(), secret).await {
            Ok(_) => Ok(Created::Ours),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Created::SomebodyElses),
            Err(error) => Err(error),
        }
    }

    fn read(&self, secret: &Secret, now: SystemTime) -> Result<Root, SecretError> {
        let state = state_of(secret).map_err(|bad| self.broken(bad))?;
        self.authority(&state, now)
    }

    fn authority(&self, state: &State, now: SystemTime) -> Result<Root, SecretError> {
        let (key, certificate) = match state.next_signs() {
            true => (NEXT_PRIVATE_KEY, NEXT_CERTIFICATE_KEY),
            false => (PRIVATE_KEY, CERTIFICATE_KEY),
        };
        state.authority(now).map_err(|flaw| {
            let key = match flaw {
                Flaw::Key(_) => key,
                Flaw::Certificate(_) => certificate,
                Flaw::Authorities(_) => AUTHORITIES_KEY,
            };
            self.broken(BadKey { key, why: flaw.why().to_owned() })
        })
    }

    fn broken(&self, bad: BadKey) -> SecretError {
        SecretError::Broken { namespace: self.namespace.clone(), key: bad.key, why: bad.why }
    }
}

impl fmt::Display for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret/{}/{ROOT_SECRET}", self.namespace)
    }
}

/// A key of a Secret that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct BadKey {
    key: &'static str,
    why: String,
}

/// What a Secret holds. That its certificates are good is not asked here.
pub fn state_of(secret: &Secret) -> Result<State, BadKey> {
    let optional = |key| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        let text = data.map(|bytes| std::str::from_utf8(&bytes.0).map(str::to_owned)).transpose();
        text.map_err(|_| BadKey { key, why: "is not PEM".to_owned() })
    };
    let text = |key| optional(key)?.ok_or_else(|| BadKey { key, why: "is missing".to_owned() });
    let root = MadeRoot { key: text(PRIVATE_KEY)?, certificate: text(CERTIFICATE_KEY)? };
    let next = match (optional(NEXT_PRIVATE_KEY)?, optional(NEXT_CERTIFICATE_KEY)?) {
        (Some(key), Some(certificate)) => Some(MadeRoot { key, certificate }),
        _ => None,
    };
    let journal: Option<Journal> = optional(JOURNAL_KEY)?
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| BadKey { key: JOURNAL_KEY, why: error.to_string() })?;
    if next.is_none() && journal.as_ref().is_some_and(|journal| journal.phase != Phase::Trusting) {
        return Err(BadKey { key: NEXT_CERTIFICATE_KEY, why: "is missing".to_owned() });
    }
    // What other tools write may lack it; the certificate stands for itself then.
    Ok(State { root, bundle: optional(AUTHORITIES_KEY)?, next, journal })
}

/// The data of a Secret that holds this.
pub fn data_of(state: &State) -> BTreeMap<String, ByteString> {
    let bundle = state.bundle.as_ref().unwrap_or(&state.root.certificate);
    let mut texts = vec![
        (CERTIFICATE_KEY, state.root.certificate.clone()),
        (PRIVATE_KEY, state.root.key.clone()),
        (AUTHORITIES_KEY, bundle.clone()),
    ];
    if let Some(next) = &state.next {
        texts.push((NEXT_CERTIFICATE_KEY, next.certificate.clone()));
        texts.push((NEXT_PRIVATE_KEY, next.key.clone()));
    }
    texts.extend(state.journal.as_ref().map(|journal| (JOURNAL_KEY, journal.to_text())));
    texts.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()
}

/// Who made the Secret.
enum Created {
    Ours,
    SomebodyElses,
}

fn written(made: &MadeRoot) -> Secret {
    let data = data_of(&State::of(made.clone()));
    let metadata = ObjectMeta { name: Some(ROOT_SECRET.to_owned()), ..ObjectMeta::default() };
    Secret { metadata, data: Some(data), type_: Some(TLS_TYPE.to_owned()), ..Secret::default() }
}

#[cfg(test)]
mod tests;
