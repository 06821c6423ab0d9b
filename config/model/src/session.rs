//! Sessions: a client stays with the endpoint that answered it first.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// How a route keeps clients with their endpoints. The client carries what names the endpoint; no proxy keeps anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionAffinity {
    /// Where the client carries it.
    pub carrier: SessionCarrier,
    /// A session ends so long after it began; `None`: never.
    pub absolute_timeout: Option<Duration>,
    /// A session ends after so long without a request; `None`: never.
    pub idle_timeout: Option<Duration>,
}

/// What carries a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCarrier {
    /// A cookie.
    Cookie {
        /// Its name, a token (RFC 6265, section 4.1.1).
        name: Arc<str>,
        /// How long the client keeps it; `None`: as long as it runs.
        max_age: Option<Duration>,
    },
    /// A header of answers, which the client sends again with its requests.
    Header(HeaderName),
}
