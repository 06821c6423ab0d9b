//! The copy loop: one buffer each way, grown only when it is filled, and each end forwarded when its side ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::telemetry::TcpRecord;

/// The buffer of a direction at first, in bytes: what an idle connection costs.
const SMALL_BYTES: usize = 4 * 1024;

/// The buffer of a direction that has been filled, in bytes.
const LARGE_BYTES: usize = 64 * 1024;

/// A connection over which nothing goes for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where bytes are counted.
pub(crate) trait Count {
    /// Bytes towards the one who connected.
    fn sent(&self, bytes: u64);
    /// Bytes from the one who connected.
    fn received(&self, bytes: u64);
}

impl Count for TcpRecord {
    fn sent(&self, bytes: u64) {
        TcpRecord::sent(self, bytes);
    }

    fn received(&self, bytes: u64) {
        TcpRecord::received(self, bytes);
    }
}

/// Copies both ways until both sides have ended, one fails, or nothing goes for [`IDLE_TIMEOUT`].
pub(crate) async fn relay<D, U>(mut downstream: D, mut upstream: U, count: &impl Count) -> io::Result<()>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::new(), Direction::new());
    let moved = Cell::new(Instant::now());
    let copying = poll_fn(|cx| {
        let received = up.poll(cx, &mut downstream, &mut upstream)?;
        let sent = down.poll(cx, &mut upstream, &mut downstream)?;
        let (a, b) = (up.take_count(), down.take_count());
        if a + b > 0 {
            count.received(a);
            count.sent(b);
            moved.set(Instant::now());
        }
        if received.is_ready() && sent.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    tokio::select! {
        result = copying => result,
        () = idle(&moved) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent either way for an hour")),
    }
}

async fn idle(moved: &Cell<Instant>) {
    loop {
        let end = moved.get() + IDLE_TIMEOUT;
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

/// One way of a connection.
struct Direction {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    count: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Ending,
    Ended,
}

impl Direction {
    fn new() -> Self {
        Self { buffer: vec![0; SMALL_BYTES].into(), start: 0, end: 0, count: 0, state: State::Copying }
    }

    fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Copying if self.start == self.end => {
                    if self.poll_fill(cx, from, to)?.is_pending() {
                        return Poll::Pending;
                    }
                }
                State::Copying => ready!(self.poll_drain(cx, to))?,
            }
        }
    }

    fn poll_fill<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.end == self.buffer.len() && self.buffer.len() < LARGE_BYTES {
            self.buffer = vec![0; LARGE_BYTES].into();
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        if Pin::new(from).poll_read(cx, &mut buffer)?.is_pending() {
            // Nothing more for now: what a TLS stream holds back goes out.
            return Pin::new(to).poll_flush(cx).map_ok(|()| ()).and_pending();
        }
        (self.start, self.end) = (0, buffer.filled().len());
        self.count += self.end as u64;
        if self.end == 0 {
            self.state = State::Ending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(to).poll_write(cx, &self.buffer[self.start..self.end]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += written;
        Poll::Ready(Ok(()))
    }
}

/// A flush that is done still leaves the reader waiting.
trait AndPending {
    fn and_pending(self) -> Self;
}

impl AndPending for Poll<io::Result<()>> {
    fn and_pending(self) -> Self {
        match self {
            Self::Ready(Ok(())) => Self::Pending,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    #[derive(Default)]
    struct Counted(Cell<u64>, Cell<u64>);

    impl Count for Counted {
        fn sent(&self, bytes: u64) {
            self.0.set(self.0.get() + bytes);
        }

        fn received(&self, bytes: u64) {
            self.1.set(self.1.get() + bytes);
        }
    }

    /// The result, bytes sent and bytes received.
    type Relayed = (io::Result<()>, u64, u64);

    struct Ends {
        client: DuplexStream,
        server: DuplexStream,
        relay: Pin<Box<dyn Future<Output = Relayed>>>,
    }

    fn ends(size: usize) -> Ends {
        let (client, downstream) = duplex(size);
        let (upstream, server) = duplex(size);
        let relay = Box::pin(async move {
            let counted = Counted::default();
            let result = relay(downstream, upstream, &counted).await;
            (result, counted.0.get(), counted.1.get())
        });
        Ends { client, server, relay }
    }

    #[tokio::test]
    async fn each_side_may_end_first_and_the_other_goes_on() {
        for client_first in [true, false] {
            let Ends { client, server, relay } = ends(64);
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            let talk = async move {
                first.write_all(b"question").await.unwrap();
                first.shutdown().await.unwrap();
                let mut heard = String::new();
                second.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "question");
                second.write_all(b"a long answer after the end").await.unwrap();
                second.shutdown().await.unwrap();
                let mut answer = String::new();
                first.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, "a long answer after the end");
            };
            let ((result, sent, received), ()) = tokio::join!(relay, talk);
            result.unwrap();
            assert_eq!(sent + received, 35);
            assert_eq!(received, if client_first { 8 } else { 27 });
        }
    }

    #[tokio::test]
    async fn more_than_all_buffers_goes_through_whole() {
        let Ends { mut client, mut server, relay } = ends(5000);
        let bytes: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        let copy = bytes.clone();
        let send = async move {
            client.write_all(&copy).await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let receive = async move {
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            drop(server);
            heard
        };
        let ((result, ..), (), heard) = tokio::join!(relay, send, receive);
        result.unwrap();
        assert_eq!(heard, bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_silence_ends_the_connection() {
        let Ends { client, server, relay } = ends(64);
        let begun = Instant::now();
        let (result, ..) = relay.await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), IDLE_TIMEOUT);
        drop((client, server));
    }
}
