//! The demo's applications: a small HTTP server that answers with its name and what the next one in the chain said.
//! It knows nothing of the mesh: it dials its sidecar's loopback address in plain HTTP.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::client::Client;

/// Connections an application keeps to its sidecar.
const CLIENTS_MAX: usize = 64;

/// One application waits for the next no longer than this.
const PATIENCE: Duration = Duration::from_secs(4);

/// One of the demo's applications.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What it calls itself in its answers.
    #[arg(long)]
    name: String,
    /// Its version.
    #[arg(long)]
    version: String,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// The next application, at its sidecar.
    #[arg(long)]
    next: Option<SocketAddr>,
    /// What the next application is called.
    #[arg(long, default_value = "next")]
    next_name: String,
    /// Written when it listens.
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

struct Application {
    args: Args,
    clients: RefCell<Vec<Client>>,
}

pub(super) async fn serve(args: Args) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
    let address = listener.local_addr()?.to_string();
    outrigger_base::lifecycle::ready::write(args.ready_file.as_deref(), None, &json!({ "http": address }))?;
    let application = Rc::new(Application { args, clients: RefCell::default() });
    let mut signals = outrigger_base::lifecycle::signals::signals()?;
    let local = tokio::task::LocalSet::new();
    let accepting = local.run_until(accept(listener, application));
    tokio::select! {
        result = accepting => result,
        _ = signals.next() => Ok(()),
    }
}

async fn accept(listener: TcpListener, application: Rc<Application>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let application = application.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| application.answer(request));
            // A client that goes away ends its connection; nobody needs to hear of it.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Application {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut said = json!({
            "app": self.args.name,
            "version": self.args.version,
            "path": request.uri().path(),
        });
        let mut status = StatusCode::OK;
        if let Some(next) = self.args.next {
            match self.ask(next, request.uri().path()).await {
                Ok(answer) => said[&self.args.next_name] = answer,
                Err(error) => {
                    status = StatusCode::BAD_GATEWAY;
                    said["error"] = json!(format!("{error:#}"));
                }
            }
        }
        let mut response = Response::new(Full::from(said.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        Ok(response)
    }

    async fn ask(&self, next: SocketAddr, path: &str) -> anyhow::Result<Value> {
        let free = self.clients.borrow_mut().pop();
        let mut client = free.unwrap_or_else(|| Client::new(next, &self.args.next_name));
        let answer = client.get(path, PATIENCE).await?;
        if self.clients.borrow().len() < CLIENTS_MAX {
            self.clients.borrow_mut().push(client);
        }
        let said = String::from_utf8_lossy(&answer.body);
        if answer.status != StatusCode::OK {
            let why =
                answer.headers.get("x-outrigger-reason").and_then(|why| why.to_str().ok()).unwrap_or(&said);
            anyhow::bail!("{} answered {}: {why}", self.args.next_name, answer.status);
        }
        serde_json::from_str(&said).with_context(|| format!("{} did not answer in JSON", self.args.next_name))
    }
}
