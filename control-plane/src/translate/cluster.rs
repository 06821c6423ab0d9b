//! Clusters: how a destination is found and treated.

use std::sync::Arc;

use outrigger_model::cluster::{Cluster, Discovery, DnsName, ServiceRef, UpstreamProtocol};
use outrigger_resources::external_service::Resolution;
use outrigger_resources::{Kind, ObjectRef};

use super::policy::Treatment;
use super::protocol::Declared;
use super::target::{ExternalPortOf, Target};
use crate::world::World;

/// The cluster of a destination.
pub(super) fn cluster(world: &World, target: &Target<'_>, name: &str) -> Cluster {
    let (reference, treatment) = match target {
        Target::Service(port) => {
            let reference = port.reference();
            let treatment = Treatment::of(world, &reference, &port.port.name);
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
    };
    Cluster {
        name: name.into(),
        service: reference,
        discovery: discovery(target),
        protocol: protocol(target),
        load_balancer: treatment.load_balancer,
        connection: treatment.connection,
        limits: treatment.limits,
        outlier: treatment.outlier,
        retry_budget: treatment.retry_budget,
    }
}

fn service_ref(reference: &ObjectRef) -> ServiceRef {
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
            if external.spec.resolution == Resolution::Dns =>
        {
            Discovery::Dns(vec![DnsName { host: Arc::clone(host), port: port.port }])
        }
        _ => Discovery::Eds,
    }
}

/// Declared HTTP/2 is spoken to every endpoint; otherwise each request keeps its version (design, decision 3).
fn protocol(target: &Target<'_>) -> UpstreamProtocol {
    let declared = match target {
        Target::Service(port) => Declared::of(port.port),
        Target::External(port) => Declared::of_external(port.port.protocol),
        Target::Workload(_) => Declared::Nothing,
    };
    match declared {
        Declared::Http2 => UpstreamProtocol::Http2,
        _ => UpstreamProtocol::AsDownstream,
    }
}
