//! The accept loop of the parts that serve: origin and relay.

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// Serves every connection with what `serve` makes of it, until accepting fails.
pub(crate) async fn each<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let (stream, _) = listener.accept().await.context("no connection can be accepted")?;
        stream.set_nodelay(true).context("the connection cannot be set to send at once")?;
        connections.spawn(serve(stream));
    }
}
