//! A checked-out connection: sends one request, and says of a failure whether the application can have seen it.

use std::error::Error as _;
use std::fmt;

use http::Response;

use super::http1::{Exclusive, Http1Error};
use super::http2::Stream;
use super::message::Message;
use super::received::Received;
use crate::reason::{Reason, Seen};

/// One HTTP/1 connection, or a place for one stream on an HTTP/2 connection. Dropping it closes an HTTP/1 connection, and
/// gives the place on an HTTP/2 connection back, which goes on.
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
    /// Whether the application may have seen the request. It can still be `Never` when the body is spent: the peer said so
    /// (HTTP/2 `REFUSED_STREAM` and GOAWAY, RFC 9113 section 8.7).
    pub seen: Seen,
    /// What happened.
    pub cause: SendCause,
}

/// What kept a response head from coming.
#[derive(Debug, thiserror::Error)]
pub enum SendCause {
    /// HTTP/1.
    #[error(transparent)]
    Http1(Http1Error),
    /// HTTP/2.
    #[error(transparent)]
    Http2(hyper::Error),
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

    /// Sends a request and waits for the response head. The connection goes with the response body, and back to its pool at
    /// the end of it. Dropping the future closes an HTTP/1 connection and resets an HTTP/2 stream.
    ///
    /// # Errors
    /// A message of which nothing was sent can still be sent: then nobody has seen it.
    pub async fn send(self, message: &mut Message) -> Result<Response<Received>, SendError> {
        match self.kind {
            Kind::Http1(exclusive) => match exclusive.send(message).await {
                Ok(response) => Ok(response.map(Received::http1)),
                Err(error) => Err(SendError::http1(error)),
            },
            Kind::Http2(stream) => Box::pin(send_http2(stream, message)).await,
        }
    }
}

async fn send_http2(mut stream: Stream, message: &mut Message) -> Result<Response<Received>, SendError> {
    match stream.send(message.take()).await {
        Ok(response) => Ok(response.map(|incoming| Received::http2(incoming, stream))),
        Err(mut error) => {
            let unsent = error.take_message();
            let (reason, seen) = classify(error.error());
            let seen = if unsent.is_some() { Seen::Never } else { seen };
            if let Some(request) = unsent {
                message.put_back(request);
            }
            Err(SendError { reason, seen, cause: SendCause::Http2(error.into_error()) })
        }
    }
}

impl SendError {
    fn http1(error: super::http1::Failed) -> Self {
        let super::http1::Failed { error, unsent } = error;
        let reason = match &error {
            Http1Error::Head(_) | Http1Error::Body(_) => Reason::UpstreamProtocol,
            Http1Error::Io(_) | Http1Error::Closed | Http1Error::RequestBody(_) => Reason::UpstreamReset,
        };
        let seen = if unsent { Seen::Never } else { Seen::Perhaps };
        Self { reason, seen, cause: SendCause::Http1(error) }
    }

    /// Whether the try ended because the request's own body did: an incomplete message (RFC 9112, section 8), which is no
    /// fault of the upstream. In HTTP/2 hyper only tells that it reset the stream itself.
    pub fn is_cut_by_client(&self) -> bool {
        match &self.cause {
            SendCause::Http1(error) => matches!(error, Http1Error::RequestBody(_)),
            SendCause::Http2(error) => {
                let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
                let reset_by_us =
                    |error: &h2::Error| error.is_reset() && !error.is_remote() && !error.is_library();
                error.is_user() || h2.is_some_and(reset_by_us)
            }
        }
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("reason", &self.reason)
            .field("seen", &self.seen)
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
