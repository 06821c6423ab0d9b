//! Workload tokens for plain hosts: how a proxy that no Kubernetes vouches for proves which workload it is.
//!
//! A token is a JWT signed with ES256 by a key that stays in the data directory. Its claims name a service account,
//! from which the identity in the certificate is made; nothing else the proxy says counts. Only ES256 is accepted,
//! whatever the header of a token asks for (RFC 8725, section 3.1). What a token cannot say of itself, that it was used up
//! or revoked, is kept beside the key ([`records`], [`book`]).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};

use crate::ca::store::{Store, StoreError};

pub mod book;
pub mod gate;
pub mod manage;
pub mod records;
pub mod review;
pub mod standing;

use manage::{Uses, Wanted};

/// Who issues tokens.
const ISSUER: &str = "outrigger";
/// For whom they are (contracts, section 3).
const AUDIENCE: &str = "outrigger";
/// The file of the signing key.
const KEY_FILE: &str = "token-key.pem";
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest life a token may have.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// The service account a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// What a token with a good signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whom it stands for.
    pub caller: Caller,
    /// Its own name.
    pub id: String,
    /// When it was made, in seconds of Unix time.
    pub issued_at: u64,
    /// When it ends, in seconds of Unix time.
    pub expires_at: u64,
    /// Whether one certificate is all it gets.
    pub one_use: bool,
}

/// Signs and verifies tokens.
pub struct TokenKeys {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

/// Why a token cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The data directory or its key cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The namespace or the service account cannot be part of an identity.
    #[error("no identity can be made for this token: {0}")]
    Name(#[from] SpiffeIdError),
    /// The life asked for is out of range.
    #[error("a token lives for 1 second to 366 days; choose another --ttl")]
    Ttl,
    /// Signing failed.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// There is no randomness for its id.
    #[error("the system gives no random bytes for the id of the token; try again")]
    Random,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or one without the claims it needs.
    #[error("the token is not one of ours: {0}")]
    Malformed(String),
    /// Signed in a way that we do not accept, or not at all.
    #[error("the token is signed with {0:?}, only ES256 is accepted")]
    Algorithm(String),
    /// Not signed by our key.
    #[error(
        "the signature of the token is wrong: it was made by another control plane or changed on the way"
    )]
    Forged,
    /// Its time is over.
    #[error("the token has expired; make a new one with: outrigger token create")]
    Expired,
    /// Made for somebody else.
    #[error("the token is not meant for this service: its audience is not \"outrigger\"")]
    Audience,
    /// Made by somebody else.
    #[error("the issuer of the token is not \"outrigger\"")]
    Issuer,
    /// It was for one certificate, and that was given.
    #[error(
        "the token was used already: it was made for one certificate (--one-use); make a new one with: outrigger token create"
    )]
    Used,
    /// It is for one certificate, and nobody can say whether that was given.
    #[error(
        "the control plane has no record of this one-use token; make a new one with: outrigger token create"
    )]
    Unrecorded,
    /// Somebody took it back.
    #[error("the token was revoked; make a new one with: outrigger token create")]
    Revoked,
    /// Somebody took back everything of this identity.
    #[error("the identity is revoked; it can be restored with: outrigger token restore")]
    IdentityRevoked,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    namespace: String,
    service_account: String,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(default, skip_serializing_if = "is_false")]
    one_use: bool,
}

/// What the header of a token says about itself; read apart because libraries refuse to name an unknown algorithm.
#[derive(Deserialize)]
struct ClaimedHeader {
    alg: String,
}

impl TokenKeys {
    /// Reads the key of the data directory, makes it on first use.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let pem = match store.read_key(KEY_FILE)? {
            Some(pem) => pem,
            None => Self::create(store)?,
        };
        let key = KeyPair::from_pem(&pem)
            .ok()
            .filter(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256)
            .ok_or_else(|| {
                let fix = "restore the file, or delete it to have a new key made (tokens made so far end)";
                store.error(KEY_FILE, "is not an ECDSA P-256 key in PEM", fix)
            })?;
        Ok(Self::new(&key))
    }

    fn create(store: &Store) -> Result<String, StoreError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| {
            store.error(KEY_FILE, format_args!("no key can be made: {source}"), "try again")
        })?;
        let pem = key.serialize_pem();
        store.write_key(KEY_FILE, &pem)?;
        Ok(pem)
    }

    fn new(key: &KeyPair) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            signing: EncodingKey::from_ec_der(key.serialized_der()),
            verifying: DecodingKey::from_ec_der(key.der_bytes()),
            validation,
        }
    }

    /// Makes a token that counts as often as it is shown, without a record of it.
    pub fn issue(&self, caller: &Caller, ttl: Duration, now: SystemTime) -> Result<String, IssueError> {
        let wanted = Wanted { caller: caller.clone(), ttl, uses: Uses::Any };
        Ok(self.make(&wanted, now)?.0)
    }

    /// Makes a token; it, and what it says.
    fn make(&self, wanted: &Wanted, now: SystemTime) -> Result<(String, Verified), IssueError> {
        let Wanted { caller, ttl, uses } = wanted;
        SpiffeId::new("cluster.local", &caller.namespace, &caller.service_account)?;
        if *ttl < Duration::from_secs(1) || *ttl > MAX_TTL {
            return Err(IssueError::Ttl);
        }
        let iat = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: caller.subject(),
            namespace: caller.namespace.clone(),
            service_account: caller.service_account.clone(),
            iat,
            exp: iat + ttl.as_secs(),
            jti: token_id()?,
            one_use: *uses == Uses::One,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing)?;
        Ok((token, claims.into()))
    }

    /// What the token says, or why it proves nothing. What is known beside it is not asked here.
    pub fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        check_algorithm(token)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|error| TokenError::from_kind(error.kind()))?
            .claims;
        let subject = claims.sub.clone();
        let verified = Verified::from(claims);
        if subject != verified.caller.subject() {
            return Err(TokenError::Malformed("its subject and its namespace disagree".to_owned()));
        }
        Ok(verified)
    }
}

impl From<Claims> for Verified {
    fn from(claims: Claims) -> Self {
        let Claims { namespace, service_account, jti, iat, exp, one_use, .. } = claims;
        let caller = Caller { namespace, service_account };
        Self { caller, id: jti, issued_at: iat, expires_at: exp, one_use }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "service account {}/{}", self.namespace, self.service_account)
    }
}

impl Caller {
    /// The caller's identity in a trust domain.
    pub fn identity(&self, trust_domain: &str) -> Result<SpiffeId, SpiffeIdError> {
        SpiffeId::new(trust_domain, &self.namespace, &self.service_account)
    }

    fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

impl TokenError {
    /// One word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Algorithm(_) => "algorithm",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Used => "used",
            Self::Unrecorded => "unrecorded",
            Self::Revoked => "revoked",
            Self::IdentityRevoked => "identity_revoked",
        }
    }

    fn from_kind(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Forged,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAlgorithm => Self::Algorithm("another algorithm".to_owned()),
            ErrorKind::MissingRequiredClaim(claim) => Self::Malformed(format!("it has no claim {claim:?}")),
            _ => Self::Malformed("it cannot be read".to_owned()),
        }
    }
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").finish_non_exhaustive()
    }
}

/// Refuses what is too long, not a JWT, or not signed with ES256, before anything is verified.
fn check_algorithm(token: &str) -> Result<(), TokenError> {
    let malformed = |why: &str| TokenError::Malformed(why.to_owned());
    if token.len() > MAX_TOKEN_BYTES {
        return Err(malformed("it is too long"));
    }
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("it is not a JWT"))?;
    let header: ClaimedHeader = serde_json::from_slice(&header).map_err(|_| malformed("it is not a JWT"))?;
    if header.alg != "ES256" {
        return Err(TokenError::Algorithm(header.alg.chars().take(16).collect()));
    }
    Ok(())
}

/// Two tokens never have one id: by it they are revoked and used up.
fn token_id() -> Result<String, IssueError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
