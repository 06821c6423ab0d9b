//! Port 15014: metrics, health, and the JSON API that the CLI and people read. Listens on loopback unless told
//! otherwise, because it shows the whole configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use outrigger_base::admin::{Readiness, health_router, metrics_router};
use outrigger_base::telemetry::metrics::Registry;
use outrigger_model::resource::ResourceType;
use outrigger_resources::{Problem, Severity};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::status::{self, ObjectStatus};
use crate::translate::{self, Client};
use crate::xds::{Hub, ProxyStatus};

pub mod meters;
pub mod readers;
pub mod trust;

/// Carries a token to the JSON API: the API server's proxy keeps `authorization` for itself.
pub const TOKEN_HEADER: &str = "x-outrigger-token";

use self::readers::Readers;
use self::trust::TrustView;

/// The most names that are listed in one answer.
const MAX_LISTED: usize = 10_000;

/// Everything that is served on the port.
pub fn router(
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    readiness: watch::Receiver<Readiness>,
    readers: Readers,
    trusted: TrustView,
) -> Router {
    let trust = Router::new().route("/api/v1/trust", get(trust::trust)).with_state(Arc::new(trusted));
    let api = Router::new()
        .route("/api/v1/version", get(version))
        .route("/api/v1/status", get(status_of_objects))
        .route("/api/v1/proxies", get(proxies))
        .route("/api/v1/config", get(config))
        .with_state(hub)
        .merge(trust)
        .layer(middleware::from_fn_with_state(readers, readers::admit));
    api.merge(metrics_router(registry, None)).merge(health_router(readiness))
}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    /// The clock of this process, in seconds of Unix time.
    time: u64,
}

#[derive(Debug, Serialize)]
struct StatusAnswer {
    /// How many changes have been put in force.
    generation: u64,
    /// How many objects there are of each kind.
    counts: BTreeMap<String, usize>,
    objects: Vec<ObjectStatus>,
    /// What reading found wrong, of files and of objects.
    problems: Vec<ProblemAnswer>,
}

/// Something wrong in a text.
#[derive(Debug, Serialize)]
struct ProblemAnswer {
    location: Option<String>,
    object: Option<String>,
    field: String,
    message: String,
    is_error: bool,
}

impl From<&Problem> for ProblemAnswer {
    fn from(problem: &Problem) -> Self {
        Self {
            location: problem.location.as_ref().map(ToString::to_string),
            object: problem.object.as_ref().map(ToString::to_string),
            field: problem.field.clone(),
            message: problem.message.clone(),
            is_error: problem.severity == Severity::Error,
        }
    }
}

#[derive(Debug, Serialize)]
struct ProxiesAnswer {
    /// The version that proxies ought to have.
    generation: u64,
    proxies: Vec<ProxyStatus>,
}

/// What of the configuration is asked for.
#[derive(Debug, Deserialize)]
struct ConfigQuery {
    /// `cluster`, `endpoints`, `listener` or `route`.
    kind: String,
    /// The name of the resource; without one, names are listed.
    name: Option<String>,
    /// The namespace of the client, which decides about consumer routes.
    #[serde(default)]
    namespace: String,
    /// The workload of the client, which decides about `inbound`.
    #[serde(default)]
    workload: String,
}

#[derive(Debug, Serialize)]
struct ConfigAnswer {
    kind: &'static str,
    name: String,
    /// The resource as text, for people.
    text: String,
}

#[derive(Debug, Serialize)]
struct NamesAnswer {
    kind: &'static str,
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ErrorAnswer {
    error: String,
}

async fn version() -> Json<Version> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Json(Version { version: env!("CARGO_PKG_VERSION"), time })
}

async fn status_of_objects(State(hub): State<Arc<Hub>>) -> Json<StatusAnswer> {
    let world = hub.world();
    let counts = world.counts().into_iter().map(|(kind, count)| (kind.to_string(), count)).collect();
    let problems = world.problems().iter().map(ProblemAnswer::from).collect();
    Json(StatusAnswer { generation: hub.generation(), counts, objects: status::evaluate(&world), problems })
}

async fn proxies(State(hub): State<Arc<Hub>>) -> Json<ProxiesAnswer> {
    Json(ProxiesAnswer { generation: hub.generation(), proxies: hub.proxies() })
}

async fn config(State(hub): State<Arc<Hub>>, Query(query): Query<ConfigQuery>) -> Response {
    let Some(kind) = ResourceType::ALL.into_iter().find(|kind| kind.word() == query.kind) else {
        let error = format!("kind is cluster, endpoints, listener or route, not {:?}", query.kind);
        return (StatusCode::BAD_REQUEST, Json(ErrorAnswer { error })).into_response();
    };
    let world = hub.world();
    let Some(name) = query.name else {
        let names = translate::wildcard(&world, kind);
        let names = names.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        return Json(NamesAnswer { kind: kind.word(), names }).into_response();
    };
    let client =
        Client { namespace: query.namespace.into(), name: query.workload.into(), ..Client::default() };
    match translate::resource(&world, &client, kind, &name) {
        Some(resource) => {
            Json(ConfigAnswer { kind: kind.word(), name, text: format!("{resource:#?}") }).into_response()
        }
        None => {
            let error = format!("there is no {} {name:?}", kind.word());
            (StatusCode::NOT_FOUND, Json(ErrorAnswer { error })).into_response()
        }
    }
}
