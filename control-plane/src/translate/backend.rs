//! From backendRefs to clusters, and what cannot be used of them.

use std::sync::Arc;

use outrigger_model::route::{Action, Backend, BackendTarget, Forward};
use outrigger_resources::external_service::ExternalService;
use outrigger_resources::kubernetes::{Service, ServiceType};
use outrigger_resources::route::{BackendObject, BackendRef};
use outrigger_resources::{Kind, ObjectRef};

use super::filters::Applied;
use super::target::{ExternalPortOf, PortOf};
use crate::world::{World, backend_reference};

/// Why a backendRef cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendFault {
    /// The word of Gateway API.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// What becomes of requests that go to these backends.
pub(crate) fn action(world: &World, refs: &[BackendRef], route: &ObjectRef) -> Action {
    let refs = refs.iter().filter(|backend| backend.weight > 0);
    let backends: Vec<_> = refs.map(|backend| share(world, backend, route)).collect();
    let faults = backends.iter().filter_map(|backend| match &backend.target {
        BackendTarget::Cluster(_) => None,
        BackendTarget::Invalid(why) => Some(why.as_ref()),
    });
    let faults: Vec<_> = faults.collect();
    match (backends.is_empty(), faults.len() == backends.len()) {
        (true, _) => Action::NoBackend { why: "the rule has no backendRef with a weight".into() },
        (_, true) => Action::NoBackend { why: faults.join("; ").into() },
        _ => Action::Forward(Forward::to(backends)),
    }
}

/// The cluster that a backendRef of a route means.
pub(crate) fn cluster(
    world: &World,
    backend: &BackendObject,
    route: &ObjectRef,
) -> Result<Arc<str>, BackendFault> {
    let Some(reference) = backend_reference(backend, &route.namespace) else {
        let message =
            format!("{}/{} is not a kind that takes traffic; use a Service", backend.kind, backend.name);
        return Err(BackendFault { reason: "InvalidKind", message });
    };
    if !world.permits(route, &reference) {
        let ObjectRef { kind, namespace, .. } = route;
        let message = format!(
            "{reference} is in another namespace and no ReferenceGrant there lets {kind} of {namespace} refer to it"
        );
        return Err(BackendFault { reason: "RefNotPermitted", message });
    }
    let found = match reference.kind {
        Kind::ExternalService => {
            let external = world.external_service(&reference.namespace, &reference.name);
            external.map(|external| external_cluster(external, backend.port))
        }
        _ => world
            .service(&reference.namespace, &reference.name)
            .map(|service| service_cluster(service, backend.port)),
    };
    let cluster = found.unwrap_or_else(|| Err("is not there".to_owned()));
    cluster.map_err(|why| BackendFault { reason: "BackendNotFound", message: format!("{reference} {why}") })
}

fn share(world: &World, backend: &BackendRef, route: &ObjectRef) -> Backend {
    let cluster = cluster(world, &backend.object, route).map_err(|fault| fault.message);
    let usable =
        cluster.and_then(|cluster| Ok((cluster, Applied::of_backend(world, route, &backend.filters)?)));
    let (target, applied) = match usable {
        Ok((cluster, applied)) => (BackendTarget::Cluster(cluster), applied),
        Err(why) => (BackendTarget::Invalid(why.into()), Applied::default()),
    };
    Backend {
        target,
        weight: backend.weight,
        request_headers: applied.request.clone(),
        response_headers: applied.response.clone(),
        filters: applied.into_filters(),
    }
}

fn service_cluster(service: &Service, port: Option<u16>) -> Result<Arc<str>, String> {
    if service.spec.type_ == ServiceType::ExternalName {
        return Err("only renames another host; use an ExternalService".to_owned());
    }
    let Some(port) = port else { return Err("needs a port in the backendRef".to_owned()) };
    let found = PortOf::find(service, port).ok_or_else(|| format!("has no TCP port {port}"))?;
    Ok(found.destination().cluster_name().into())
}

fn external_cluster(external: &ExternalService, port: Option<u16>) -> Result<Arc<str>, String> {
    let only = match external.spec.ports.as_slice() {
        [only] => Some(only.port),
        _ => None,
    };
    let Some(port) = port.or(only) else { return Err("needs a port in the backendRef".to_owned()) };
    let host = external.spec.hosts.iter().find(|host| !host.starts_with('*'));
    let host = host.ok_or("has no whole name that could be looked up")?;
    let found =
        ExternalPortOf::find(external, host.clone(), port).ok_or_else(|| format!("has no port {port}"))?;
    Ok(found.destination().cluster_name().into())
}
