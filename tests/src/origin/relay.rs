//! An application that calls another one for each request, over connections that it keeps.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::MAX_CONNECTIONS;
use crate::client::{Answer, Client, empty};

/// How often a call is made again that was not sent, because its connection had ended.
const UNSENT_MAX: usize = 3;
/// What an application passes on that takes part in traces (W3C Trace Context).
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Serves HTTP/1.1 and HTTP/2 without TLS, and answers each request with the status and the body of a `GET` of the same
/// path, in the same trace, from the next application; 502 when that does not answer. Dropping it closes everything.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    accept: JoinHandle<()>,
}

impl Relay {
    /// Listens on `address` (port 0 picks a free one) and calls `next` over HTTP/1.1.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, next: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, accept: tokio::spawn(accept(listener, next)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, next: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, next));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, which has a connection to the next application of its own.
async fn serve(stream: TcpStream, next: SocketAddr) {
    let kept = Arc::new(Mutex::new(None));
    let service = service_fn(move |request| respond(request, next, Arc::clone(&kept)));
    // How a connection ends shows in what its client gets.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: Request<Incoming>,
    next: SocketAddr,
    kept: Arc<Mutex<Option<Client>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = call(&request, next, &mut *kept.lock().await).await;
    let (status, body) = match answer {
        Ok(answer) => (answer.status, answer.body),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}").into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

async fn call(
    request: &Request<Incoming>,
    next: SocketAddr,
    kept: &mut Option<Client>,
) -> anyhow::Result<Answer> {
    let mut unsent = 0;
    loop {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::connect(next, Version::HTTP_11).await?,
        };
        let mut onwards = Request::get(request.uri().path()).body(empty())?;
        for name in TRACE {
            let values = request.headers().get_all(name).iter().cloned();
            onwards.headers_mut().extend(values.map(|value| (HeaderName::from_static(name), value)));
        }
        match client.send(onwards).await {
            Ok(answer) => {
                if answer.header("connection") != "close" {
                    *kept = Some(client);
                }
                return Ok(answer);
            }
            Err(error) if Client::is_unsent(&error) && unsent < UNSENT_MAX => unsent += 1,
            Err(error) => return Err(error),
        }
    }
}
