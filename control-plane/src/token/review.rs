//! Workload tokens in a cluster: projected service-account tokens, of which the API server says whose they are.
//!
//! A token counts only when it was made for us (its audience) and is bound to a pod that is there and runs as the
//! service account of the token. Answers are kept for a short time, because a proxy shows its token for each stream and
//! each certificate. When the API server cannot be asked, nobody is refused for good: proxies try again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::kubernetes::calls;
use crate::kubernetes::names::TOKEN_AUDIENCE;
use crate::token::{Caller, MAX_TOKEN_BYTES};

/// How long an answer counts, unless the token ends before.
const KEEP: Duration = Duration::from_secs(60);
/// How long a refusal counts; short, because a pod may be a moment behind its token.
const KEEP_REFUSAL: Duration = Duration::from_secs(2);
/// Answers that are kept.
const MAX_KEPT: usize = 16_384;
/// Reviews at a time; more wait.
const MAX_REVIEWS: usize = 64;
/// How long a review may take, the wait for its turn included.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// What the names of service accounts start with.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Where a review says to which pod a token is bound.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server whose a token is.
pub struct Reviewer {
    client: Client,
    turns: Semaphore,
    kept: Mutex<HashMap<Fingerprint, Kept>>,
}

/// A token without its secret.
type Fingerprint = [u8; SHA256_OUTPUT_LEN];

struct Kept {
    answer: Result<Caller, ReviewError>,
    until: Instant,
}

/// Why a token of a cluster proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The API server does not accept it.
    #[error("the Kubernetes API does not accept the token: {0}")]
    Rejected(String),
    /// It was made for somebody else.
    #[error("the token is not meant for this service: project one with the audience \"{TOKEN_AUDIENCE}\"")]
    Audience,
    /// It is the token of a person or a node.
    #[error("the token is of {0:?}, which is not a service account")]
    NotAServiceAccount(String),
    /// It may be used anywhere.
    #[error("the token is not bound to a pod; only tokens that the kubelet projects into a pod count")]
    Unbound,
    /// The pod is gone, or another one has its name now.
    #[error("the token is bound to pod {0}, which is not there any more or is another one")]
    NoSuchPod(String),
    /// The pod runs as somebody else.
    #[error("the token is of service account {account}, but pod {pod} does not run as it")]
    OtherAccount {
        /// Of the token.
        account: String,
        /// Of the token.
        pod: String,
    },
    /// Nobody can say now.
    #[error("the Kubernetes API cannot be asked about the token now: {0}; try again")]
    Away(String),
}

/// Whose a token is, and the pod it is bound to.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    caller: Caller,
    pod_name: String,
    pod_uid: String,
}

impl Reviewer {
    /// Asks the API that `client` calls.
    pub fn new(client: Client) -> Self {
        Self { client, turns: Semaphore::new(MAX_REVIEWS), kept: Mutex::default() }
    }

    /// Who the token stands for, or why it stands for nobody.
    pub async fn verify(&self, token: &str) -> Result<Caller, ReviewError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ReviewError::Rejected(format!("it is longer than {MAX_TOKEN_BYTES} bytes")));
        }
        let fingerprint = fingerprint(token);
        if let Some(answer) = self.known(&fingerprint, Instant::now()) {
            return answer;
        }
        let answer = match timeout(REVIEW_TIMEOUT, self.review(token)).await {
            Ok(answer) => answer,
            Err(_) => Err(ReviewError::Away(format!("no answer in {} s", REVIEW_TIMEOUT.as_secs()))),
        };
        let left = life_left(token, SystemTime::now());
        if let Some(keep) = keep(&answer, left) {
            self.keep(fingerprint, answer.clone(), Instant::now() + keep);
        }
        answer
    }

    async fn review(&self, token: &str) -> Result<Caller, ReviewError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await.map_err(away)?;
        let claim = claim(reviewed.status.unwrap_or_default())?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &claim.caller.namespace);
        let pod = pods.get_opt(&claim.pod_name).await.map_err(away)?;
        runs_as(pod.as_ref(), claim)
    }

    fn known(&self, fingerprint: &Fingerprint, now: Instant) -> Option<Result<Caller, ReviewError>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(fingerprint).filter(|kept| now < kept.until).map(|kept| kept.answer.clone())
    }

    fn keep(&self, fingerprint: Fingerprint, answer: Result<Caller, ReviewError>, until: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            let now = Instant::now();
            kept.retain(|_, kept| now < kept.until);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(fingerprint, Kept { answer, until });
        }
    }
}

impl ReviewError {
    /// One word for metrics and logs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Audience => "audience",
            Self::NotAServiceAccount(_) => "not_a_service_account",
            Self::Unbound => "unbound",
            Self::NoSuchPod(_) => "no_such_pod",
            Self::OtherAccount { .. } => "other_account",
            Self::Away(_) => "away",
        }
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

fn away(error: kube::Error) -> ReviewError {
    ReviewError::Away(calls::line(&error))
}

/// Whose the token is, from what the API server says of it.
fn claim(status: TokenReviewStatus) -> Result<Claim, ReviewError> {
    if status.authenticated != Some(true) {
        let why = status.error.filter(|why| !why.is_empty());
        return Err(ReviewError::Rejected(why.unwrap_or_else(|| "it is not valid".to_owned())));
    }
    // An API server that knows no audiences answers without any, and would take a token for anybody.
    if !status.audiences.iter().flatten().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err(ReviewError::Audience);
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|account| account.split_once(':'));
    let Some((namespace, service_account)) = account else {
        return Err(ReviewError::NotAServiceAccount(username));
    };
    let extra = user.extra.unwrap_or_default();
    let (Some(pod_name), Some(pod_uid)) = (only(&extra, POD_NAME), only(&extra, POD_UID)) else {
        return Err(ReviewError::Unbound);
    };
    let caller = Caller { namespace: namespace.to_owned(), service_account: service_account.to_owned() };
    Ok(Claim { caller, pod_name, pod_uid })
}

fn only(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key)?.as_slice() {
        [only] if !only.is_empty() => Some(only.clone()),
        _ => None,
    }
}

/// The caller, if the pod of the token is there and runs as it.
fn runs_as(pod: Option<&Pod>, claim: Claim) -> Result<Caller, ReviewError> {
    let name = format!("{}/{}", claim.caller.namespace, claim.pod_name);
    let same = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&*claim.pod_uid));
    let Some(pod) = same else { return Err(ReviewError::NoSuchPod(name)) };
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    match account == Some(&*claim.caller.service_account) {
        true => Ok(claim.caller),
        false => Err(ReviewError::OtherAccount { account: claim.caller.service_account, pod: name }),
    }
}

/// How long an answer may be kept; `None` when it says nothing about the token.
fn keep(answer: &Result<Caller, ReviewError>, life_left: Duration) -> Option<Duration> {
    match answer {
        Ok(_) => Some(KEEP.min(life_left)),
        Err(ReviewError::Away(_)) => None,
        Err(_) => Some(KEEP_REFUSAL),
    }
}

/// How long a token lives on, by its own word; nothing when it does not say.
fn life_left(token: &str, now: SystemTime) -> Duration {
    #[derive(Deserialize)]
    struct Expiry {
        exp: u64,
    }
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let expiry = payload.and_then(|payload| serde_json::from_slice::<Expiry>(&payload).ok());
    let end = expiry.and_then(|expiry| UNIX_EPOCH.checked_add(Duration::from_secs(expiry.exp)));
    end.and_then(|end| end.duration_since(now).ok()).unwrap_or_default()
}

fn fingerprint(token: &str) -> Fingerprint {
    let mut fingerprint = [0; SHA256_OUTPUT_LEN];
    fingerprint.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    fingerprint
}

#[cfg(test)]
mod tests;
