//! Routes as the request path reads them: labels are numbers, clusters are pointers, shares are summed.

use std::sync::Arc;

use outrigger_model::filter::Filters as FiltersConfig;
use outrigger_model::listener::OpaqueRoute as OpaqueConfig;
use outrigger_model::route::{self as model, BackendTarget, RouteConfig};
use tokio::time::Instant;

use super::Clusters;
use crate::limit::Limits;
use crate::snapshot::{Action, Backend, Filters, Forward, Mirror, OpaqueRoute, Route, Routes};
use crate::telemetry::Telemetry;
use crate::upstream::Cluster;

/// What routes are made of besides their configuration.
pub(super) struct Parts<'a> {
    pub(super) clusters: &'a Clusters,
    pub(super) limits: &'a mut Limits,
    pub(super) telemetry: &'a Telemetry,
}

/// The HTTP side. Without a configuration no request matches.
pub(super) fn routes(name: &Arc<str>, config: Option<&RouteConfig>, mut parts: Parts<'_>) -> Routes {
    let routes = config.map(|config| config.routes.as_slice()).unwrap_or_default();
    Routes { name: name.clone(), routes: routes.iter().map(|config| route(config, &mut parts)).collect() }
}

/// The opaque side. A share whose cluster there is not is left out.
pub(super) fn opaque(
    config: Option<&OpaqueConfig>,
    clusters: &Clusters,
    telemetry: &Telemetry,
) -> OpaqueRoute {
    let object = config.map(|config| config.object.clone()).unwrap_or_default();
    let backends = config.map(|config| config.backends.as_slice()).unwrap_or_default();
    let usable = |(name, weight): (&Arc<str>, u32)| Some((weight, clusters.get(name)?.clone()?));
    let backends: Vec<_> = backends
        .iter()
        .filter(|backend| backend.weight > 0)
        .filter_map(|backend| usable((&backend.cluster, backend.weight)))
        .collect();
    let total_weight = backends.iter().fold(0_u32, |sum, (weight, _)| sum.saturating_add(*weight));
    OpaqueRoute { label: telemetry.label(&object), object, backends, total_weight }
}

fn route(config: &model::Route, parts: &mut Parts<'_>) -> Route {
    Route {
        object: config.object.clone(),
        label: parts.telemetry.label(&config.object),
        matches: config.matches.clone(),
        action: action(config, parts),
        request_headers: config.request_headers.clone(),
        response_headers: config.response_headers.clone(),
        filters: filters(config.filters.as_deref(), parts),
    }
}

/// A mirror whose cluster there is not is left out: requests never wait for their copies.
fn filters(config: Option<&FiltersConfig>, parts: &mut Parts<'_>) -> Option<Box<Filters>> {
    let config = config?;
    let rate = config.local_rate_limit.as_ref().map(|limit| parts.limits.rate(limit, Instant::now()));
    let mirrors = config.mirrors.iter().filter_map(|mirror| {
        Some(Mirror { cluster: cluster(&mirror.target, parts.clusters)?, share: mirror.share })
    });
    Some(Box::new(Filters { config: config.clone(), mirrors: mirrors.collect(), rate }))
}

fn cluster(target: &BackendTarget, clusters: &Clusters) -> Option<Arc<Cluster>> {
    clusters.get(target.cluster()?).cloned().flatten()
}

fn action(config: &model::Route, parts: &mut Parts<'_>) -> Action {
    let forward = match &config.action {
        model::Action::Forward(forward) => forward,
        model::Action::Redirect(redirect) => return Action::Redirect(redirect.clone()),
        model::Action::NoBackend { why } => {
            tracing::warn!(
                route.name = &*config.object,
                why = &**why,
                "route without a backend that can be used"
            );
            return Action::NoBackend;
        }
    };
    // A share of 0 gets nothing; when all have 0 there is nobody to send to (Gateway API, HTTPBackendRef.weight).
    let shares = forward.backends.iter().filter(|backend| backend.weight > 0);
    let backends: Vec<Backend> = shares.map(|config| backend(config, parts)).collect();
    let total_weight = backends.iter().fold(0_u32, |sum, backend| sum.saturating_add(backend.weight));
    if backends.is_empty() {
        return Action::NoBackend;
    }
    Action::Forward(Forward {
        backends,
        total_weight,
        timeout: forward.timeout,
        retry: forward.retry.clone(),
    })
}

fn backend(config: &model::Backend, parts: &mut Parts<'_>) -> Backend {
    Backend {
        weight: config.weight,
        cluster: cluster(&config.target, parts.clusters),
        request_headers: config.request_headers.clone(),
        response_headers: config.response_headers.clone(),
        filters: filters(config.filters.as_deref(), parts),
    }
}
