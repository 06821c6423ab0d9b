//! A small HTTP/1.1 client for the demo: one connection, kept alive, replaced when it breaks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Larger answers are not for us.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// One connection to one address.
pub(super) struct Client {
    address: SocketAddr,
    host: String,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(address: SocketAddr, host: &str) -> Self {
        Self { address, host: host.to_owned(), sender: None }
    }

    /// GET, with a limit on the time for everything.
    pub(super) async fn get(&mut self, path: &str, within: Duration) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(within, self.exchange(path)).await;
        let answer =
            answer.map_err(|_| anyhow::anyhow!("no answer within {within:?}")).and_then(|answer| answer);
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, path: &str) -> anyhow::Result<Answer> {
        let request = Request::get(path).header("host", &self.host).body(Empty::new())?;
        let sender = self.sender().await?;
        let response = sender.send_request(request).await.context("no answer came")?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn sender(&mut self) -> anyhow::Result<&mut SendRequest<Empty<Bytes>>> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.with_context(|| format!("cannot connect to {}", self.address))?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // Ends with the connection; its error is the request's.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("the connection is gone")
    }
}
