//! Listeners: how connections to a destination are handled.

use std::sync::Arc;

use outrigger_model::listener::{Handling, Listener};
use outrigger_resources::Object;
use outrigger_resources::kubernetes::ServicePort;
use outrigger_resources::mesh_config::MeshConfigSpec;

use super::attached::Attached;
use super::opaque;
use super::protocol::{Declared, is_opaque_port};
use super::target::{PortOf, Target, WorkloadAt};
use crate::world::World;

/// The listener of a destination for clients of a namespace.
pub(super) fn listener(world: &World, client_namespace: &str, target: &Target<'_>, name: &str) -> Listener {
    let handling = match target {
        Target::Service(port) => service_handling(world, client_namespace, *port),
        Target::External(port) => {
            let declared = Declared::of_external(port.port.protocol);
            plain_handling(target, declared, port.reference().to_string())
        }
        Target::Workload(workload) => {
            let declared = declared_at(world, *workload);
            plain_handling(target, declared, workload.member.reference().to_string())
        }
        Target::Outside(outside) => outside.handling(world, name),
    };
    Listener { name: name.into(), handling }
}

fn service_handling(world: &World, client_namespace: &str, port: PortOf<'_>) -> Handling {
    let target = Target::Service(port);
    let object = port.reference().to_string();
    match Attached::find(world, port, client_namespace) {
        Attached::Grpc(_) | Attached::Http(_) => Handling::Http { route_config: route_config(&target) },
        Attached::Tls(routes) => Handling::Opaque(opaque::by_name(world, port, &routes)),
        Attached::Tcp(route) => Handling::Opaque(opaque::of_tcp_route(world, route).into()),
        Attached::Nothing => plain_handling(&target, declared_or_opaque(port.port, &world.mesh()), object),
    }
}

/// Without any route: by what is declared alone.
fn plain_handling(target: &Target<'_>, declared: Declared, object: String) -> Handling {
    let opaque = opaque::to_cluster(object, target.canonical().cluster_name()).into();
    match declared {
        Declared::Http1 | Declared::Http2 => Handling::Http { route_config: route_config(target) },
        Declared::Opaque => Handling::Opaque(opaque),
        Declared::Nothing => Handling::Detect { route_config: route_config(target), opaque },
    }
}

fn route_config(target: &Target<'_>) -> Arc<str> {
    target.canonical().to_string().into()
}

/// What is declared, with the ports that the mesh never looks into.
pub(crate) fn declared_or_opaque(port: &ServicePort, mesh: &MeshConfigSpec) -> Declared {
    match Declared::of(port) {
        Declared::Nothing if is_opaque_port(port, mesh) => Declared::Opaque,
        declared => declared,
    }
}

/// What the Services of a workload say about one of its ports; the oldest that says something counts.
fn declared_at(world: &World, at: WorkloadAt<'_>) -> Declared {
    let mesh = world.mesh();
    let mut services: Vec<_> = world.services_selecting(at.member.meta()).collect();
    services.sort_by(|a, b| a.age.cmp(&b.age));
    let ports = services.iter().flat_map(|held| match &held.object {
        Object::Service(service) => PortOf::all(service).collect(),
        _ => Vec::new(),
    });
    let mut here = ports.filter(|port| at.member.port_behind(port.port) == Some(at.address.port()));
    let declared = here.find_map(|port| match declared_or_opaque(port.port, &mesh) {
        Declared::Nothing => None,
        declared => Some(declared),
    });
    declared.unwrap_or(match mesh.opaque_ports.contains(&at.address.port()) {
        true => Declared::Opaque,
        false => Declared::Nothing,
    })
}
