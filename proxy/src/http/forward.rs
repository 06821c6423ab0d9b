//! One try: a connection to one endpoint, the request on it, the response head back.

use std::error::Error as _;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use outrigger_model::policy::ConnectionPolicy;
use tokio::time::Instant;

use super::Body;
use crate::reason::{Reason, Seen};
use crate::upstream::{Connection, HttpVersion, Lease, SendError, Target};
use crate::worker::Worker;

/// Idle connections that turn out to be closed are passed over so often before the try fails.
const STALE_MAX: u32 = 3;

/// Whom one try goes to.
pub(crate) struct Outgoing<'a> {
    pub(crate) target: &'a Target,
    pub(crate) policy: &'a ConnectionPolicy,
    /// `None` for the local application.
    pub(crate) lease: Option<&'a Lease>,
}

/// A response head, and what its body needs.
pub(crate) struct Arrived {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    /// What the upstream spoke.
    pub(crate) version: HttpVersion,
    /// `None` for the local application.
    pub(crate) lease: Option<Lease>,
}

/// A try that brought no response head.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    /// Whether the application can have seen the request.
    pub(crate) seen: Seen,
    /// The request, when no byte of it was sent.
    pub(crate) unsent: Option<Box<Request<Body>>>,
    /// What happened, for the log.
    pub(crate) cause: String,
}

/// Sends a request once. A request that comes back unsent from a connection that had been idle is sent again on another.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    to: &Outgoing<'_>,
    mut request: Request<Body>,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let mut stale = 0;
    loop {
        let mut connection =
            match worker.pools.connection(to.target, to.policy, to.lease.map(Lease::cluster)).await {
                Ok(connection) => connection,
                Err(error) => {
                    let seen = error.reason.seen();
                    return Err(Failed {
                        reason: error.reason,
                        seen,
                        unsent: Some(Box::new(request)),
                        cause: error.to_string(),
                    });
                }
            };
        let reused = connection.reused();
        if let Some(lease) = to.lease.filter(|_| !reused) {
            // What is measured is the endpoint's answer, not the handshake before it.
            lease.sent(Instant::now());
        }
        match connection.send(request).await {
            Ok(response) => return Ok((response, connection)),
            Err(error) => match error.unsent {
                Some(unsent) if reused && stale < STALE_MAX => {
                    stale += 1;
                    request = unsent;
                }
                unsent => {
                    let SendError { reason, seen, cause, .. } = error;
                    let reason = if cut_by_client(&cause) { Reason::BadRequest } else { reason };
                    let unsent = unsent.map(Box::new);
                    return Err(Failed { reason, seen, unsent, cause: cause.to_string() });
                }
            },
        }
    }
}

/// Whether the try ended because the request's own body did: an incomplete message (RFC 9112, section 8), which is no
/// fault of the upstream. In HTTP/2 hyper only tells that it reset the stream itself.
fn cut_by_client(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let reset_by_us = |error: &h2::Error| error.is_reset() && !error.is_remote() && !error.is_library();
    error.is_user() || h2.is_some_and(reset_by_us)
}
