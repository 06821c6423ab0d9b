//! The application: answers every request with a body of one size. It runs inside this program.

use std::convert::Infallible;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::scenario::{Protocol, Scenario};

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    _listening: JoinSet<Result<()>>,
}

impl Origin {
    /// Starts to serve.
    pub(crate) fn start(listeners: Vec<TcpListener>, scenario: Scenario) -> Self {
        let body = Bytes::from(vec![b'x'; scenario.body_bytes()]);
        let mut listening = JoinSet::new();
        for listener in listeners {
            listening.spawn(accept(listener, scenario.protocol(), body.clone()));
        }
        Self { _listening: listening }
    }
}

async fn accept(listener: TcpListener, protocol: Protocol, body: Bytes) -> Result<()> {
    // The proxies of one asker open a handful of connections.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("no connection can be accepted")?;
        stream.set_nodelay(true).context("the connection cannot be set to send at once")?;
        connections.spawn(answer_all(stream, protocol, body.clone()));
    }
}

async fn answer_all(stream: TcpStream, protocol: Protocol, body: Bytes) {
    let service = service_fn(move |_: Request<Incoming>| {
        let mut answer = Response::new(Full::new(body.clone()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        async { Ok::<_, Infallible>(answer) }
    });
    let stream = TokioIo::new(stream);
    // A connection that breaks is seen by the asker, as an answer that is not the one it waits for.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Protocol::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
    };
}
