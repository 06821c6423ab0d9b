//! Who a workload is: SPIFFE ids, parsed strictly once and compared as types.
//!
//! The one accepted form is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` (contracts, section 3).
//! Everything that could make two spellings of one id (query, port, user, percent, dot segments) is refused, as
//! the SPIFFE-ID standard, section 2, asks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest id we accept, in bytes (SPIFFE-ID standard, section 2.3).
pub const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// The identity of a workload. Cheap to clone; equality is equality of the identity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain_end: u16,
    namespace_end: u16,
}

const SCHEME: &str = "spiffe://";
const NAMESPACE: &str = "/ns/";
const SERVICE_ACCOUNT: &str = "/sa/";

/// Why a text is not an id of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than [`MAX_SPIFFE_ID_BYTES`].
    #[error("a SPIFFE id is at most {MAX_SPIFFE_ID_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Not of the one accepted shape.
    #[error("not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>: {0:?}")]
    Shape(String),
    /// A part is empty or has a character that is not allowed in it.
    #[error("the {part} of a SPIFFE id is made of {allowed}, not {value:?}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it may be made of.
        allowed: &'static str,
        /// What was found.
        value: String,
    },
}

impl SpiffeId {
    /// Builds the id of a service account. Fails when a part has characters that an id cannot carry.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(trust_domain)?;
        check_segment("namespace", namespace)?;
        check_segment("service account", service_account)?;
        let uri = format!("{SCHEME}{trust_domain}{NAMESPACE}{namespace}{SERVICE_ACCOUNT}{service_account}");
        if uri.len() > MAX_SPIFFE_ID_BYTES {
            return Err(SpiffeIdError::TooLong(uri.len()));
        }
        let trust_domain_end = SCHEME.len() + trust_domain.len();
        let namespace_end = trust_domain_end + NAMESPACE.len() + namespace.len();
        Ok(Self {
            uri: uri.into(),
            trust_domain_end: trust_domain_end as u16,
            namespace_end: namespace_end as u16,
        })
    }

    /// The whole id as a URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The whole id as a shared string, for labels that outlive a request.
    pub fn shared(&self) -> Arc<str> {
        self.uri.clone()
    }

    /// The trust domain, in lower case.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..usize::from(self.trust_domain_end)]
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.uri[usize::from(self.trust_domain_end) + NAMESPACE.len()..usize::from(self.namespace_end)]
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.uri[usize::from(self.namespace_end) + SERVICE_ACCOUNT.len()..]
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_SPIFFE_ID_BYTES {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let shape = || SpiffeIdError::Shape(text.to_owned());
        let rest = text.strip_prefix(SCHEME).ok_or_else(shape)?;
        let (trust_domain, path) = rest.split_once('/').ok_or_else(shape)?;
        let mut segments = path.split('/');
        let parts = (segments.next(), segments.next(), segments.next(), segments.next(), segments.next());
        match parts {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Self::new(trust_domain, namespace, account)
            }
            _ => Err(shape()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// Checks a trust domain: lower case letters, digits, `.`, `-`, `_` (SPIFFE-ID standard, section 2.1).
pub fn check_trust_domain(value: &str) -> Result<(), SpiffeIdError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
    if !value.is_empty() && value.len() <= 255 && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(SpiffeIdError::Part {
        part: "trust domain",
        allowed: "lower case letters, digits, '.', '-' and '_'",
        value: value.to_owned(),
    })
}

fn check_segment(part: &'static str, value: &str) -> Result<(), SpiffeIdError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let dots = value == "." || value == "..";
    if !value.is_empty() && !dots && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(SpiffeIdError::Part { part, allowed: "letters, digits, '.', '-' and '_'", value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_apart_and_put_together() {
        let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.service_account()),
            ("cluster.local", "shop", "web")
        );
        assert_eq!(id, SpiffeId::new("cluster.local", "shop", "web").unwrap());
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    }

    #[test]
    fn every_second_spelling_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe:///ns/a/sa/b",
            "SPIFFE://cluster.local/ns/a/sa/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:443/ns/a/sa/b",
            "spiffe://user@cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b?x",
            "spiffe://cluster.local/ns/a/sa/b#x",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local//ns/a/sa/b",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://cluster.local/ns/a/sa/.",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/a%2e/sa/b",
            "spiffe://cluster.local/sa/a/ns/b",
            "https://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b\n",
            "spiffe://clüster.local/ns/a/sa/b",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was accepted");
        }
        let long = format!("spiffe://cluster.local/ns/a/sa/{}", "b".repeat(MAX_SPIFFE_ID_BYTES));
        assert!(matches!(long.parse::<SpiffeId>(), Err(SpiffeIdError::TooLong(_))));
    }
}
