//! The admin server: what a person or a tool asks a running proxy (contracts, section 2). Loopback only unless told
//! otherwise; it shows no secrets: of certificates never the key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use outrigger_base::telemetry::logs::LogHandle;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::certificates::Issued;
use crate::worker::Shared;
use crate::xds::Currency;

mod clusters;
mod dump;

/// What can be asked, as `/` lists it.
const INDEX: &str = "\
GET  /config_dump         the configuration in force, as JSON
GET  /clusters            endpoints with their state, as JSON; ?format=text for people
GET  /certs               the certificate in force, as JSON
GET  /listeners           where the proxy listens, as JSON
GET  /logging             the log filter in force
POST /logging?level=debug another log filter: a level, or pairs target=level
POST /drain               take no new connections, finish those there are
POST /quit                drain, then end
";

/// What the admin server shows and does.
pub struct Admin {
    /// The configuration and the certificate in force.
    pub shared: Arc<Shared>,
    /// The log of the process.
    pub log: LogHandle,
    /// The certificate in force; `None` for a workload without a token.
    pub issued: Option<watch::Receiver<Option<Arc<Issued>>>>,
    /// How current the configuration in force is.
    pub currency: watch::Receiver<Currency>,
    /// Where the proxy listens.
    pub listeners: Vec<ListenerView>,
    /// What it is told to do.
    pub wishes: mpsc::Sender<Wish>,
}

/// What the owner of the process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Take no new connections.
    Drain,
    /// End.
    Quit,
}

/// A listener as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerView {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The application, or the destination; `original destination` when connections are redirected.
    pub target: String,
}

/// Everything that `/` lists.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/config_dump", get(config_dump))
        .route("/clusters", get(clusters))
        .route("/certs", get(certs))
        .route("/listeners", get(listeners))
        .route("/logging", get(log_filter).post(set_log_filter))
        .route("/drain", post(drain))
        .route("/quit", post(quit))
        .with_state(Arc::new(admin))
}

async fn config_dump(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let mut dump = dump::snapshot(&admin.shared.snapshot.load());
    let currency = *admin.currency.borrow();
    dump["control_plane"] = json!({
        "connected": currency == Currency::Current,
        "staleness_seconds": currency.age(SystemTime::now()).map(|age| age.as_secs()),
    });
    Json(dump)
}

#[derive(Deserialize)]
struct ClusterQuery {
    format: Option<String>,
}

async fn clusters(State(admin): State<Arc<Admin>>, Query(query): Query<ClusterQuery>) -> Response {
    let views = clusters::views(&admin.shared.snapshot.load(), Instant::now());
    match query.format.as_deref() {
        None | Some("json") => Json(views).into_response(),
        Some("text") => {
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], clusters::text(&views)).into_response()
        }
        Some(other) => bad_request(format!("format is json or text, not {other:?}\n")),
    }
}

async fn certs(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let Some(receiver) = &admin.issued else {
        return Json(
            json!({"identity": null, "why": "there is no --token-file: this workload has no identity"}),
        );
    };
    let issued = receiver.borrow().clone();
    Json(match issued {
        None => json!({"identity": null, "why": "no certificate was issued yet"}),
        Some(issued) => json!({
            "identity": issued.tls.identity().as_str(),
            "chain": issued.chain,
            "root_sha256": issued.roots,
            "federated_root_sha256": issued.federated,
        }),
    })
}

async fn listeners(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(json!(admin.listeners))
}

async fn log_filter(State(admin): State<Arc<Admin>>) -> Response {
    match admin.log.filter() {
        Ok(filter) => format!("{filter}\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Deserialize)]
struct LogQuery {
    level: Option<String>,
}

async fn set_log_filter(State(admin): State<Arc<Admin>>, Query(query): Query<LogQuery>) -> Response {
    let Some(level) = query.level else {
        return bad_request("say which: POST /logging?level=debug\n".to_owned());
    };
    match admin.log.set_filter(&level) {
        Ok(()) => format!("{level}\n").into_response(),
        Err(error) => bad_request(format!("{error}\n")),
    }
}

async fn drain(State(admin): State<Arc<Admin>>) -> Response {
    wish(&admin, Wish::Drain)
}

async fn quit(State(admin): State<Arc<Admin>>) -> Response {
    wish(&admin, Wish::Quit)
}

fn wish(admin: &Admin, wish: Wish) -> Response {
    let (status, text) = match (admin.wishes.try_send(wish), wish) {
        (Ok(()), Wish::Drain) => (StatusCode::ACCEPTED, "draining\n"),
        (Ok(()), Wish::Quit) => (StatusCode::ACCEPTED, "ending\n"),
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "the proxy is ending already\n"),
    };
    (status, text).into_response()
}

fn bad_request(text: String) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests;
