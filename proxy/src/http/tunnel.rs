//! What follows a switched protocol or an accepted CONNECT: bytes both ways until both sides have ended.

use std::cell::Cell;

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tracing::debug;

use super::Body;
use super::exchange::Exchange;
use super::forward::Arrived;
use super::hygiene::{Checked, switch_to};
use crate::opaque::{Count, relay};
use crate::protection::{Arrival, Asked, Lasting};
use crate::reason::Refusal;
use crate::upstream::{Received, Switching};
use crate::worker::Worker;

/// An answer that came, before it is known whether it opens a tunnel.
pub(crate) struct Answered {
    pub(crate) arrived: Arrived,
    /// The client's side of a switch it asked for.
    pub(crate) downstream: Option<OnUpgrade>,
    pub(crate) asked: Checked,
    /// What an inbound request asked for that may open a tunnel.
    pub(crate) kept: Option<Box<Asked>>,
    /// When the whole response must be over.
    pub(crate) deadline: Option<Instant>,
}

/// Takes the client's side of a switch out of the request and asks the upstream for the same, if the client did.
pub(crate) fn prepare_switch<B>(request: &mut Request<B>, asked: &Checked) -> Option<OnUpgrade> {
    match asked {
        Checked::Plain => return None,
        Checked::Upgrade(protocol) => switch_to(request.headers_mut(), protocol.clone()),
        Checked::Connect => {}
    }
    Some(hyper::upgrade::on(request))
}

/// The response for the client.
pub(crate) fn finish(exchange: Exchange, answered: Answered) -> Response<Body> {
    let Answered { arrived, downstream, asked, kept, deadline } = answered;
    match downstream {
        Some(downstream) if opens(arrived.response.status(), &asked) => {
            open(exchange, arrived, (downstream, kept))
        }
        _ => exchange.respond(arrived, deadline),
    }
}

fn opens(status: StatusCode, asked: &Checked) -> bool {
    match asked {
        Checked::Plain => false,
        Checked::Upgrade(_) => status == StatusCode::SWITCHING_PROTOCOLS,
        Checked::Connect => status.is_success(),
    }
}

/// Answers the client and carries the tunnel on this worker until it ends.
fn open(
    mut exchange: Exchange,
    arrived: Arrived,
    (downstream, kept): (OnUpgrade, Option<Box<Asked>>),
) -> Response<Body> {
    let (parts, received) = arrived.response.into_parts();
    exchange.record.status(parts.status);
    let mut answer = Response::from_parts(parts, Body::Empty);
    let upstream = Received::switch(received, answer.extensions_mut());
    let guard = exchange.connection.drain().guard();
    let worker = exchange.connection.worker.clone();
    let lasting = kept.map(|asked| {
        let arrival = Arrival::of(&exchange.connection.downstream);
        Lasting::new(worker.clone(), arrival, Some(asked), &exchange.snapshot)
    });
    let (mut record, ended) = exchange.into_tunnel();
    let held = (arrived.lease, ended, guard);
    tokio::task::spawn_local(async move {
        let bytes = Bytes::default();
        tokio::select! {
            carried = carry(&worker, (downstream, upstream), &bytes) => {
                if let Err(error) = carried {
                    debug!(%error, "the tunnel ended with an error");
                }
            }
            refusal = withdrawn(lasting) => record.reason(refusal.reason),
        }
        record.add_bytes(usize::try_from(bytes.0.get()).unwrap_or(usize::MAX));
        drop(held);
    });
    answer
}

/// Resolves when the request that opened a tunnel would not be let in any more. Outbound ones are never withdrawn.
async fn withdrawn(lasting: Option<Lasting>) -> Refusal {
    match lasting {
        Some(mut lasting) => lasting.withdrawn().await,
        None => std::future::pending().await,
    }
}

/// Bytes towards the client.
#[derive(Default)]
struct Bytes(Cell<u64>);

impl Count for Bytes {
    fn sent(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }

    fn received(&self, _: u64) {}
}

async fn carry(
    worker: &Worker,
    (downstream, upstream): (OnUpgrade, Switching),
    bytes: &Bytes,
) -> std::io::Result<()> {
    let downstream = async { downstream.await.map_err(std::io::Error::other) };
    let (downstream, upstream) = tokio::try_join!(downstream, upstream.done())?;
    relay(&worker.carriers, TokioIo::new(downstream), upstream, bytes).await
}
