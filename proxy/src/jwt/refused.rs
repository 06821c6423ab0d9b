//! Why a token is not good: for metrics, logs and the answer.

use http::HeaderValue;
use outrigger_base::telemetry::metrics::{Counter, Kind, MetricSpec, Registry};

/// The metrics of this module.
pub const METRICS: &[MetricSpec] = &[MetricSpec {
    name: "outrigger_token_refused_total",
    kind: Kind::Counter,
    help: "Requests refused by the `jwt` of an InboundPolicy, by what is wrong with their token.",
    labels: &["reason"],
}];

/// Why a request proves nothing about its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It carries no bearer token.
    #[error("there is no bearer token")]
    Missing,
    /// It carries several, one that is too long, or something that is no token of ours to judge.
    #[error("what is there is not one JWT that can be read in one way")]
    Malformed,
    /// It is not signed, or in a way that is not accepted.
    #[error("the token is not signed with an algorithm that is accepted")]
    Algorithm,
    /// The issuer has no such key.
    #[error("no key of the issuer is the one that the token names, or fits it")]
    UnknownKey,
    /// Somebody else signed it, or it was changed.
    #[error("the signature is wrong")]
    Signature,
    /// Somebody else made it.
    #[error("another issuer made the token")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Nothing can be verified.
    #[error("the keys of the issuer are not known, or were not heard of for too long")]
    NoKeys,
}

impl Refused {
    const ALL: [Self; 10] = [
        Self::Missing,
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::NoKeys,
    ];

    /// One word for metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoKeys => "no_keys",
        }
    }

    /// What the answer says in `www-authenticate`: who sent no token is told which kind to send and nothing else (RFC 6750,
    /// section 3.1).
    pub fn challenge(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Missing => "Bearer",
            _ => "Bearer error=\"invalid_token\"",
        })
    }
}

/// Counts refusals.
pub(super) struct Refusals([Counter; Refused::ALL.len()]);

impl Refusals {
    pub(super) fn new(registry: &Registry) -> Self {
        registry.declare(METRICS);
        let counter = |refused: Refused| {
            registry.counter("outrigger_token_refused_total", vec![("reason", refused.word().into())])
        };
        Self(Refused::ALL.map(counter))
    }

    pub(super) fn count(&self, refused: Refused) {
        // In the order of `ALL`, which is that of the enum.
        self.0[refused as usize].increment(1);
    }
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refusals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use outrigger_base::telemetry::metrics::Format;

    use super::*;

    #[test]
    fn each_refusal_counts_under_its_own_word() {
        let registry = Registry::new();
        let refusals = Refusals::new(&registry);
        for (times, refused) in Refused::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| refusals.count(refused));
        }
        let text = registry.render(Format::Prometheus);
        for (times, refused) in Refused::ALL.into_iter().enumerate() {
            let line = format!("outrigger_token_refused_total{{reason=\"{}\"}} {times}\n", refused.word());
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
