//! Who calls: what a connection and its bearer token prove.
//!
//! Both gRPC services ask here. A token that is there must be good, whatever else the connection proves: a caller that
//! shows a forged one is not treated as one without.

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_model::identity::SpiffeId;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status};

use crate::http::meters::Meters;
use crate::token::review::{ReviewError, Reviewer};
use crate::token::{Caller, TokenError, TokenKeys};

/// The facts about the connection a call came over, put into the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What protects it.
    pub channel: Channel,
}

/// What protects a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Nothing.
    Plaintext,
    /// TLS; with the identity of the client when it showed a certificate of the mesh.
    Tls(Option<SpiffeId>),
}

/// Who says whose a token is.
#[derive(Debug, Clone)]
pub enum Verifier {
    /// Our own keys: the token was made with `outrigger token create`.
    Keys(Arc<TokenKeys>),
    /// The API server of the cluster.
    Cluster(Arc<Reviewer>),
}

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Review(#[from] ReviewError),
}

/// Decides who a caller is.
#[derive(Debug, Clone)]
pub struct Gate {
    verifier: Verifier,
    meters: Meters,
}

impl Gate {
    /// A gate that accepts the tokens for which `verifier` stands.
    pub fn new(verifier: Verifier, meters: Meters) -> Self {
        Self { verifier, meters }
    }

    /// The caller that the bearer token proves; `UNAUTHENTICATED` without one, `UNAVAILABLE` when nobody can say now.
    pub async fn bearer(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        self.token(metadata).await?.ok_or_else(|| {
            Status::unauthenticated(match self.verifier {
                Verifier::Keys(_) => {
                    "a token is needed: authorization: Bearer <outrigger token create ...>"
                }
                Verifier::Cluster(_) => {
                    "a token is needed: authorization: Bearer <projected service-account token, audience outrigger>"
                }
            })
        })
    }

    /// The caller of a discovery stream. `None` is a caller of whom nothing is known, which only plaintext from
    /// loopback may be.
    pub async fn stream(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Option<Caller>, Status> {
        if let Some(caller) = self.token(metadata).await? {
            return Ok(Some(caller));
        }
        let peer = extensions.get::<Peer>();
        match peer.map(|peer| (&peer.channel, peer.address.ip().to_canonical().is_loopback())) {
            Some((Channel::Tls(Some(identity)), _)) => Ok(Some(Caller {
                namespace: identity.namespace().to_owned(),
                service_account: identity.service_account().to_owned(),
            })),
            Some((Channel::Plaintext, true)) => Ok(None),
            _ => Err(Status::unauthenticated(
                "a token or a certificate of the mesh is needed, except for plaintext from loopback",
            )),
        }
    }

    /// What the token proves, counted and logged when it proves nothing.
    async fn token(&self, metadata: &MetadataMap) -> Result<Option<Caller>, Status> {
        let Some(value) = metadata.get("authorization") else { return Ok(None) };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token =
            token.ok_or_else(|| Status::unauthenticated("authorization is not \"Bearer <token>\""))?;
        self.verifier.verify(token).await.map(Some).map_err(|error| {
            self.meters.token_refused(error.word());
            tracing::warn!(reason = error.word(), "refused a caller: {error}");
            Status::new(error.code(), error.to_string())
        })
    }
}

impl Verifier {
    async fn verify(&self, token: &str) -> Result<Caller, Unproven> {
        match self {
            Self::Keys(keys) => Ok(keys.verify(token)?),
            Self::Cluster(reviewer) => Ok(reviewer.verify(token).await?),
        }
    }
}

impl Unproven {
    const fn word(&self) -> &'static str {
        match self {
            Self::Token(error) => error.word(),
            Self::Review(error) => error.word(),
        }
    }

    /// Whoever cannot be judged now may come again.
    const fn code(&self) -> Code {
        match self {
            Self::Review(ReviewError::Away(_)) => Code::Unavailable,
            _ => Code::Unauthenticated,
        }
    }
}
