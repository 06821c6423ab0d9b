//! What follows a switched protocol or an accepted CONNECT: bytes both ways until both sides have ended.

use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::time::Instant;
use tracing::debug;

use super::Body;
use super::exchange::Exchange;
use super::forward::Arrived;
use super::hygiene::{Checked, switch_to};

/// The buffer of each direction, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// An answer that came, before it is known whether it opens a tunnel.
pub(crate) struct Answered {
    pub(crate) arrived: Arrived,
    /// The client's side of a switch it asked for.
    pub(crate) downstream: Option<OnUpgrade>,
    pub(crate) asked: Checked,
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
    let Answered { arrived, downstream, asked, deadline } = answered;
    match downstream {
        Some(downstream) if opens(arrived.response.status(), &asked) => open(exchange, arrived, downstream),
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
fn open(mut exchange: Exchange, mut arrived: Arrived, downstream: OnUpgrade) -> Response<Body> {
    exchange.record.status(arrived.response.status());
    let upstream = hyper::upgrade::on(&mut arrived.response);
    let (parts, _) = arrived.response.into_parts();
    let guard = exchange.connection.drain().guard();
    let (mut record, ended) = exchange.into_tunnel();
    let held = (arrived.connection, arrived.lease, ended, guard);
    tokio::task::spawn_local(async move {
        match carry(downstream, upstream).await {
            Ok((_, received)) => record.add_bytes(usize::try_from(received).unwrap_or(usize::MAX)),
            Err(error) => debug!(%error, "the tunnel ended with an error"),
        }
        drop(held);
    });
    Response::from_parts(parts, Body::Empty)
}

async fn carry(downstream: OnUpgrade, upstream: OnUpgrade) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let (downstream, upstream): (Upgraded, Upgraded) = tokio::try_join!(downstream, upstream)?;
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    Ok(copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await?)
}
