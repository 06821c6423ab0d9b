//! A checked-out connection: sends one request, and says of a failure whether the application can have seen it.

use std::error::Error as _;
use std::fmt;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::http1::Exclusive;
use super::http2::Stream;
use crate::http::Body;
use crate::reason::{Reason, Seen};

/// One HTTP/1 connection, or a place for one stream on an HTTP/2 connection.
///
/// Keep it until the response body has ended, then [`release`](Self::release) it. Dropping it instead closes an HTTP/1
/// connection, and gives the place on an HTTP/2 connection back, which goes on.
#[derive(Debug)]
pub struct Connection {
    kind: Kind,
    reused: bool,
}

#[derive(Debug)]
enum Kind {
    Http1(Exclusive),
    Http2(Stream),
}

/// Why there is no response head.
pub struct SendError {
    /// The event.
    pub reason: Reason,
    /// Whether the application may have seen the request. `Never` without `unsent` means that the peer said so
    /// (HTTP/2 `REFUSED_STREAM` and GOAWAY, RFC 9113 section 8.7), but the request body is spent.
    pub seen: Seen,
    /// The request, when nothing of it was written.
    pub unsent: Option<Request<Body>>,
    /// What happened.
    pub cause: hyper::Error,
}

impl Connection {
    pub(super) fn http1(exclusive: Exclusive, reused: bool) -> Self {
        Self { kind: Kind::Http1(exclusive), reused }
    }

    pub(super) fn http2(stream: Stream, reused: bool) -> Self {
        Self { kind: Kind::Http2(stream), reused }
    }

    /// Whether it carried a request before: then the peer may have closed it just now.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the response head. Dropping the future closes an HTTP/1 connection and resets an
    /// HTTP/2 stream.
    ///
    /// # Errors
    /// Says whether the request came back unsent: then it can be sent on another connection.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let sent = match &mut self.kind {
            Kind::Http1(exclusive) => exclusive.send(request).await,
            Kind::Http2(stream) => stream.send(request).await,
        };
        sent.map_err(SendError::from)
    }

    /// The response body was read to its end: an HTTP/1 connection goes back to the pool.
    pub fn release(self) {
        match self.kind {
            Kind::Http1(exclusive) => exclusive.release(),
            Kind::Http2(stream) => drop(stream),
        }
    }
}

impl From<TrySendError<Request<Body>>> for SendError {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message();
        let cause = error.into_error();
        let (reason, seen) = classify(&cause);
        let seen = if unsent.is_some() { Seen::Never } else { seen };
        Self { reason, seen, unsent, cause }
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsent = self.unsent.is_some();
        f.debug_struct("SendError")
            .field("reason", &self.reason)
            .field("seen", &self.seen)
            .field("unsent", &unsent)
            .field("cause", &self.cause)
            .finish()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::UpstreamProtocol => "the upstream did not answer as HTTP asks",
            _ => "the upstream ended the connection or stream before a response head",
        })
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn classify(error: &hyper::Error) -> (Reason, Seen) {
    if error.is_parse() {
        return (Reason::UpstreamProtocol, Seen::Perhaps);
    }
    match error.source().and_then(|source| source.downcast_ref::<h2::Error>()) {
        Some(error) => classify_http2(error),
        None => (Reason::UpstreamReset, Seen::Perhaps),
    }
}

/// RFC 9113, section 8.7: a stream that was refused, or that is above the last one a GOAWAY names (only those end with the
/// GOAWAY itself as their error), was not processed.
fn classify_http2(error: &h2::Error) -> (Reason, Seen) {
    let refused = error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let beyond_goaway = error.is_go_away() && error.is_remote();
    if refused || beyond_goaway {
        (Reason::UpstreamReset, Seen::Never)
    } else if error.is_library() {
        (Reason::UpstreamProtocol, Seen::Perhaps)
    } else {
        (Reason::UpstreamReset, Seen::Perhaps)
    }
}
