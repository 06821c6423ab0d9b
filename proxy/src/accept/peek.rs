//! Looks at what a client sends without taking it: the bytes stay in the kernel, so that whoever serves the connection
//! reads it as if nobody had looked, without a wrapper around every later read.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::sniff::{HELLO_BYTES, SNIFF_BYTES, Sniffed, sniff};

/// An undeclared protocol is decided within this time (design, decision 6).
pub(super) const DETECT_WITHIN: Duration = Duration::from_millis(50);

/// A client that declared HTTP has this time for its first bytes.
pub(super) const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(15);

/// Bytes that were looked at stay readable, so more of them are asked for at intervals, each twice as long as the last: a
/// client that says almost nothing costs almost nothing.
const AGAIN: Duration = Duration::from_millis(2);
const AGAIN_AT_MOST: Duration = Duration::from_millis(250);

/// What the client speaks; `None` when it says nothing, or nothing clear, in time.
pub(super) async fn protocol(stream: &TcpStream, within: Duration) -> io::Result<Option<Sniffed>> {
    let mut bytes = [0; SNIFF_BYTES];
    let decided = look(stream, &mut bytes, within, |seen| match sniff(seen) {
        Sniffed::NeedMore => None,
        decided => Some(decided),
    });
    decided.await
}

/// Decides by the ClientHello; `None` when it does not come in time.
pub(super) async fn hello<T>(
    stream: &TcpStream,
    within: Duration,
    decide: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut bytes = vec![0; HELLO_BYTES];
    look(stream, &mut bytes, within, decide).await
}

async fn look<T>(
    stream: &TcpStream,
    bytes: &mut [u8],
    within: Duration,
    decide: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let end = Instant::now() + within;
    let (mut seen, mut pause) = (0, AGAIN);
    loop {
        let Ok(peeked) = timeout_at(end, stream.peek(bytes)).await else { return Ok(None) };
        let length = peeked?;
        if let Some(decided) = decide(&bytes[..length]) {
            return Ok(Some(decided));
        }
        // The client ended, or filled the buffer, without being clear.
        if length == 0 || length == bytes.len() || Instant::now() >= end {
            return Ok(None);
        }
        if length == seen {
            tokio::time::sleep_until((Instant::now() + pause).min(end)).await;
            pause = (pause * 2).min(AGAIN_AT_MOST);
        }
        seen = length;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_looked_at_is_still_there() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(protocol(&server, DETECT_WITHIN * 100).await.unwrap(), Some(Sniffed::Http1));
        let mut read = [0; 3];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET");
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_put_together() {
        let (mut client, server) = pair().await;
        let looking = tokio::spawn(async move { protocol(&server, DETECT_WITHIN * 100).await.unwrap() });
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(looking.await.unwrap(), Some(Sniffed::Http2));
    }

    #[tokio::test]
    async fn silence_and_an_early_end_decide_nothing() {
        let (client, server) = pair().await;
        assert_eq!(protocol(&server, Duration::from_millis(1)).await.unwrap(), None);
        drop(client);
        assert_eq!(protocol(&server, DETECT_WITHIN * 100).await.unwrap(), None);
    }
}
