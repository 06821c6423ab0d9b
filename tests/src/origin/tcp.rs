//! An application that does not speak HTTP.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::MAX_CONNECTIONS;

/// What [`TcpEcho`] sends once its peer has finished sending: it arrives only if half-closing works.
pub const AFTER_EOF: &[u8] = b"\nyou have finished\n";

/// Sends back every byte; when the peer finishes sending, says [`AFTER_EOF`] and closes. Dropping it closes its port
/// and every connection.
#[derive(Debug)]
pub struct TcpEcho {
    address: SocketAddr,
    accept: JoinHandle<()>,
}

impl TcpEcho {
    /// Listens on `address` (port 0 picks a free one) and serves. A `greeting` that is not empty is sent before
    /// anything is read, as servers do whose protocol lets the server speak first.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, greeting: &[u8]) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accept = tokio::spawn(accept(listener, Bytes::copy_from_slice(greeting)));
        Ok(Self { address, accept })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, greeting: Bytes) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // A connection that is gone before it is accepted is the peer's affair.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(echo(stream, greeting.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn echo(mut stream: TcpStream, greeting: Bytes) -> io::Result<()> {
    stream.write_all(&greeting).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.write_all(AFTER_EOF).await?;
    to.shutdown().await
}
