//! Why the proxy answered itself: the one table from event to status, gRPC code, word and retryability
//! (contracts, section 7). Nothing else in the code names a status for a failure or decides what may be retried.

use std::sync::Arc;

use http::StatusCode;

/// An event for which the proxy answers instead of the application, or ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// No route matched.
    NoRoute,
    /// The route has no valid backend.
    NoBackend,
    /// The backend has no endpoint.
    NoEndpoint,
    /// No connection to the endpoint.
    ConnectFailed,
    /// The TLS handshake with the endpoint failed, or somebody else answered there.
    TlsFailed,
    /// The upstream connection or stream ended before a response head.
    UpstreamReset,
    /// The upstream sent what is not HTTP, or not an answer to what was asked.
    UpstreamProtocol,
    /// A request or per-try timeout passed.
    Timeout,
    /// A circuit breaker limit was reached.
    Overflow,
    /// A rate limit was reached.
    RateLimited,
    /// Shed under load, or the proxy is at a limit of its own.
    Shed,
    /// Not authorised.
    Denied,
    /// No valid token or certificate.
    Unauthenticated,
    /// A message that HTTP does not allow, or that could be read in two ways.
    BadRequest,
    /// The head of the request is too large.
    HeadersTooLarge,
}

/// What may have happened to the request when an attempt ended with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The application cannot have seen it: it is safe to try again elsewhere.
    Never,
    /// It may have: only the user can say that trying again is right.
    Perhaps,
}

struct Row {
    status: StatusCode,
    grpc: Option<GrpcStatus>,
    word: &'static str,
    seen: Seen,
}

/// The gRPC status codes the table uses (grpc/grpc `doc/statuscodes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum GrpcStatus {
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Reason {
    /// Every reason, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::NoRoute,
        Self::NoBackend,
        Self::NoEndpoint,
        Self::ConnectFailed,
        Self::TlsFailed,
        Self::UpstreamReset,
        Self::UpstreamProtocol,
        Self::Timeout,
        Self::Overflow,
        Self::RateLimited,
        Self::Shed,
        Self::Denied,
        Self::Unauthenticated,
        Self::BadRequest,
        Self::HeadersTooLarge,
    ];

    const fn row(self) -> Row {
        use GrpcStatus::{
            DeadlineExceeded, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
            Unimplemented,
        };
        use Seen::{Never, Perhaps};
        const fn row(status: StatusCode, grpc: GrpcStatus, word: &'static str, seen: Seen) -> Row {
            Row { status, grpc: Some(grpc), word, seen }
        }
        // What is no message of HTTP is no call of gRPC either.
        const fn http_only(status: StatusCode, word: &'static str) -> Row {
            Row { status, grpc: None, word, seen: Perhaps }
        }
        match self {
            Self::NoRoute => row(StatusCode::NOT_FOUND, Unimplemented, "no_route", Perhaps),
            Self::NoBackend => row(StatusCode::INTERNAL_SERVER_ERROR, Unavailable, "no_backend", Perhaps),
            Self::NoEndpoint => row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "no_endpoint", Perhaps),
            Self::ConnectFailed => row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "connect_failed", Never),
            Self::TlsFailed => row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "tls_failed", Never),
            Self::UpstreamReset => {
                row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "upstream_reset", Perhaps)
            }
            Self::UpstreamProtocol => row(StatusCode::BAD_GATEWAY, Unavailable, "upstream_protocol", Perhaps),
            Self::Timeout => row(StatusCode::GATEWAY_TIMEOUT, DeadlineExceeded, "timeout", Perhaps),
            Self::Overflow => row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "overflow", Perhaps),
            Self::RateLimited => {
                row(StatusCode::TOO_MANY_REQUESTS, ResourceExhausted, "rate_limited", Perhaps)
            }
            Self::Shed => row(StatusCode::SERVICE_UNAVAILABLE, Unavailable, "shed", Perhaps),
            Self::Denied => row(StatusCode::FORBIDDEN, PermissionDenied, "denied", Perhaps),
            Self::Unauthenticated => {
                row(StatusCode::UNAUTHORIZED, Unauthenticated, "unauthenticated", Perhaps)
            }
            Self::BadRequest => http_only(StatusCode::BAD_REQUEST, "bad_request"),
            Self::HeadersTooLarge => {
                http_only(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large")
            }
        }
    }

    /// The HTTP status of the answer.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// The gRPC status of the answer to a gRPC request; `None` is answered in HTTP.
    pub const fn grpc_status(self) -> Option<GrpcStatus> {
        self.row().grpc
    }

    /// The word in headers, metrics and logs.
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// Whether the application may have seen the request.
    pub const fn seen(self) -> Seen {
        self.row().seen
    }

    /// The reason of a word, as a peer proxy wrote it.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

/// An answer the proxy makes itself: the event, and the object of the configuration it happened at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The event.
    pub reason: Reason,
    /// `kind/namespace/name`; empty when no object is concerned.
    pub object: Arc<str>,
}

impl Refusal {
    /// A refusal at an object.
    pub fn at(reason: Reason, object: &Arc<str>) -> Self {
        Self { reason, object: object.clone() }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, object: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_of_the_contract() {
        let table: Vec<String> = Reason::ALL
            .into_iter()
            .map(|r| {
                let grpc = r.grpc_status().map_or("-".to_owned(), |status| (status as u8).to_string());
                format!("{} {} {grpc}", r.word(), r.status().as_u16())
            })
            .collect();
        assert_eq!(
            table,
            [
                "no_route 404 12",
                "no_backend 500 14",
                "no_endpoint 503 14",
                "connect_failed 503 14",
                "tls_failed 503 14",
                "upstream_reset 503 14",
                "upstream_protocol 502 14",
                "timeout 504 4",
                "overflow 503 14",
                "rate_limited 429 8",
                "shed 503 14",
                "denied 403 7",
                "unauthenticated 401 16",
                "bad_request 400 -",
                "headers_too_large 431 -",
            ]
        );
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.word()), Some(reason));
        }
    }

    #[test]
    fn only_what_never_reached_an_application_is_safe_to_repeat() {
        let safe: Vec<_> = Reason::ALL.into_iter().filter(|r| r.seen() == Seen::Never).collect();
        assert_eq!(safe, [Reason::ConnectFailed, Reason::TlsFailed]);
    }
}
