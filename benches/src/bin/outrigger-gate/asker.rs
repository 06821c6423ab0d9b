//! The client: one connection, one request after the other, each answer read to its end. Nothing overlaps, so that the proxy
//! does the same for every request.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::mesh::{SERVICE, SERVICE_PORT};
use crate::scenario::{Protocol, Scenario};

/// What is asked for.
const PATH: &str = "/items/42?view=full";

/// One connection.
#[derive(Debug)]
pub(crate) struct Asker {
    sender: Sender,
    request: Request<Empty<Bytes>>,
    body_bytes: usize,
    /// The task that moves the bytes; it ends with the connection.
    _driver: JoinSet<hyper::Result<()>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Asker {
    /// Connects.
    pub(crate) async fn connect(to: SocketAddr, scenario: Scenario) -> Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        let sender = match scenario.protocol() {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                driver.spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                driver.spawn(connection);
                Sender::Http2(sender)
            }
        };
        let request = request(scenario.protocol())?;
        Ok(Self { sender, request, body_bytes: scenario.body_bytes(), _driver: driver })
    }

    /// Asks that many times. Anything but what the origin says is an error.
    pub(crate) async fn ask(&mut self, times: u32) -> Result<()> {
        for time in 1..=times {
            self.ask_once().await.with_context(|| format!("request {time} of {times}"))?;
        }
        Ok(())
    }

    async fn ask_once(&mut self) -> Result<()> {
        let response = self.sender.send(self.request.clone()).await.context("no answer came")?;
        let (head, body) = response.into_parts();
        let reason = head.headers.get("x-outrigger-reason");
        ensure!(head.status == StatusCode::OK, "the answer was {} ({reason:?})", head.status);
        let bytes = body.collect().await.context("the answer was cut")?.to_bytes().len();
        ensure!(bytes == self.body_bytes, "the answer had {bytes} bytes instead of {}", self.body_bytes);
        Ok(())
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// What an ordinary client sends.
fn request(protocol: Protocol) -> Result<Request<Empty<Bytes>>> {
    let mut request = Request::new(Empty::new());
    let authority = format!("{SERVICE}:{SERVICE_PORT}");
    let uri = match protocol {
        Protocol::Http1 => PATH.to_owned(),
        Protocol::Http2 => format!("http://{authority}{PATH}"),
    };
    *request.uri_mut() = Uri::try_from(uri)?;
    let headers = request.headers_mut();
    if protocol == Protocol::Http1 {
        headers.insert(HOST, HeaderValue::from_str(&authority)?);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("outrigger-gate"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    Ok(request)
}
