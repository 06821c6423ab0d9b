//! Clusters: how a destination is found and treated.

use std::sync::Arc;

use outrigger_model::cluster::{Cluster, Discovery, DnsName, ServiceRef, UpstreamProtocol};
use outrigger_model::endpoint::Endpoints;
use outrigger_model::policy::LocalityMode;
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_resources::external_service::Resolution;
use outrigger_resources::kubernetes::Service;
use outrigger_resources::{Kind, ObjectRef};

use super::policy::Treatment;
use super::protocol::Declared;
use super::target::{ExternalPortOf, Target};
use super::upstream_tls;
use crate::world::World;

/// The cluster of a destination.
pub(super) fn cluster(world: &World, target: &Target<'_>, name: &str) -> Cluster {
    let (reference, treatment) = match target {
        Target::Service(port) => {
            let reference = port.reference();
            let mut treatment = Treatment::of(world, &reference, &port.port.name);
            treatment.locality = treatment.locality.or_else(|| distribution(port.service));
            (service_ref(&reference), treatment)
        }
        Target::External(port) => {
            let reference = port.reference();
            let treatment = Treatment::of(world, &reference, &port.port.name);
            (service_ref(&reference), treatment)
        }
        Target::Workload(workload) => {
            let meta = workload.member.meta();
            let reference = ServiceRef {
                kind: "Address".into(),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
            };
            (reference, Treatment::default())
        }
        Target::Outside(outside) => outside.reference_and_treatment(world),
    };
    Cluster {
        name: name.into(),
        service: reference,
        discovery: discovery(target),
        protocol: protocol(target),
        load_balancer: treatment.load_balancer,
        slow_start: treatment.slow_start,
        locality: treatment.locality,
        connection: treatment.connection,
        limits: treatment.limits,
        outlier: treatment.outlier,
        retry_budget: treatment.retry_budget,
        health_check: treatment.health_check,
        tls: upstream_tls::of(world, target),
    }
}

/// What stands for a backend that cannot be used: a cluster without endpoints. Our proxies know such names and never ask;
/// clients of others would otherwise wait for it before they use the route at all.
pub(super) fn invalid(kind: ResourceType, name: &str) -> Option<Resource> {
    let service = ServiceRef { kind: "Invalid".into(), namespace: Arc::default(), name: name.into() };
    let treatment = Treatment::default();
    match kind {
        ResourceType::Cluster => Some(Resource::Cluster(Cluster {
            name: name.into(),
            service,
            discovery: Discovery::Eds,
            protocol: UpstreamProtocol::AsDownstream,
            load_balancer: treatment.load_balancer,
            slow_start: treatment.slow_start,
            locality: treatment.locality,
            connection: treatment.connection,
            limits: treatment.limits,
            outlier: treatment.outlier,
            retry_budget: treatment.retry_budget,
            health_check: None,
            tls: None,
        })),
        ResourceType::Endpoints => {
            Some(Resource::Endpoints(Endpoints { cluster: name.into(), endpoints: Vec::new() }))
        }
        ResourceType::Listener | ResourceType::Route => None,
    }
}

/// What a Service itself says of near endpoints, for which Kubernetes has words of its own. Nodes are not told apart here,
/// so that the same node means the same zone. A word that is not known counts as none.
fn distribution(service: &Service) -> Option<LocalityMode> {
    match service.spec.traffic_distribution.as_deref() {
        Some("PreferClose" | "PreferSameZone" | "PreferSameNode") => Some(LocalityMode::PreferLocal),
        _ => None,
    }
}

pub(super) fn service_ref(reference: &ObjectRef) -> ServiceRef {
    ServiceRef {
        kind: Kind::name(reference.kind).into(),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
    }
}

/// Whether the endpoints come from the control plane.
pub(super) fn is_eds(target: &Target<'_>) -> bool {
    discovery(target) == Discovery::Eds
}

/// Each host of an ExternalService is a cluster of its own: what serves one need not serve another.
fn discovery(target: &Target<'_>) -> Discovery {
    match target {
        Target::External(ExternalPortOf { external, port, host })
            if external.spec.resolution != Resolution::Static =>
        {
            Discovery::Dns(vec![DnsName { host: Arc::clone(host), port: port.port }])
        }
        Target::Service(port) => match port.external_name() {
            Some(host) => Discovery::Dns(vec![DnsName { host: host.into(), port: port.port.port }]),
            None => Discovery::Eds,
        },
        _ => Discovery::Eds,
    }
}

/// Declared HTTP/2 is spoken to every endpoint; otherwise each request keeps its version (design, decision 3).
fn protocol(target: &Target<'_>) -> UpstreamProtocol {
    let declared = match target {
        Target::Service(port) => Declared::of(port.port),
        Target::External(port) => Declared::of_external(port.port.protocol),
        Target::Workload(_) | Target::Outside(_) => Declared::Nothing,
    };
    match declared {
        Declared::Http2 => UpstreamProtocol::Http2,
        _ => UpstreamProtocol::AsDownstream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::{Client, resource};

    #[test]
    fn a_backend_that_cannot_be_used_is_a_cluster_without_endpoints() {
        let ask = |kind| resource(&World::default(), &Client::default(), kind, "invalid|Service/shop/gone");
        let Some(Resource::Cluster(cluster)) = ask(ResourceType::Cluster) else { panic!("no cluster") };
        assert_eq!(cluster.discovery, Discovery::Eds);
        let Some(Resource::Endpoints(endpoints)) = ask(ResourceType::Endpoints) else {
            panic!("no endpoints")
        };
        assert!(endpoints.endpoints.is_empty());
        assert!(ask(ResourceType::Route).is_none());
    }
}
