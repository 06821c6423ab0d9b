//! Both ways of a connection until both sides have ended, each end forwarded when its side ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::carriers::Carriers;
use super::copy::{Copying, Step};
use super::splice::Splicing;
use crate::telemetry::TcpRecord;

/// A connection over which nothing goes for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// After so many bytes one way, other connections of the worker have their turn.
const TURN_BYTES: u64 = 512 * 1024;

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
pub(crate) async fn relay<D, U>(
    carriers: &Carriers,
    mut downstream: D,
    mut upstream: U,
    count: &impl Count,
) -> io::Result<()>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Copying::default(), Copying::default());
    both_ways(count, |way, cx| match way {
        Way::Up => up.poll_step(cx, carriers, &mut downstream, &mut upstream),
        Way::Down => down.poll_step(cx, carriers, &mut upstream, &mut downstream),
    })
    .await
}

/// As [`relay`], between two sockets of the kernel.
pub(crate) async fn relay_tcp(
    carriers: &Carriers,
    mut downstream: TcpStream,
    mut upstream: TcpStream,
    count: &impl Count,
) -> io::Result<()> {
    let (mut up, mut down) = (Splicing::default(), Splicing::default());
    both_ways(count, |way, cx| match way {
        Way::Up => up.poll_step(cx, carriers, &mut downstream, &mut upstream),
        Way::Down => down.poll_step(cx, carriers, &mut upstream, &mut downstream),
    })
    .await
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

async fn both_ways<S>(count: &impl Count, mut step: S) -> io::Result<()>
where
    S: FnMut(Way, &mut Context<'_>) -> Poll<io::Result<Step>>,
{
    let moved = Cell::new(Instant::now());
    let copying = poll_fn(|cx| {
        let (received, up) = turn(cx, |cx| step(Way::Up, cx));
        let (sent, down) = turn(cx, |cx| step(Way::Down, cx));
        if received + sent > 0 {
            count.received(received);
            count.sent(sent);
            moved.set(Instant::now());
        }
        match (up?, down?) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        result = copying => result,
        () = idle(&moved) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent either way for an hour")),
    }
}

/// One way, as far as it goes: the bytes that were read, and whether it is over.
fn turn(
    cx: &mut Context<'_>,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Step>>,
) -> (u64, Poll<io::Result<()>>) {
    let mut moved = 0;
    loop {
        match step(cx) {
            Poll::Ready(Ok(Step::Moved(bytes))) => moved += bytes as u64,
            Poll::Ready(Ok(Step::Ended)) => return (moved, Poll::Ready(Ok(()))),
            Poll::Ready(Err(error)) => return (moved, Poll::Ready(Err(error))),
            Poll::Pending => return (moved, Poll::Pending),
        }
        if moved >= TURN_BYTES {
            cx.waker().wake_by_ref();
            return (moved, Poll::Pending);
        }
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

#[cfg(test)]
mod tests;
