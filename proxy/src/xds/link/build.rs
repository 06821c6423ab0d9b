//! Routes as the request path reads them: labels are numbers, clusters are pointers, shares are summed.

use std::sync::Arc;

use outrigger_model::filter::Filters as FiltersConfig;
use outrigger_model::listener::{OpaqueRoute as OpaqueConfig, OpaqueRoutes as OpaqueConfigs};
use outrigger_model::name::INVALID_CLUSTER;
use outrigger_model::route::{self as model, BackendTarget, RouteConfig};
use tokio::time::Instant;

use super::Clusters;
use crate::limit::{GlobalLimit, Limits, service_errors};
use crate::snapshot::{
    Action, Backend, Filters, Forward, Mirror, NamedRoute, OpaqueRoute, OpaqueRoutes, Route, Routes,
};
use crate::telemetry::{MirrorMeters, Telemetry};
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

/// The opaque side; without a configuration every connection is closed.
pub(super) fn opaque(
    config: Option<&OpaqueConfigs>,
    clusters: &Clusters,
    telemetry: &Telemetry,
) -> OpaqueRoutes {
    let named = config.map(|config| config.by_name.as_slice()).unwrap_or_default().iter();
    let named = named.map(|named| NamedRoute {
        hosts: named.hosts.clone(),
        route: opaque_route(&named.route, clusters, telemetry),
    });
    let by_name = named.collect();
    let nothing = OpaqueConfig { object: Arc::default(), backends: Vec::new() };
    let otherwise = config.map_or(&nothing, |config| &config.otherwise);
    OpaqueRoutes { by_name, otherwise: opaque_route(otherwise, clusters, telemetry) }
}

/// A share whose cluster there is not stays: its connections are closed, as an HTTP share would answer 500.
fn opaque_route(config: &OpaqueConfig, clusters: &Clusters, telemetry: &Telemetry) -> Arc<OpaqueRoute> {
    let shares = config.backends.iter().filter(|backend| backend.weight > 0);
    let cluster = |name: &Arc<str>| match name.starts_with(INVALID_CLUSTER) {
        true => None,
        false => clusters.get(name).cloned().flatten(),
    };
    let backends: Vec<_> = shares.map(|backend| (backend.weight, cluster(&backend.cluster))).collect();
    let total_weight = backends.iter().fold(0_u32, |sum, (weight, _)| sum.saturating_add(*weight));
    let object = config.object.clone();
    Arc::new(OpaqueRoute { label: telemetry.label(&object), object, backends, total_weight })
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
    let global = config.global_rate_limit.as_ref().map(|limit| {
        let cluster = parts.clusters.get(&limit.cluster).cloned().flatten();
        GlobalLimit::new(limit.clone(), cluster, service_errors(parts.telemetry.registry()))
    });
    let mirrors = config.mirrors.iter().filter_map(|mirror| {
        let cluster = cluster(&mirror.target, parts.clusters)?;
        let meters = MirrorMeters::new(parts.telemetry.registry(), &cluster.config().service);
        Some(Mirror { cluster, share: mirror.share, meters })
    });
    Some(Box::new(Filters { config: config.clone(), mirrors: mirrors.collect(), rate, global }))
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
        session: forward.session.clone().map(Box::new),
        hedge: forward.hedge,
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
