//! What is kept of a request so that it can be sent again.
//!
//! A request without a body can always be sent again. One with a body is kept only when the route asks for retries, and only when
//! its head announces at most [`REPLAY_BYTES`]: a body of unknown length may never end, so it streams and is sent once.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Limited};

use super::Plan;
use crate::alarms::Late;
use crate::http::hygiene::BodyLength;
use crate::http::{Body, Connection};
use crate::reason::{Reason, Refusal};
use crate::upstream::Message;

/// A body up to this size is kept to be sent again, if the route asks for retries.
pub(super) const REPLAY_BYTES: usize = 64 * 1024;

/// How a request is kept.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// Sent as it comes.
    Once,
    /// Without a body it can always be sent twice.
    Whole,
    /// With a small body it is kept when the route asks for retries.
    Collected,
}

/// Keeps what of a request can be kept. A small body is read first, within the time for the whole request.
pub(super) async fn keep(
    connection: &Connection,
    plan: &Plan<'_>,
    (request, length): (Request<Body>, BodyLength),
) -> Result<Message, Refusal> {
    match kept(&request, length, plan) {
        Kept::Once => Ok(Message::once(request)),
        Kept::Whole => Ok(Message::whole(request.into_parts().0, Bytes::new())),
        Kept::Collected => {
            let collecting = Box::pin(collect(request));
            match plan.deadline {
                Some(deadline) => {
                    let collected = connection.worker.alarms.until(deadline, collecting).await;
                    collected.map_err(|Late| Reason::Timeout.into())
                }
                None => Ok(collecting.await),
            }
        }
    }
}

fn kept(request: &Request<Body>, length: BodyLength, plan: &Plan<'_>) -> Kept {
    if plan.switches {
        return Kept::Once;
    }
    if request.body().is_empty() {
        return Kept::Whole;
    }
    let small = matches!(length, BodyLength::Exact(bytes) if bytes <= REPLAY_BYTES as u64);
    let asked = plan.forward.retry.as_ref().is_some_and(|policy| policy.attempts > 0);
    if small && asked { Kept::Collected } else { Kept::Once }
}

async fn collect(request: Request<Body>) -> Message {
    let (parts, body) = request.into_parts();
    match Limited::new(body, REPLAY_BYTES).collect().await {
        Ok(collected) => Message::whole(parts, collected.to_bytes()),
        // The client did not send what it announced: the message is cut, and nothing is sent.
        Err(_) => Message::once(Request::from_parts(parts, Body::Cut)),
    }
}
