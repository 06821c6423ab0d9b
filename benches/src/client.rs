//! One HTTP/1.1 connection of a client that knows what it should be answered.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What is asked, where, and what the answer must be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Where to connect
    #[arg(long = "target")]
    pub(crate) address: SocketAddr,
    /// What is sent as Host
    #[arg(long)]
    pub(crate) host: HeaderValue,
    /// The path and query of every request
    #[arg(long)]
    pub(crate) path: Uri,
    /// The body every answer must have, in bytes
    #[arg(long)]
    pub(crate) body_bytes: usize,
}

/// One connection to a target.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    body_bytes: usize,
    /// The task that moves the bytes; it ends with the connection.
    _driver: JoinSet<hyper::Result<()>>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { sender, request: request(target), body_bytes: target.body_bytes, _driver: driver })
    }

    /// Asks once and reads the answer to its end. Anything but what the origin says is an error.
    pub(crate) async fn ask(&mut self) -> Result<()> {
        self.sender.ready().await.context("the connection was closed between two requests")?;
        let response = self.sender.send_request(self.request.clone()).await.context("no answer came")?;
        let (head, mut body) = response.into_parts();
        if head.status != StatusCode::OK {
            let reason = head.headers.get("x-outrigger-reason").and_then(|reason| reason.to_str().ok());
            anyhow::bail!(
                "the answer was {}{}",
                head.status,
                reason.map(|r| format!(" ({r})")).unwrap_or_default()
            );
        }
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.context("the answer was cut")?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(bytes == self.body_bytes, "the answer had {bytes} bytes instead of {}", self.body_bytes);
        Ok(())
    }
}

/// What an ordinary client sends.
fn request(target: &Target) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.path.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, target.host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static("outrigger-benches"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    request
}
