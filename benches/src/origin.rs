//! The origin: answers every request with a body of one size, over as many connections as come. It knows nothing of
//! proxies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrigger_base::lifecycle::ready;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::accept;
use crate::process::{Process, Program};
use crate::scenario::{Exchange, Protocol, Work};
use crate::site::Site;

/// What the origin is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens; repeatable
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// The body of every answer, in bytes
    #[arg(long)]
    body_bytes: usize,
    /// Written when it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

/// Starts an origin as a child process, on the core of the work.
pub(crate) async fn start(listen: &[SocketAddr], work: Work, (site, dir): (&Site, &Path)) -> Result<Process> {
    let body_bytes = match work.exchange() {
        Some(Exchange::Requests { protocol: Protocol::Http1, body_bytes }) => body_bytes,
        other => bail!("there is no origin for {other:?}"),
    };
    let mut args = vec!["origin".to_owned(), "--body-bytes".to_owned(), body_bytes.to_string()];
    args.extend(listen.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]));
    Process::start(Program { name: "origin", path: &site.benches, args, core: site.cores.work }, dir).await
}

/// Serves until it is killed.
pub(crate) async fn serve(args: Args) -> Result<()> {
    let body = Bytes::from(vec![b'x'; args.body_bytes]);
    let mut listening = JoinSet::new();
    let mut addresses = Vec::new();
    for address in args.listen {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
        addresses.push(listener.local_addr()?);
        let body = body.clone();
        listening.spawn(accept::each(listener, move |stream| answer_all(stream, body.clone())));
    }
    ready::write(args.ready_file.as_deref(), None, &json!({ "http": addresses }))?;
    match listening.join_next().await {
        Some(ended) => ended.context("the accept loop broke")?,
        None => Ok(()),
    }
}

async fn answer_all(stream: TcpStream, body: Bytes) {
    let service = service_fn(move |_: Request<Incoming>| {
        let mut answer = Response::new(Full::new(body.clone()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        async { Ok::<_, Infallible>(answer) }
    });
    // A connection that breaks is seen, counted and reported by the load.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
