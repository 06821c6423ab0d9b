//! The root in a cluster: a Secret that all replicas share, made by whoever comes first.
//!
//! It has the shape that cert-manager and `kubectl create secret tls` give it, so that the root of an organisation can
//! be put there. While the control plane runs, it looks at the Secret again: another good root is taken over, a broken one is
//! reported and the root in use stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::sleep;

use crate::ca::Authority;
use crate::ca::root::{Flaw, MadeRoot, Root, RootPems, SignError};
use crate::kubernetes::calls::{Refused, patiently};
use crate::kubernetes::names::{AUTHORITIES_KEY, ROOT_SECRET};

/// How often the Secret is looked at: a root is exchanged once in years.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The keys of a Secret for TLS, as Kubernetes names them.
const CERTIFICATE_KEY: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
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

    /// Looks at the Secret again and again and has `authority` sign with what it holds; never ends by itself.
    pub async fn follow(self, authority: Arc<Authority>) {
        let mut told = String::new();
        loop {
            sleep(LOOK_AGAIN).await;
            let said = match self.secrets.get_opt(ROOT_SECRET).await {
                Ok(Some(secret)) => self.take(&secret, &authority),
                Ok(None) => Err(SecretError::Gone { namespace: self.namespace.clone() }),
                // That the API is away or refuses is said by those who watch it.
                Err(_) => continue,
            };
            let line = said.err().map(|error| error.to_string()).unwrap_or_default();
            if !line.is_empty() && line != told {
                tracing::error!("{line}; the root in use stays until the control plane is restarted");
            }
            told = line;
        }
    }

    fn take(&self, secret: &Secret, authority: &Authority) -> Result<(), SecretError> {
        if authority.replace(self.read(secret, SystemTime::now())?) {
            tracing::warn!("Secret/{}/{ROOT_SECRET} has another root; it signs from now on", self.namespace);
        }
        Ok(())
    }

    async fn create(&self, secret: &Secret) -> Result<Created, kube::Error> {
        match self.secrets.create(&PostParams::default(), secret).await {
            Ok(_) => Ok(Created::Ours),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Created::SomebodyElses),
            Err(error) => Err(error),
        }
    }

    fn read(&self, secret: &Secret, now: SystemTime) -> Result<Root, SecretError> {
        let broken = |key, why: &dyn std::fmt::Display| SecretError::Broken {
            namespace: self.namespace.clone(),
            key,
            why: why.to_string(),
        };
        let text = |key| {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            let bytes = data.ok_or_else(|| broken(key, &"is missing"))?;
            std::str::from_utf8(&bytes.0).map_err(|_| broken(key, &"is not PEM"))
        };
        let (key, certificate) = (text(PRIVATE_KEY)?, text(CERTIFICATE_KEY)?);
        // What other tools write may lack it; the certificate stands for itself then.
        let authorities = text(AUTHORITIES_KEY).ok();
        let pems = RootPems { key, certificate, authorities };
        Root::from_pems(&pems, now).map_err(|flaw| {
            let key = match flaw {
                Flaw::Key(_) => PRIVATE_KEY,
                Flaw::Certificate(_) => CERTIFICATE_KEY,
                Flaw::Authorities(_) => AUTHORITIES_KEY,
            };
            broken(key, &flaw.why())
        })
    }
}

/// Who made the Secret.
enum Created {
    Ours,
    SomebodyElses,
}

fn written(made: &MadeRoot) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = BTreeMap::from([
        (CERTIFICATE_KEY.to_owned(), bytes(&made.certificate)),
        (PRIVATE_KEY.to_owned(), bytes(&made.key)),
        (AUTHORITIES_KEY.to_owned(), bytes(&made.certificate)),
    ]);
    let metadata = ObjectMeta { name: Some(ROOT_SECRET.to_owned()), ..ObjectMeta::default() };
    Secret { metadata, data: Some(data), type_: Some(TLS_TYPE.to_owned()), ..Secret::default() }
}

#[cfg(test)]
mod tests;
