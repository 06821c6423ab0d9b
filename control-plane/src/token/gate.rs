//! Who calls: what a connection and its bearer token prove.
//!
//! Both gRPC services ask here. A token that is there must be good, whatever else the connection proves: a caller that
//! shows a forged one is not treated as one without. A certificate counts on a TLS port only, and only one of our own
//! trust domain.

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_model::identity::SpiffeId;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status};

use crate::http::meters::Meters;
use crate::token::book::{Book, BookError};
use crate::token::review::{ReviewError, Reviewer};
use crate::token::standing::Standing;
use crate::token::{Caller, TokenError, TokenKeys, Verified};

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
    /// Our own keys, and what is remembered of the tokens that were made with them by `outrigger token create`.
    Keys(Arc<TokenKeys>, Arc<Book>),
    /// The API server of the cluster.
    Cluster(Arc<Reviewer>),
}

/// What a call is authorized by.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Who calls.
    pub caller: Caller,
    /// By which of our own tokens; `None` for one of a cluster, and for a certificate.
    pub(super) token: Option<Verified>,
}

/// Why a call proves nothing.
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

    /// The caller of a certificate request: by its token, or, where tokens are our own, by a certificate of the mesh that is
    /// still valid. `UNAUTHENTICATED` without either, `UNAVAILABLE` when nobody can say now.
    ///
    /// In a cluster a certificate alone is not renewed: the token shows that the pod and its service account are still
    /// there, and a pod always has one.
    pub async fn certificate<T>(
        &self,
        request: &tonic::Request<T>,
        trust_domain: &str,
    ) -> Result<Proven, Status> {
        if let Some(proven) = self.token(request.metadata()).await? {
            return Ok(proven);
        }
        let identity = certified(request.extensions(), trust_domain)?;
        match (&self.verifier, identity) {
            (Verifier::Keys(_, book), Some(caller)) => {
                let judged = book.records().await.judge_identity(&caller);
                judged.map_err(|error| self.refuse(&error.into()))?;
                Ok(Proven { caller, token: None })
            }
            (Verifier::Keys(..), None) => Err(Status::unauthenticated(
                "a token is needed: authorization: Bearer <outrigger token create ...>, or on the TLS port a certificate of the mesh",
            )),
            (Verifier::Cluster(_), _) => Err(Status::unauthenticated(
                "a token is needed: authorization: Bearer <projected service-account token, audience outrigger>",
            )),
        }
    }

    /// The caller of a discovery stream, and what may end it. Nobody is known only on plaintext from loopback.
    pub async fn stream(
        &self,
        (metadata, extensions): (&MetadataMap, &Extensions),
        trust_domain: &str,
    ) -> Result<Standing, Status> {
        if let Some(proven) = self.token(metadata).await? {
            return Ok(self.standing(Some(proven)));
        }
        if let Some(caller) = certified(extensions, trust_domain)? {
            if let Verifier::Keys(_, book) = &self.verifier {
                let judged = book.records().await.judge_identity(&caller);
                judged.map_err(|error| self.refuse(&error.into()))?;
            }
            return Ok(self.standing(Some(Proven { caller, token: None })));
        }
        let peer = extensions.get::<Peer>();
        match peer.map(|peer| (&peer.channel, peer.address.ip().to_canonical().is_loopback())) {
            Some((Channel::Plaintext, true)) => Ok(self.standing(None)),
            _ => Err(Status::unauthenticated(
                "a token or a certificate of the mesh is needed, except for plaintext from loopback",
            )),
        }
    }

    /// Uses a one-use token up, before what it was used for is given away. Somebody else may have been faster.
    pub async fn use_up(&self, proven: &Proven) -> Result<(), Status> {
        let Some(token) = proven.token.as_ref().filter(|token| token.one_use) else { return Ok(()) };
        let Verifier::Keys(_, book) = &self.verifier else { return Ok(()) };
        book.use_up(token.clone()).await.map_err(|error| match error {
            BookError::Token(error) => self.refuse(&error.into()),
            other => {
                tracing::error!("a one-use token cannot be used up, so that it is not accepted: {other}");
                Status::unavailable("the control plane cannot write down that the token is used; try again")
            }
        })
    }

    fn standing(&self, proven: Option<Proven>) -> Standing {
        let records = match &self.verifier {
            Verifier::Keys(_, book) => Some(book.subscribe()),
            Verifier::Cluster(_) => None,
        };
        Standing::new(proven, records)
    }

    /// What the token proves, counted and logged when it proves nothing.
    async fn token(&self, metadata: &MetadataMap) -> Result<Option<Proven>, Status> {
        let Some(value) = metadata.get("authorization") else { return Ok(None) };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token =
            token.ok_or_else(|| Status::unauthenticated("authorization is not \"Bearer <token>\""))?;
        self.verifier.verify(token).await.map(Some).map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &Unproven) -> Status {
        self.meters.token_refused(error.word());
        tracing::warn!(reason = error.word(), "refused a caller: {error}");
        Status::new(error.code(), error.to_string())
    }
}

/// The caller that the certificate of a connection proves, if there is one.
fn certified(extensions: &Extensions, trust_domain: &str) -> Result<Option<Caller>, Status> {
    let Some(Channel::Tls(Some(identity))) = extensions.get::<Peer>().map(|peer| &peer.channel) else {
        return Ok(None);
    };
    if identity.trust_domain() != trust_domain {
        let message =
            format!("the certificate is for {identity}, and the trust domain of this mesh is {trust_domain}");
        return Err(Status::unauthenticated(message));
    }
    Ok(Some(Caller {
        namespace: identity.namespace().to_owned(),
        service_account: identity.service_account().to_owned(),
    }))
}

impl Verifier {
    async fn verify(&self, token: &str) -> Result<Proven, Unproven> {
        match self {
            Self::Keys(keys, book) => {
                let token = keys.verify(token)?;
                book.records().await.judge(&token)?;
                Ok(Proven { caller: token.caller.clone(), token: Some(token) })
            }
            Self::Cluster(reviewer) => Ok(Proven { caller: reviewer.verify(token).await?, token: None }),
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

#[cfg(test)]
mod tests;
