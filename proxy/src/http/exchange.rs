//! One request and its answer: the record, and what is held until the response body is over.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use outrigger_model::route::HeaderChanges;
use tokio::time::Instant;

use super::affinity::report;
use super::answer::grpc_status;
use super::connection::Connection;
use super::forward::Arrived;
use super::headers::apply;
use super::hygiene::Fields;
use super::{Body, BodyError};
use crate::alarms::Alarm;
use crate::limit::Slot;
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::telemetry::{RequestLine, RequestRecord, Way};
use crate::upstream::{HttpVersion, Lease, Received};

/// A request that is being answered.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    /// The configuration this request runs on, loaded once.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) record: RequestRecord,
    /// Whether the client speaks gRPC, and so reads its answers there.
    pub(crate) grpc: bool,
    /// Whether the answer is a head only, whatever it would have for a body (RFC 9110, section 9.3.2).
    pub(super) head_only: bool,
    /// What filters want changed in the head of the answer, whoever gives it.
    answer_fields: Option<Box<HeaderChanges>>,
    /// Its place among the requests that the application works on.
    slot: Option<Slot>,
    ended: Ended,
}

/// Tells the clock of the connection when the exchange is over.
struct Ended(Rc<Connection>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.clock.request_ended();
    }
}

impl Exchange {
    /// Loads the snapshot and opens the record.
    pub(crate) fn open<B>(connection: &Rc<Connection>, way: Way, request: &Request<B>) -> Self {
        let started = connection.clock.request_began();
        let worker = &connection.worker;
        let mut record = RequestRecord::open(worker, way, request.version(), started);
        let snapshot = worker.snapshot();
        if way == Way::Inbound {
            record.peer(connection.peer_label, connection.protection());
            record.service(connection.service_label);
        }
        if let Some(format) = snapshot.mesh.access_log {
            record.log(&RequestLine {
                method: request.method(),
                uri: request.uri(),
                authority: authority_of(request),
                downstream: connection.downstream.peer,
                format,
            });
        }
        let grpc = is_grpc(request.headers());
        let head_only = request.method() == Method::HEAD;
        Self {
            connection: connection.clone(),
            snapshot,
            record,
            grpc,
            head_only,
            answer_fields: None,
            slot: None,
            ended: Ended(connection.clone()),
        }
    }

    /// Changes to the head of the answer, whoever gives it; applied last.
    pub(crate) fn answer_fields(&mut self) -> &mut HeaderChanges {
        self.answer_fields.get_or_insert_default()
    }

    /// Keeps a place among the requests at once until the answer is over.
    pub(super) fn hold(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// Gives an answer of the proxy's own and closes the record.
    pub(super) fn answer(mut self, mut response: Response<Body>) -> Response<Body> {
        self.record.status(response.status());
        if let Some(changes) = &self.answer_fields {
            apply(changes, response.headers_mut());
        }
        if self.connection.version == HttpVersion::Http1 && self.draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.head_only {
            // hyper leaves the body of such an answer away in HTTP/1 only.
            *response.body_mut() = Body::Empty;
        }
        response
    }

    /// Whether the connection ends after an answer with this reason: a client that sent what HTTP does not allow may
    /// mean something else by the bytes that follow.
    pub(super) fn closes_after(&self, reason: Reason) -> bool {
        let malformed = matches!(reason, Reason::BadRequest | Reason::HeadersTooLarge);
        self.connection.version == HttpVersion::Http1 && malformed
    }

    fn draining(&self) -> bool {
        self.connection.drain().is_started()
    }

    /// Turns an upstream response into the one for the client; its body carries the exchange to its end.
    pub(crate) fn respond(mut self, arrived: Arrived, deadline: Option<Instant>) -> Response<Body> {
        let (mut parts, incoming) = arrived.response.into_parts();
        self.record.status(parts.status);
        if let Some(slot) = &mut self.slot {
            slot.head(parts.status, Instant::now());
        }
        if let Some(changes) = &self.answer_fields {
            apply(changes, &mut parts.headers);
        }
        if self.grpc
            && let Some(code) = grpc_status(&parts.headers)
        {
            self.record.grpc_status(code);
        }
        if self.connection.version == HttpVersion::Http1 && self.draining() {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let streaming = Streaming {
            incoming,
            record: self.record,
            grpc: self.grpc,
            lease: arrived.lease,
            deadline: deadline.map(|at| self.connection.worker.alarms.at(at)),
            _slot: self.slot,
            _ended: self.ended,
        };
        Response::from_parts(parts, Body::Streaming(Box::new(streaming)))
    }

    /// Gives the record and the end of the exchange to whoever carries a tunnel. A tunnel is not a request under way any
    /// more: it may stand for days.
    pub(super) fn into_tunnel(self) -> (RequestRecord, impl Drop) {
        (self.record, self.ended)
    }
}

/// A response body on its way, with everything that ends when it does.
pub struct Streaming {
    incoming: Received,
    record: RequestRecord,
    grpc: bool,
    lease: Option<Lease>,
    deadline: Option<Alarm>,
    _slot: Option<Slot>,
    _ended: Ended,
}

impl Streaming {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(deadline) = &mut self.deadline
            && deadline.poll(cx).is_ready()
        {
            self.lease = None;
            self.record.reason(Reason::Timeout);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                self.passed(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease = None;
                let by_client = error.is_cut_by_client();
                self.record.reason(if by_client { Reason::BadRequest } else { Reason::UpstreamReset });
                Poll::Ready(Some(Err(BodyError::Upstream(Box::new(error)))))
            }
            None => {
                self.lease = None;
                Poll::Ready(None)
            }
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.add_bytes(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            if self.grpc
                && let Some(code) = grpc_status(trailers)
            {
                self.record.grpc_status(code);
            }
            report(self.lease.as_ref(), Fields::of(trailers), trailers);
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("record", &self.record).finish_non_exhaustive()
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    // Not `application/grpc-web`, whose clients read plain HTTP answers.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn authority_of<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => text(request.headers(), "host"),
    }
}
