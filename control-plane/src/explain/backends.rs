//! The shares of a route: what each gets, who serves it and how it is treated.

use std::sync::Arc;

use outrigger_model::cluster::{Cluster, Discovery};
use outrigger_model::endpoint::{Endpoints, Health};
use outrigger_model::listener::OpaqueRoute;
use outrigger_model::name::INVALID_CLUSTER;
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_model::route::{BackendTarget, Forward};
use serde::Serialize;

use super::outcome::Answer;
use super::{Asking, words};
use crate::translate::resource;

/// A share of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// How many of a hundred requests.
    pub percent: f64,
    /// The object behind it, `Service/shop/reviews`; empty when it cannot be used.
    pub service: String,
    /// The cluster, as the admin server of a proxy calls it; empty when it cannot be used.
    pub cluster: Arc<str>,
    /// Endpoints that take requests; `None` where names are resolved by the proxy.
    pub endpoints: Option<usize>,
    /// What is changed for this share only.
    pub steps: Vec<String>,
    /// How it is treated; `None` when it cannot be used.
    pub settings: Option<Settings>,
    /// What its requests get when nobody can serve them.
    pub answer: Option<Answer>,
}

/// How requests to a backend are treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How an endpoint is chosen.
    pub load_balancer: String,
    /// Circuit breaker.
    pub limits: String,
    /// Passive ejection.
    pub outlier_detection: String,
    /// Retries of all requests together.
    pub retry_budget: String,
    /// Connections.
    pub connection: String,
    /// How new endpoints come to their share, whether near ones are preferred, how they are checked, and TLS to servers
    /// without a sidecar, where any of it is said.
    pub more: Vec<String>,
}

/// The shares of an HTTP route.
pub(super) fn http(asking: Asking<'_>, forward: &Forward) -> Vec<Backend> {
    let total: u64 = forward.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let shares = forward.backends.iter().filter(|backend| backend.weight > 0);
    let shown = shares.map(|backend| {
        let percent = percent(backend.weight, total);
        let steps = words::backend_steps(backend);
        match &backend.target {
            BackendTarget::Cluster(name) => Backend { steps, ..usable(asking, name, percent) },
            BackendTarget::Invalid(why) => invalid(why, percent),
        }
    });
    shown.collect()
}

/// The shares of an opaque route.
pub(super) fn opaque(asking: Asking<'_>, route: &OpaqueRoute) -> Vec<Backend> {
    let total: u64 = route.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let shares = route.backends.iter().filter(|backend| backend.weight > 0);
    let shown = shares.map(|backend| match backend.cluster.strip_prefix(INVALID_CLUSTER) {
        Some(why) => invalid(why, percent(backend.weight, total)),
        None => usable(asking, &backend.cluster, percent(backend.weight, total)),
    });
    shown.collect()
}

/// With two digits behind the point.
fn percent(weight: u32, total: u64) -> f64 {
    (f64::from(weight) * 10_000.0 / total.max(1) as f64).round() / 100.0
}

fn invalid(why: &str, percent: f64) -> Backend {
    Backend {
        percent,
        service: String::new(),
        cluster: Arc::default(),
        endpoints: Some(0),
        steps: Vec::new(),
        settings: None,
        answer: Some(Answer::no_backend(why.to_owned())),
    }
}

fn usable(asking: Asking<'_>, name: &Arc<str>, percent: f64) -> Backend {
    let Some(cluster) = cluster(asking, name) else {
        return Backend { cluster: name.clone(), ..invalid("there is no such cluster", percent) };
    };
    let endpoints = match &cluster.discovery {
        Discovery::Eds => Some(endpoints(asking, name)),
        _ => None,
    };
    let service = format!("{}/{}/{}", cluster.service.kind, cluster.service.namespace, cluster.service.name);
    let nobody = || Answer::no_endpoint(format!("{service} has no endpoint that is ready"));
    Backend {
        percent,
        cluster: name.clone(),
        endpoints,
        steps: Vec::new(),
        settings: Some(words::settings(&cluster)),
        answer: (endpoints == Some(0)).then(nobody),
        service,
    }
}

fn cluster(asking: Asking<'_>, name: &str) -> Option<Cluster> {
    match resource(asking.world, &asking.question.client, ResourceType::Cluster, name)? {
        Resource::Cluster(cluster) => Some(cluster),
        _ => None,
    }
}

/// How many take requests: the healthy ones, or when there is none, those that finish what they have.
fn endpoints(asking: Asking<'_>, name: &str) -> usize {
    let found = resource(asking.world, &asking.question.client, ResourceType::Endpoints, name);
    let Some(Resource::Endpoints(Endpoints { endpoints, .. })) = found else { return 0 };
    match endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy).count() {
        0 => endpoints.len(),
        healthy => healthy,
    }
}
