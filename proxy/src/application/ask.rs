//! One bounded GET to the application.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use outrigger_base::tls::unverified;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What is asked.
pub(crate) struct Question<'a> {
    /// Host name or address, without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// `https` is not verified, as the kubelet does not verify it: the application stands in the same pod.
    pub(crate) scheme: Scheme,
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    /// For everything, from the connection to the last byte.
    pub(crate) within: Duration,
    pub(crate) max_body_bytes: usize,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the application cannot be reached at {at}: {source}")]
    Connect { at: String, source: std::io::Error },
    #[error("the application's TLS failed: {0}")]
    Tls(std::io::Error),
    #[error("the application did not answer in HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the application's answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the application's answer ended early: {0}")]
    CutOff(Box<dyn std::error::Error + Send + Sync>),
    #[error("the application did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0:?} cannot be asked for: {1}")]
    Question(String, http::Error),
}

/// Asks, over a connection of its own.
pub(crate) async fn ask(question: Question<'_>) -> Result<Answer, AskError> {
    let within = question.within;
    timeout(within, connect_and_ask(question)).await.unwrap_or(Err(AskError::TimedOut(within)))
}

/// Whether anybody accepts a connection.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, AskError> {
    let connected = TcpStream::connect((host, port)).await;
    connected.map_err(|source| AskError::Connect { at: format!("{host}:{port}"), source })
}

async fn connect_and_ask(question: Question<'_>) -> Result<Answer, AskError> {
    let stream = connect(question.host, question.port).await?;
    if question.scheme != Scheme::HTTPS {
        return exchange(stream, question).await;
    }
    let name = ServerName::try_from(question.host.to_owned())
        .map_err(|error| AskError::Tls(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    let config = unverified::client().map_err(|error| AskError::Tls(std::io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(AskError::Tls)?;
    exchange(stream, question).await
}

async fn exchange<S>(stream: S, question: Question<'_>) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let request = request(&question).map_err(|error| AskError::Question(question.path.to_owned(), error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let max = question.max_body_bytes;
    let answered = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { AskError::TooLong(max) } else { AskError::CutOff(error) }
        })?;
        Ok(Answer { status: head.status, body: body.to_bytes() })
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        answer = answered.as_mut() => answer,
        ended = connection => match ended {
            // What is left of the answer has been read.
            Ok(()) => answered.await,
            Err(error) => Err(AskError::Http(error)),
        },
    }
}

fn request(question: &Question<'_>) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(question.path).body(Empty::new())?;
    let headers = request.headers_mut();
    headers.extend(question.headers.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::try_from(authority(question.host, question.port))?);
    }
    Ok(request)
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
