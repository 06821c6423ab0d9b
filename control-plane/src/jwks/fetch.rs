//! One fetch of a set of keys: a GET over HTTP/1.1, with TLS when the URL says so. Bounded in time and size; redirects are not
//! followed, because the policy is to name where the keys are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use outrigger_base::jwks::{KeySetError, MAX_KEY_SET_BYTES};
use outrigger_base::tls::{Alpn, OriginError, OriginTls};
use outrigger_model::upstream_tls::{PeerName, Trust, UpstreamTls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address;

/// A fetch is over within this time.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// So long one of several addresses may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// What a URL gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    /// The text, whatever it is.
    pub(super) json: String,
    /// How long it may be used without asking again, if the server says so.
    pub(super) max_age: Option<Duration>,
}

/// Why there are no keys. The texts do not differ from one try to the next while the cause stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The URL cannot be dialled.
    #[error("the URL has no host")]
    Url,
    /// No such name, or the resolver is away.
    #[error("its host name cannot be resolved: {0}")]
    Name(io::Error),
    /// Only addresses that are never asked.
    #[error("its host is at {0}, an address of this host or of its cloud, which is never asked")]
    Forbidden(SocketAddr),
    /// Nobody listens there.
    #[error("{0} cannot be reached: {1}")]
    Connect(SocketAddr, io::Error),
    /// TLS cannot be set up.
    #[error("its server cannot be verified: {0}")]
    Verify(OriginError),
    /// The server could not be verified, or does not speak TLS.
    #[error("TLS with its server failed: {0}")]
    Tls(io::Error),
    /// The server does not speak HTTP, or stopped.
    #[error("its answer cannot be read: {0}")]
    Http(hyper::Error),
    /// Another answer than 200.
    #[error("it answers {0}; redirects are not followed, write the URL at which the keys are")]
    Redirect(StatusCode),
    /// Another answer than 200.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// Too much, or something broke within it.
    #[error("the answer is cut, or longer than {MAX_KEY_SET_BYTES} bytes")]
    Body,
    /// Bytes that are no text.
    #[error("the answer is not UTF-8")]
    NoText,
    /// Not within the time.
    #[error("there is no whole answer within {} seconds", FETCH_WITHIN.as_secs())]
    Late,
    /// There is an answer and it is no set of keys.
    #[error("what it gives cannot be used: {0}")]
    NoKeys(KeySetError),
    /// The fetch itself broke.
    #[error("the fetch broke off")]
    Broken,
}

/// Fetches a URL of `http` or `https`.
pub(super) async fn fetch(url: Arc<str>) -> Result<Fetched, FetchError> {
    match timeout(FETCH_WITHIN, within_time(&url)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::Late),
    }
}

async fn within_time(url: &str) -> Result<Fetched, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
    let host = uri.host().ok_or(FetchError::Url)?.trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = connect(host, port).await?;
    let answer = match is_tls {
        false => ask(stream, &uri).await?,
        true => {
            let tls = verified(host).await?;
            let connecting = TlsConnector::from(tls.client(Alpn::Http1)).connect(tls.name(), stream);
            ask(connecting.await.map_err(FetchError::Tls)?, &uri).await?
        }
    };
    read(answer).await
}

/// The first address that answers. Those that are refused are refused after the name was resolved, and no name is resolved
/// twice: it could mean something else the second time.
async fn connect(host: &str, port: u16) -> Result<TcpStream, FetchError> {
    let addresses = lookup_host((host, port)).await.map_err(FetchError::Name)?;
    let mut last = FetchError::Name(io::ErrorKind::NotFound.into());
    for to in addresses.take(MAX_ADDRESSES) {
        if address::is_refused(to.ip()) {
            last = FetchError::Forbidden(to);
            continue;
        }
        match timeout(CONNECT_WITHIN, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = FetchError::Connect(to, error),
            Err(_) => last = FetchError::Connect(to, io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}

/// What verifies a server by its name against the authorities of this host (`SSL_CERT_FILE` and `SSL_CERT_DIR` count). They
/// are read for each fetch, which is seldom: they change without anybody telling us.
async fn verified(host: &str) -> Result<OriginTls, FetchError> {
    let name: Arc<str> = host.into();
    let names = vec![PeerName::Dns(name.clone())];
    let wanted = UpstreamTls { server_name: name, names, trust: Trust::System };
    let building = tokio::task::spawn_blocking(move || {
        OriginTls::build(&wanted, || rustls_native_certs::load_native_certs().certs)
    });
    building.await.map_err(|_| FetchError::Broken)?.map_err(FetchError::Verify)
}

async fn ask<S>(stream: S, uri: &Uri) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(FetchError::Http)?;
    // Ends with the answer: nobody waits for it, and it is dropped with the fetch.
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, "outrigger-control-plane")
        .header(ACCEPT, "application/jwk-set+json, application/json;q=0.9, */*;q=0.1")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url)?;
    let response = sender.send_request(request).await.map_err(FetchError::Http)?;
    Ok(Answer { response, _driver: driver })
}

/// An answer whose body is still to come, with what brings it.
struct Answer {
    response: http::Response<Incoming>,
    _driver: tokio::task::JoinSet<()>,
}

async fn read(answer: Answer) -> Result<Fetched, FetchError> {
    let Answer { response, _driver } = answer;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(FetchError::Redirect(status)),
        status => return Err(FetchError::Status(status)),
    }
    let max_age = max_age(response.headers());
    let body = Limited::new(response.into_body(), MAX_KEY_SET_BYTES).collect().await;
    let bytes = body.map_err(|_| FetchError::Body)?.to_bytes();
    let json = String::from_utf8(bytes.into()).map_err(|_| FetchError::NoText)?;
    Ok(Fetched { json, max_age })
}

/// How long an answer may be used (RFC 9111, section 5.2.2); no time at all where it must not be kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    let mut found = None;
    for directive in fields.flat_map(|field| field.split(',')).map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        let Some((name, value)) = directive.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("max-age") {
            found = value.trim().trim_matches('"').parse().ok().map(Duration::from_secs).or(found);
        }
    }
    found
}

#[cfg(test)]
mod tests;
