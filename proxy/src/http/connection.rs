//! One downstream connection that speaks HTTP, and the clock that ends it when nothing sensible comes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use outrigger_base::lifecycle::drain::{Drain, DrainGuard};
use outrigger_model::identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::refused;
use crate::demand::InUse;
use crate::protection::Known;
use crate::reason::Reason;
use crate::snapshot::DestinationId;
use crate::telemetry::{Protection, Way};
use crate::upstream::HttpVersion;
use crate::worker::Worker;

/// A request head must be complete within this time of its first byte (design, decision 8).
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection without a request for so long is closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// An HTTP/1 connection over which nothing has gone for so long gives back all it needs for requests.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// What an accepted connection counts as, for as long as it or a tunnel on it lives.
#[derive(Debug)]
pub struct Held {
    /// Its place among the connections a worker takes.
    pub slot: OwnedSemaphorePermit,
    /// What a drain waits for.
    pub guard: DrainGuard,
    /// The destination it keeps from being dropped as idle.
    pub in_use: Option<InUse>,
}

/// An accepted connection, as far as requests on it need to know.
#[derive(Debug)]
pub struct Downstream {
    /// Who connected.
    pub peer: SocketAddr,
    /// The address that was dialled: the original destination, or the listener.
    pub local: SocketAddr,
    /// Which way it goes.
    pub direction: Direction,
    /// How it is protected.
    pub security: DownstreamSecurity,
    /// Given back when it ends.
    pub held: Held,
}

/// Which way a connection goes.
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    /// Towards the local application.
    Inbound {
        /// Where the application listens.
        application: SocketAddr,
    },
    /// From the local application to a destination.
    Outbound {
        /// Its place in the snapshot.
        destination: DestinationId,
    },
}

/// How a downstream connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownstreamSecurity {
    /// It is not.
    Plaintext,
    /// Mutual TLS with this verified peer.
    Mtls(SpiffeId),
}

/// What all requests of one connection share.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) downstream: Downstream,
    pub(crate) version: HttpVersion,
    pub(crate) peer_label: u32,
    pub(crate) service_label: u32,
    /// What its caller may do; `None` until a request asks under a policy.
    pub(crate) known: RefCell<Option<Box<Known>>>,
    pub(super) clock: Arc<Clock>,
}

/// When something last happened on a connection, in nanoseconds of [`Clock::since`]. Only one thread writes; the numbers are
/// atomic because the stream that is told of bytes must be `Send` to be handed over when a protocol is switched.
pub(super) struct Clock {
    since: Instant,
    in_flight: AtomicU32,
    /// One more than the time, 0 when no head has begun.
    head_began: AtomicU64,
    idle_since: AtomicU64,
    /// Counts reads and writes, so that a request in flight over which nothing moves is found without reading the time.
    moves: AtomicU64,
    moves_seen: AtomicU64,
    stalled_since: AtomicU64,
    /// An answer of the service has ended but may not be on the wire yet.
    unflushed: AtomicBool,
    /// Whoever serves the connection is ending it.
    closing: AtomicBool,
    /// Whoever serves the connection gives way to another: its end is not the stream's.
    giving_way: AtomicBool,
    refused: OnceLock<Reason>,
    version: HttpVersion,
}

/// What a look at the clock of an HTTP/1 connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is in use, or was a moment ago; the next look is due then.
    InUse(Instant),
    /// Nothing has gone over it for a while, and nothing is on its way.
    Quiet,
    /// Its time is over.
    Over,
}

impl Connection {
    pub(super) fn new(worker: Rc<Worker>, downstream: Downstream, version: HttpVersion) -> Rc<Self> {
        let telemetry = &worker.shared.telemetry;
        let peer_label = match &downstream.security {
            DownstreamSecurity::Mtls(peer) => telemetry.peer_label(peer),
            DownstreamSecurity::Plaintext => 0,
        };
        let service_label = match downstream.direction {
            Direction::Inbound { .. } => inbound_service(&worker, downstream.local.port()),
            Direction::Outbound { .. } => 0,
        };
        Rc::new(Self {
            worker,
            downstream,
            version,
            peer_label,
            service_label,
            known: RefCell::default(),
            clock: Arc::new(Clock::new(version)),
        })
    }

    pub(crate) fn way(&self) -> Way {
        match self.downstream.direction {
            Direction::Inbound { .. } => Way::Inbound,
            Direction::Outbound { .. } => Way::Outbound,
        }
    }

    /// What ends this connection.
    pub(super) fn drain(&self) -> &Drain {
        self.worker.shared.drains.of(self.way())
    }

    pub(crate) fn protection(&self) -> Protection {
        match self.downstream.security {
            DownstreamSecurity::Mtls(_) => Protection::Mtls,
            DownstreamSecurity::Plaintext => Protection::Plaintext,
        }
    }
}

fn inbound_service(worker: &Worker, port: u16) -> u32 {
    let snapshot = worker.snapshot();
    let known = snapshot.inbound.as_ref().and_then(|inbound| inbound.ports.iter().find(|p| p.port == port));
    let Some(known) = known else { return 0 };
    let telemetry = &worker.shared.telemetry;
    // `reviews.shop.svc.cluster.local`: as clients say it in their own labels, by name and namespace.
    let mut parts = known.service.split('.');
    let name = parts.next().unwrap_or_default().into();
    let namespace = parts.next().unwrap_or(&telemetry.me().namespace).into();
    telemetry.service_label(&outrigger_model::cluster::ServiceRef { kind: "Service".into(), namespace, name })
}

impl Clock {
    fn new(version: HttpVersion) -> Self {
        Self {
            version,
            moves: AtomicU64::new(0),
            moves_seen: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            giving_way: AtomicBool::new(false),
            since: Instant::now(),
            in_flight: AtomicU32::new(0),
            head_began: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            refused: OnceLock::new(),
        }
    }

    fn refused(&self, reason: Reason) {
        // Only one refusal fits on a connection: it ends with it.
        let _ = self.refused.set(reason);
    }

    /// Why the connection's last message was refused before it was a request.
    pub(super) fn refusal(&self) -> Option<Reason> {
        self.refused.get().copied()
    }

    /// A request head is complete. Gives the time its first byte came.
    pub(super) fn request_began(&self) -> Instant {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_began().inspect(|_| self.head_began.store(0, Relaxed)).unwrap_or_else(Instant::now)
    }

    /// A response is over.
    pub(super) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.unflushed.store(true, Relaxed);
        self.idle_since.store(self.passed(), Relaxed);
    }

    /// Only in HTTP/1 are the bytes between two requests the beginning of a head.
    fn bytes_came(&self) {
        self.moves.fetch_add(1, Relaxed);
        let between = self.version == HttpVersion::Http1 && self.in_flight.load(Relaxed) == 0;
        if between && self.head_began.load(Relaxed) == 0 {
            self.head_began.store(self.passed() + 1, Relaxed);
        }
    }

    /// Whether what is written now can only be hyper's own.
    fn is_between_answers(&self) -> bool {
        self.in_flight.load(Relaxed) == 0 && !self.unflushed.load(Relaxed)
    }

    pub(super) fn flushed(&self) {
        if self.in_flight.load(Relaxed) == 0 {
            self.unflushed.store(false, Relaxed);
        }
    }

    /// Whether a request head has begun and is not complete.
    pub(super) fn is_reading_head(&self) -> bool {
        self.head_began.load(Relaxed) > 0
    }

    /// Since when nothing has moved, as far as looks at it can tell.
    fn stalled_since(&self, now: Instant) -> Instant {
        let moves = self.moves.load(Relaxed);
        if self.moves_seen.swap(moves, Relaxed) != moves {
            self.stalled_since.store((now - self.since).as_nanos() as u64, Relaxed);
        }
        self.since + Duration::from_nanos(self.stalled_since.load(Relaxed))
    }

    fn passed(&self) -> u64 {
        self.since.elapsed().as_nanos() as u64
    }

    fn head_began(&self) -> Option<Instant> {
        let nanos = self.head_began.load(Relaxed).checked_sub(1)?;
        Some(self.since + Duration::from_nanos(nanos))
    }

    /// When the connection has to be looked at next, or `None` when its time is over.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let end = match self.head_began() {
            _ if self.in_flight.load(Relaxed) > 0 => self.stalled_since(now) + IDLE_TIMEOUT,
            Some(began) => began + HEAD_TIMEOUT,
            None => self.idle_end(),
        };
        (end > now).then(|| end.min(now + HEAD_TIMEOUT))
    }

    /// The same for a connection that can be parked while it is quiet.
    pub(super) fn look(&self, now: Instant) -> Look {
        let Some(next) = self.next_look(now) else { return Look::Over };
        if self.in_flight.load(Relaxed) > 0 || self.is_reading_head() {
            return Look::InUse(next);
        }
        let quiet_from = self.idle_since() + QUIET;
        let undone = self.unflushed.load(Relaxed) || self.closing.load(Relaxed);
        match (quiet_from > now, undone) {
            (true, _) => Look::InUse(quiet_from),
            (false, true) => Look::InUse(now + QUIET),
            (false, false) => Look::Quiet,
        }
    }

    /// When a connection on which nothing comes any more is over.
    pub(super) fn idle_end(&self) -> Instant {
        self.idle_since() + IDLE_TIMEOUT
    }

    fn idle_since(&self) -> Instant {
        self.since + Duration::from_nanos(self.idle_since.load(Relaxed))
    }

    /// From now on the end of whoever serves the connection is not, or is again, the end of the stream.
    pub(super) fn give_way(&self, giving: bool) {
        self.giving_way.store(giving, Relaxed);
    }
}

/// A stream that tells the clock of its connection when bytes come, and says why where hyper refuses a message.
pub(super) struct Clocked<I> {
    pub(super) io: I,
    pub(super) clock: Arc<Clock>,
    /// What was taken from the stream but not served yet; it is read first.
    pub(super) unread: Bytes,
    /// What is sent in place of hyper's own refusal, and how much of it is out.
    refusal: Option<(Vec<u8>, usize)>,
    workload: Arc<str>,
}

impl<I> Clocked<I> {
    pub(super) fn new(io: I, connection: &Connection) -> Self {
        let workload = connection.worker.shared.workload.clone();
        Self { io, clock: connection.clock.clone(), unread: Bytes::new(), refusal: None, workload }
    }
}

impl<I: AsyncWrite + Unpin> Clocked<I> {
    /// Writes our refusal in place of `bytes`, if those are hyper's own.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<std::io::Result<usize>>> {
        if self.refusal.is_none() {
            if !self.clock.is_between_answers() {
                self.clock.moves.fetch_add(1, Relaxed);
                return None;
            }
            let reason = refused::reason(bytes)?;
            self.clock.refused(reason);
            self.refusal = Some((refused::answer(reason, &self.workload), 0));
        }
        let (answer, sent) = self.refusal.as_mut()?;
        if *sent == answer.len() {
            // The connection ends with a refusal; nothing follows it.
            return Some(Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())));
        }
        while *sent < answer.len() {
            match Pin::new(&mut self.io).poll_write(cx, &answer[*sent..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => *sent += written,
                other => return Some(other),
            }
        }
        // hyper believes that its own answer went out, and closes.
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Clocked<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            self.clock.bytes_came();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            self.clock.bytes_came();
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Clocked<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.poll_refuse(cx, buf) {
            Some(refused) => refused,
            None => Pin::new(&mut self.io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            self.clock.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.clock.giving_way.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        self.clock.closing.store(true, Relaxed);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let first = bufs.first().map(|buf| &**buf).unwrap_or_default();
        match self.poll_refuse(cx, first) {
            Some(refused) => refused,
            None => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(clock: &Clock, seconds: u64) -> Option<u64> {
        let now = clock.since + Duration::from_secs(seconds);
        clock.next_look(now).map(|at| (at - clock.since).as_secs())
    }

    #[test]
    fn an_idle_connection_lives_an_hour_and_a_slow_head_fifteen_seconds() {
        let clock = Clock::new(HttpVersion::Http1);
        assert_eq!(after(&clock, 0), Some(15));
        assert_eq!(after(&clock, 3599), Some(3600));
        assert_eq!(after(&clock, 3600), None);
        clock.head_began.store(100_000_000_001, Relaxed);
        assert_eq!(after(&clock, 114), Some(115));
        assert_eq!(after(&clock, 115), None);
    }

    #[test]
    fn a_connection_is_quiet_when_all_was_answered_and_written() {
        let clock = Clock::new(HttpVersion::Http1);
        let look = |millis: u64| match clock.look(clock.since + Duration::from_millis(millis)) {
            Look::InUse(next) => Some((next - clock.since).as_millis() as u64),
            Look::Quiet => None,
            Look::Over => Some(0),
        };
        let quiet = QUIET.as_millis() as u64;
        assert_eq!((look(0), look(quiet - 1), look(quiet)), (Some(quiet), Some(quiet), None));
        clock.bytes_came();
        clock.head_began.store(2_000_000_001, Relaxed);
        assert_eq!(look(3_000), Some(17_000), "a head is half here");
        clock.request_began();
        assert_eq!(look(3_000), Some(18_000), "a request is in flight");
        clock.request_ended();
        assert_eq!(look(4_000), Some(4_000 + quiet), "its answer may not be on the wire");
        clock.flushed();
        assert_eq!(look(4_000), None);
        clock.closing.store(true, Relaxed);
        assert_eq!(look(4_000), Some(4_000 + quiet), "it is being closed");
        assert_eq!(look(3_600_001), Some(0));
    }

    #[test]
    fn a_request_in_flight_keeps_the_connection() {
        let clock = Clock::new(HttpVersion::Http1);
        clock.bytes_came();
        clock.request_began();
        assert!(after(&clock, 3_000).is_some());
        clock.bytes_came();
        assert!(after(&clock, 6_000).is_some(), "something has moved");
        assert!(after(&clock, 9_000).is_some());
        assert!(after(&clock, 10_000).is_none(), "nothing has moved for an hour");
        clock.request_ended();
        assert!(clock.head_began().is_none());
    }

    #[test]
    fn what_comes_between_the_requests_of_http2_begins_none() {
        let clock = Clock::new(HttpVersion::Http2);
        clock.bytes_came();
        assert!(!clock.is_reading_head());
    }

    #[test]
    fn an_answer_that_is_not_on_the_wire_yet_is_not_hypers_own() {
        let clock = Clock::new(HttpVersion::Http1);
        assert!(clock.is_between_answers());
        clock.request_began();
        clock.request_ended();
        assert!(!clock.is_between_answers());
        clock.flushed();
        assert!(clock.is_between_answers());
    }
}
