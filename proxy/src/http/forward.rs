//! One try: a connection to one endpoint, the request on it, the response head back.

use std::rc::Rc;

use http::Response;
use outrigger_model::policy::ConnectionPolicy;
use tokio::time::Instant;

use crate::reason::{Reason, Seen};
use crate::upstream::{Lease, Message, Received, Target};
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
    pub(crate) response: Response<Received>,
    /// `None` for the local application.
    pub(crate) lease: Option<Lease>,
}

/// A try that brought no response head.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    /// Whether the application can have seen the request.
    pub(crate) seen: Seen,
    /// What happened, for the log.
    pub(crate) cause: String,
}

/// Sends a request once. A request of which nothing was sent because a connection that had been idle was closed is sent again
/// on another.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    to: &Outgoing<'_>,
    message: &mut Message,
) -> Result<Response<Received>, Failed> {
    let mut stale = 0;
    loop {
        let connection = worker.pools.connection(to.target, to.policy, to.lease.map(Lease::cluster)).await;
        let connection = connection.map_err(|error| Failed {
            reason: error.reason,
            seen: error.reason.seen(),
            cause: error.to_string(),
        })?;
        let reused = connection.reused();
        if let Some(lease) = to.lease.filter(|_| !reused) {
            // What is measured is the endpoint's answer, not the handshake before it.
            lease.sent(Instant::now());
        }
        match connection.send(message).await {
            Ok(response) => return Ok(response),
            Err(error) => {
                let unsent = error.seen == Seen::Never && message.can_be_sent();
                if unsent && reused && stale < STALE_MAX {
                    stale += 1;
                    continue;
                }
                let reason = if error.is_cut_by_client() { Reason::BadRequest } else { error.reason };
                return Err(Failed { reason, seen: error.seen, cause: error.cause.to_string() });
            }
        }
    }
}
