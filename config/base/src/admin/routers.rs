//! `/metrics`, `/healthz/live` and `/healthz/ready`: the same in every process.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use crate::telemetry::metrics::{Format, Registry};

/// Whether a process is ready for traffic, and what it waits for when it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It waits for this.
    Waiting(Cow<'static, str>),
    /// It works, but others would do better, for this reason.
    Unfit(Cow<'static, str>),
    /// It is ready.
    Ready,
    /// It finishes its work and takes no more.
    Draining,
}

type Fetch = dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync;

/// The metrics of the application behind the process, asked for at each scrape and appended to ours. Whoever fetches
/// them bounds time and size, and gives nothing when they cannot be had.
#[derive(Clone)]
pub struct ApplicationMetrics(Arc<Fetch>);

impl ApplicationMetrics {
    /// Wraps the way to fetch them, as Prometheus text.
    pub fn new<F, R>(fetch: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = String> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(fetch())))
    }
}

impl fmt::Debug for ApplicationMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplicationMetrics")
    }
}

/// `GET /metrics`. Prometheus text, or OpenMetrics when asked for; with an application's metrics always the first.
pub fn metrics_router(registry: Arc<Registry>, application: Option<ApplicationMetrics>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state((registry, application))
}

async fn metrics(
    State((registry, application)): State<(Arc<Registry>, Option<ApplicationMetrics>)>,
    headers: HeaderMap,
) -> Response {
    let (format, text) = match application {
        Some(ApplicationMetrics(fetch)) => (Format::Prometheus, registry.render_with(&fetch().await)),
        None => {
            let format = Format::from_accept(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
            (format, registry.render(format))
        }
    };
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

/// `GET /healthz/live`, always 200, and `GET /healthz/ready`, 200 or 503 with a line that says why.
pub fn health_router(readiness: watch::Receiver<Readiness>) -> Router {
    Router::new()
        .route("/healthz/live", get(async || "live\n"))
        .route("/healthz/ready", get(ready))
        .with_state(readiness)
}

async fn ready(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, String) {
    match &*readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::Waiting(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {what}\n")),
        Readiness::Unfit(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
    }
}
