//! A client that hides nothing: HTTP/1.1 or HTTP/2 without TLS over one connection, bodies that are fed while the answer
//! is read, and plain bytes for what no HTTP library would send.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long an exchange may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many frames of a fed body may wait.
const FED_FRAMES: usize = 1;
/// What is said of the proxy that answers itself.
const REASON: &str = "x-outrigger-reason";

/// A body of a request.
pub type RequestBody = UnsyncBoxBody<Bytes, anyhow::Error>;

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    driver: JoinHandle<()>,
    authority: String,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields of the head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, if any came.
    pub trailers: HeaderMap,
}

impl Client {
    /// Connects, for HTTP/1.1 or HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// When nobody listens, or the version is another one.
    pub async fn connect(address: SocketAddr, version: Version) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let io = TokioIo::new(stream);
        // How a connection ends shows in what requests on it get.
        let (sender, driver) = match version {
            Version::HTTP_11 => {
                let (sender, connection) = http1::handshake(io).await?;
                (Sender::Http1(sender), tokio::spawn(async move { drop(connection.with_upgrades().await) }))
            }
            Version::HTTP_2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
            }
            other => bail!("the client speaks HTTP/1.1 and HTTP/2, not {other:?}"),
        };
        Ok(Self { sender, driver, authority: address.to_string() })
    }

    /// Sends a request, its target a path, and gives the answer when its head is there.
    ///
    /// # Errors
    /// When no head comes.
    pub async fn open(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>> {
        let request = self.addressed(request)?;
        let sending = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(tokio::time::timeout(PATIENCE, sending).await.context("no response head in time")??)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no complete answer comes.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Answer> {
        let response = self.open(request).await?;
        tokio::time::timeout(PATIENCE, collect(response)).await.context("no complete answer in time")?
    }

    /// `GET` of a path.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Request::get(path).body(empty())?).await
    }

    /// Whether a request failed because its connection took no more of them, as one does that has ended or after a
    /// GOAWAY: the request was not sent.
    #[must_use]
    pub fn is_unsent(error: &anyhow::Error) -> bool {
        error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_canceled() || error.is_closed())
    }

    fn addressed(&self, mut request: Request<RequestBody>) -> Result<Request<RequestBody>> {
        match &self.sender {
            Sender::Http1(_) if !request.headers().contains_key("host") => {
                request.headers_mut().insert("host", self.authority.parse()?);
            }
            Sender::Http2(_) if request.uri().authority().is_none() => {
                let target = request.uri().path_and_query().context("the target is a path")?;
                *request.uri_mut() = format!("http://{}{target}", self.authority).parse()?;
            }
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
        Ok(request)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// The word of `x-outrigger-reason`; empty when the application answered.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.header(REASON).split(';').next().unwrap_or_default()
    }

    /// A field of the head; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// A trailer; empty when it is not there.
    #[must_use]
    pub fn trailer(&self, name: &str) -> &str {
        text(&self.trailers, name)
    }

    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The name of the [`Origin`](crate::origin::Origin) that described the request; empty when none did.
    #[must_use]
    pub fn origin(&self) -> String {
        self.json()["origin"].as_str().unwrap_or_default().to_owned()
    }
}

/// `GET` over a connection of its own.
///
/// # Errors
/// When no complete answer comes.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    Client::connect(address, Version::HTTP_11).await?.get(path).await
}

/// Reads an answer to its end.
///
/// # Errors
/// When its body is cut.
pub async fn collect(response: Response<Incoming>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.context("the body was cut")?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers })
}

/// No body.
#[must_use]
pub fn empty() -> RequestBody {
    Empty::new().map_err(anyhow::Error::from).boxed_unsync()
}

/// A body whose length is known.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(anyhow::Error::from).boxed_unsync()
}

/// A body of unknown length that is fed frame by frame: its end is the end of the sender, and it breaks off when it is
/// fed an error. The sender waits until the connection takes more.
#[must_use]
pub fn fed() -> (mpsc::Sender<Result<Frame<Bytes>>>, RequestBody) {
    let (sender, receiver) = mpsc::channel(FED_FRAMES);
    (sender, Fed(receiver).boxed_unsync())
}

struct Fed(mpsc::Receiver<Result<Frame<Bytes>>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// Sends these bytes over a connection of its own and reads until the peer closes; then tells what came.
///
/// # Errors
/// When the connection is refused, or is still open when patience ends: with what came until then.
pub async fn talk(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream =
        TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    // A peer that refuses a message need not read it to its end.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = async { while matches!(stream.read_buf(&mut answer).await, Ok(count) if count > 0) {} };
    let closed = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if closed { Ok(answer) } else { bail!("the connection stays open after {answer:?}") }
}

/// Reads until `end` has come; all that came, which may be more.
///
/// # Errors
/// When the stream ends first, or patience does: with what came.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&bytes).contains(end) {
            if stream.read_buf(&mut bytes).await? == 0 {
                bail!("the stream ended");
            }
        }
        Ok(())
    };
    let read = tokio::time::timeout(PATIENCE, reading).await.context("nothing more comes").flatten();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    read.with_context(|| format!("{end:?} did not come, but {text:?}"))?;
    Ok(text)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    #[tokio::test]
    async fn both_versions_are_spoken_and_a_fed_body_arrives() {
        let origin = Origin::start("a", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut client = Client::connect(origin.address(), version).await.unwrap();
            assert_eq!(client.get("/").await.unwrap().origin(), "a");
            let (feed, body) = fed();
            let request = Request::post("/echo").body(body).unwrap();
            let (answer, ()) = tokio::join!(client.send(request), async {
                for part in ["one ", "two"] {
                    feed.send(Ok(Frame::data(part.into()))).await.unwrap();
                }
                drop(feed);
            });
            assert_eq!(answer.unwrap().body, "one two", "{version:?}");
        }
    }

    #[tokio::test]
    async fn bytes_are_sent_as_they_are() {
        let origin = Origin::start("a", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let said =
            talk(origin.address(), b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    }
}
