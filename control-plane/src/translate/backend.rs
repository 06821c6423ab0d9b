//! From a rule to what becomes of its requests: backends, filters, and what cannot be used of them.

use std::sync::Arc;

use outrigger_model::route::{Action, Backend, BackendTarget, Forward, HeaderChanges};
use outrigger_resources::external_service::{ExternalService, Resolution};
use outrigger_resources::kubernetes::{Service, ServiceType};
use outrigger_resources::route::{BackendObject, BackendRef, Filter, HeaderModifier};
use outrigger_resources::{Kind, ObjectRef};

use super::route_policy::extension;
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

/// What the filters of a rule or of a backendRef do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) request: HeaderChanges,
    pub(crate) response: HeaderChanges,
}

impl Changes {
    /// The changes of some filters; the first one that this version does not apply makes them unusable.
    pub(crate) fn of(filters: &[Filter]) -> Result<Self, String> {
        let mut changes = Self::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaderModifier(modifier) => add(&mut changes.request, modifier),
                Filter::ResponseHeaderModifier(modifier) => add(&mut changes.response, modifier),
                Filter::ExtensionRef { .. } if extension(filter).is_some() => {}
                other => return Err(format!("filter {} is not applied by this version", word(other))),
            }
        }
        Ok(changes)
    }

    /// The same for one backend, for which a RoutePolicy cannot be.
    pub(crate) fn of_backend(filters: &[Filter]) -> Result<Self, String> {
        match filters.iter().find_map(extension) {
            Some(name) => {
                Err(format!("filter ExtensionRef names RoutePolicy {name}, which is for whole rules"))
            }
            None => Self::of(filters),
        }
    }
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
    let usable = cluster.and_then(|cluster| Ok((cluster, Changes::of_backend(&backend.filters)?)));
    let (target, changes) = match usable {
        Ok((cluster, changes)) => (BackendTarget::Cluster(cluster), changes),
        Err(why) => (BackendTarget::Invalid(why.into()), Changes::default()),
    };
    Backend {
        target,
        weight: backend.weight,
        request_headers: changes.request,
        response_headers: changes.response,
        filters: None,
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
    if external.spec.resolution == Resolution::Passthrough {
        return Err(
            "has resolution Passthrough, which this version does not apply; use DNS or Static".to_owned()
        );
    }
    let only = match external.spec.ports.as_slice() {
        [only] => Some(only.port),
        _ => None,
    };
    let Some(port) = port.or(only) else { return Err("needs a port in the backendRef".to_owned()) };
    let host = external.spec.hosts.first().ok_or("has no host")?;
    let found =
        ExternalPortOf::find(external, host.clone(), port).ok_or_else(|| format!("has no port {port}"))?;
    Ok(found.destination().cluster_name().into())
}

/// A name occurs once in a modifier; a later modifier overrides an earlier one by being applied after it.
fn add(changes: &mut HeaderChanges, modifier: &HeaderModifier) {
    changes.remove.extend(modifier.remove.iter().cloned());
    changes.set.extend(modifier.set.iter().cloned());
    changes.add.extend(modifier.add.iter().cloned());
}

fn word(filter: &Filter) -> &'static str {
    match filter {
        Filter::RequestHeaderModifier(_) => "RequestHeaderModifier",
        Filter::ResponseHeaderModifier(_) => "ResponseHeaderModifier",
        Filter::RequestRedirect(_) => "RequestRedirect",
        Filter::UrlRewrite(_) => "URLRewrite",
        Filter::RequestMirror(_) => "RequestMirror",
        Filter::Cors(_) => "CORS",
        Filter::ExternalAuth { .. } => "ExternalAuth",
        Filter::ExtensionRef { .. } => "ExtensionRef",
    }
}
