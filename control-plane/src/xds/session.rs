//! One discovery stream: requests in, responses out, in between whatever changes.
//!
//! A session is driven by the reader of its responses, so a client that does not read gets nothing computed and
//! holds no queue. There is at most one response of a type in flight.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use futures_util::Stream;
use futures_util::stream::unfold;
use hyper::HeaderMap;
use hyper::body::Frame;
use hyper::header::HeaderValue;
use outrigger_base::lifecycle::drain::{Drain, DrainGuard};
use tokio::sync::broadcast;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::token::standing::Standing;
use crate::xds::MAX_STREAMS;
use crate::xds::board::Board;
use crate::xds::connections::{Identification, Place};
use crate::xds::hub::{Batch, Hub};
use crate::xds::node;
use crate::xds::subscription::View;

/// How long a client may take for its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// One of the two variants of the protocol.
pub(crate) trait Protocol: Send + 'static {
    /// What the client sends.
    type Request: prost::Message + Default + 'static;
    /// Its name in status and logs.
    const WORD: &'static str;

    /// Who sends a request, as far as it says so.
    fn take_node(request: &mut Self::Request) -> Option<Node>;
    /// Takes in a request. An error ends the stream.
    fn accept(board: &mut Board, request: Self::Request) -> Result<(), Status>;
    /// The next response, if there is something to say: a message of gRPC.
    fn respond(board: &mut Board) -> Option<Bytes>;
}

/// What is known of a stream before its first request.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) hub: Arc<Hub>,
    pub(crate) standing: Standing,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) drain: Drain,
}

struct Session<P: Protocol> {
    admission: Admission,
    requests: Streaming<P::Request>,
    batches: broadcast::Receiver<Arc<Batch>>,
    /// A place that nobody has been seated on.
    place: Option<Place>,
    board: Option<Board>,
    ended: bool,
    _guard: DrainGuard,
}

/// What wakes a session.
enum Event<R> {
    Request(R),
    Push(Result<Arc<Batch>, broadcast::error::RecvError>),
    End,
}

/// The responses to a stream of requests, and how it ended.
pub(crate) fn serve<P: Protocol>(
    admission: Admission,
    requests: Streaming<P::Request>,
) -> Result<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send, Status> {
    let place = admission.hub.connections().enter().ok_or_else(|| {
        Status::resource_exhausted(format!("this control plane serves at most {MAX_STREAMS} streams"))
    })?;
    let session = Session::<P> {
        batches: admission.hub.batches(),
        _guard: admission.drain.guard(),
        admission,
        requests,
        place: Some(place),
        board: None,
        ended: false,
    };
    Ok(unfold(session, |mut session| async {
        let frame = session.next().await?;
        Some((Ok(frame), session))
    }))
}

impl<P: Protocol> Session<P> {
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.ended {
            return None;
        }
        let end = match self.step().await {
            Ok(Some(response)) => return Some(Frame::data(response)),
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        self.ended = true;
        self.board = None;
        Some(Frame::trailers(trailers(&end)))
    }

    /// The next response; `None` at the end of the stream.
    async fn step(&mut self) -> Result<Option<Bytes>, Status> {
        if self.board.is_none() && !self.open().await? {
            return Ok(None);
        }
        loop {
            let Some(board) = &mut self.board else { return Ok(None) };
            if let Some(response) = P::respond(board) {
                return Ok(Some(response));
            }
            board.settle();
            match self.event().await? {
                Event::Request(request) => self.with_board(|board| P::accept(board, request))?,
                Event::Push(batch) => self.with_board(|board| board.take(batch))?,
                Event::End => return Ok(None),
            }
        }
    }

    async fn event(&mut self) -> Result<Event<P::Request>, Status> {
        tokio::select! {
            request = self.requests.message() => Ok(request?.map_or(Event::End, Event::Request)),
            batch = self.batches.recv() => Ok(Event::Push(batch)),
            status = self.admission.standing.lost() => Err(status),
            () = self.admission.drain.started() => Ok(Event::End),
        }
    }

    fn with_board(&mut self, work: impl FnOnce(&mut Board) -> Result<(), Status>) -> Result<(), Status> {
        self.board.as_mut().map_or(Ok(()), work)
    }

    /// Waits for the first request, which says who the client is. `false` when the stream ends before it.
    async fn open(&mut self) -> Result<bool, Status> {
        let first = tokio::select! {
            first = timeout(FIRST_REQUEST_TIMEOUT, self.requests.message()) => first,
            () = self.admission.drain.started() => return Ok(false),
        };
        let first = first.map_err(|_| Status::deadline_exceeded("no request came within 15 s"))?;
        let (Some(mut request), Some(mut place)) = (first?, self.place.take()) else { return Ok(false) };
        let node = P::take_node(&mut request).unwrap_or_default();
        let client = Arc::new(node::client(&node, self.admission.standing.caller())?);
        let who = Identification {
            id: node.id,
            namespace: client.namespace.clone(),
            service_account: self.admission.standing.caller().map(|caller| caller.service_account.clone()),
            address: self.admission.address,
            protocol: P::WORD,
        };
        let address = who.address.map(tracing::field::display);
        tracing::info!(
            proxy.id = who.id,
            downstream.addr = address,
            protocol = P::WORD,
            "a client has connected"
        );
        let connection = place.identify(who);
        let mut board = Board::new(View { hub: self.admission.hub.clone(), client }, connection, place);
        P::accept(&mut board, request)?;
        self.board = Some(board);
        Ok(true)
    }
}

/// What ends a call in gRPC.
fn trailers(end: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // What cannot be a header is left out; the code always can.
    if end.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(end.code() as i32));
    }
    trailers
}
