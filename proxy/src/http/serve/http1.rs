//! An HTTP/1 connection, which costs little more than its descriptor while nothing goes over it.
//!
//! Clients keep many more connections open than they use. One that is quiet is parked: hyper's server and its buffers are
//! given back, only the stream is kept, and when bytes come a fresh server takes over with them. All that ends a connection
//! ends a parked one too: the client, an hour without a request, a drain.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::super::connection::{Clocked, Connection, HEAD_TIMEOUT, Look, QUIET};
use super::super::hygiene::MAX_HEAD_BYTES;
use super::aside::Aside;
use super::{LAME_DUCK, answer, drained, outlived};

/// The first read of a parked connection, in bytes: most request heads fit. It is taken from the stack.
const FIRST_READ_BYTES: usize = 2 * 1024;

/// How the service of a connection was interrupted.
enum Interruption {
    Quiet,
    Over,
    Drained,
}

/// Serves until the connection ends, is idle for too long, or the proxy drains.
pub(super) async fn serve<I>(connection: &Rc<Connection>, mut stream: Clocked<I>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Serving is boxed: while the connection is parked there is no room for it.
    while let Some(quiet) = Box::pin(serve_until_quiet(connection, stream)).await? {
        stream = quiet;
        if stream.unread.is_empty() {
            stream.unread = parked(connection, &mut stream.io).await;
        }
        if stream.unread.is_empty() {
            close(&mut stream.io).await;
            break;
        }
    }
    Ok(())
}

/// Gives the stream back when nothing goes over it; `None` when the connection has ended.
async fn serve_until_quiet<I>(
    connection: &Rc<Connection>,
    stream: Clocked<I>,
) -> hyper::Result<Option<Clocked<I>>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(connection.clone(), request));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES);
    let mut served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let interrupted = pin!(async {
        tokio::select! {
            interruption = quiet_or_over(connection) => interruption,
            () = drained(connection, LAME_DUCK) => Interruption::Drained,
        }
    });
    let mut interrupted = Aside::new(interrupted);
    // What has woken a parked connection is read before the clock is looked at.
    let ended = poll_fn(|cx| match Pin::new(&mut served).poll(cx) {
        Poll::Ready(result) => Poll::Ready(Err(result)),
        Poll::Pending => interrupted.poll(cx).map(Ok),
    });
    let interruption = match ended.await {
        Ok(interruption) => interruption,
        Err(result) => return result.map(|()| None),
    };
    match interruption {
        Interruption::Over => return Ok(None),
        Interruption::Drained => Pin::new(&mut served).graceful_shutdown(),
        Interruption::Quiet => {
            // An idle server ends at once when it is told to shut down, and reads nothing more. One that is not idle after
            // all (its client is still sending the body of a request that was answered) goes on, to the end of that request.
            connection.clock.give_way(true);
            Pin::new(&mut served).graceful_shutdown();
            let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut served).poll(cx))).await;
            connection.clock.give_way(false);
            if let Poll::Ready(result) = ended {
                return result.map(|()| served.into_parts().map(|parts| put_back(parts.io, parts.read_buf)));
            }
        }
    }
    tokio::select! {
        result = &mut served => result?,
        () = outlived(connection) => {}
    }
    Ok(None)
}

/// What a server has read but not used is read again by the next.
fn put_back<I>(io: TokioIo<Clocked<I>>, unused: Bytes) -> Clocked<I> {
    let mut stream = io.into_inner();
    if !unused.is_empty() {
        stream.unread = [unused, stream.unread].concat().into();
    }
    stream
}

async fn quiet_or_over(connection: &Connection) -> Interruption {
    let mut pause = QUIET;
    loop {
        let now = Instant::now();
        match connection.clock.look(now) {
            Look::InUse(next) => {
                sleep_until(next.min(now + pause)).await;
                // A connection that is used all the time is looked at less and less often.
                pause = (2 * pause).min(HEAD_TIMEOUT);
            }
            Look::Quiet => return Interruption::Quiet,
            Look::Over => return Interruption::Over,
        }
    }
}

/// Waits for the client's next bytes; none when the connection is over.
async fn parked<I: AsyncRead + Unpin>(connection: &Connection, io: &mut I) -> Bytes {
    tokio::select! {
        biased;
        read = first_read(io) => read.unwrap_or_else(|error| {
            debug!(downstream.addr = %connection.downstream.peer, %error, "the connection ended with an error");
            Bytes::new()
        }),
        () = sleep_until(connection.clock.idle_end()) => Bytes::new(),
        () = drained(connection, LAME_DUCK) => Bytes::new(),
    }
}

async fn first_read<I: AsyncRead + Unpin>(io: &mut I) -> std::io::Result<Bytes> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); FIRST_READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    })
    .await
}

/// Tells the client that nothing more comes; it may be gone, or not read.
async fn close<I: AsyncWrite + Unpin>(io: &mut I) {
    let _ = timeout(HEAD_TIMEOUT, io.shutdown()).await;
}

#[cfg(test)]
mod tests;
