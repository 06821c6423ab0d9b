//! The listener named `inbound`: how the workload that asks receives traffic.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::inbound::{
    AccessLogFormat, Egress, Inbound, InboundPort, MeshSettings, MtlsMode, Protocol,
};
use outrigger_model::trust::{Trust, TrustBundle};
use outrigger_resources::kubernetes::{Service, ServicePort, TargetPort};
use outrigger_resources::mesh_config::{self as resources, MeshConfigSpec};
use outrigger_resources::{Kind, Meta, Object, ObjectRef};

use super::Client;
use super::annotated;
use super::authorization;
use super::inbound_policy::{self, Receiver};
use super::listener::declared_or_opaque;
use super::member::Member;
use super::protocol::Declared;
use super::target::PortOf;
use crate::world::{Held, Term, World};

/// How a client receives traffic.
pub(crate) fn inbound(world: &World, client: &Client) -> Inbound {
    let mesh = world.mesh();
    let mtls = match mesh.mtls {
        resources::Mtls::Strict => MtlsMode::Strict,
        resources::Mtls::Permissive => MtlsMode::Permissive,
    };
    let member = workload_of(world, client);
    let mut services = services_of(world, client, member);
    services.sort_by(|a, b| a.age.cmp(&b.age));
    let ports = ports(member, &services, &mesh);
    let mut inbound = Inbound { ports, mesh: settings(&mesh), ..Inbound::plain(mtls) };
    let labels = member.map_or(&client.labels, |member| &member.meta().labels);
    let receiver = Receiver { namespace: &client.namespace, labels, services: &services };
    inbound_policy::apply(world, &receiver, &mut inbound);
    inbound.authorization = authorization::about(world, &receiver);
    inbound.trust = trust(world, &mesh);
    if let Some(member) = member {
        annotated::apply(member.meta(), &mut inbound);
        inbound.locality = member.locality();
    }
    inbound
}

/// What the whole mesh agrees on, as far as proxies need it.
fn settings(mesh: &MeshConfigSpec) -> MeshSettings {
    let access_log = mesh.access_log.filter(|log| log.enabled).map(|log| match log.format {
        resources::AccessLogFormat::Json => AccessLogFormat::Json,
        resources::AccessLogFormat::Text => AccessLogFormat::Text,
    });
    MeshSettings {
        trust_domain: mesh.trust_domain.clone(),
        egress: match mesh.egress {
            resources::Egress::Allow => Egress::Allow,
            resources::Egress::Deny => Egress::Deny,
        },
        opaque_ports: mesh.opaque_ports.iter().copied().collect(),
        access_log,
    }
}

/// Whose certificates proxies believe; `None` in a picture without an authority.
fn trust(world: &World, mesh: &MeshConfigSpec) -> Option<Arc<Trust>> {
    let roots = world.facts().roots.as_ref()?;
    let mut own = TrustBundle { trust_domain: mesh.trust_domain.clone(), roots: roots.certificates.clone() };
    let mut others = Vec::new();
    for bundle in &mesh.trust_bundles {
        match bundle.trust_domain == own.trust_domain {
            true => add_roots(&mut own.roots, &bundle.certificates),
            false => others.push(TrustBundle {
                trust_domain: bundle.trust_domain.clone(),
                roots: bundle.certificates.clone(),
            }),
        }
    }
    let bundles = [own].into_iter().chain(others).collect();
    Some(Arc::new(Trust { bundles, signer: Some(roots.signer) }))
}

/// Adds roots that are not there yet.
fn add_roots(roots: &mut Vec<Arc<[u8]>>, more: &[Arc<[u8]>]) {
    for root in more {
        if !roots.contains(root) {
            roots.push(root.clone());
        }
    }
}

/// The ports that Services, the oldest first, lead to, in ascending order. Of several Services on one port the oldest that declares
/// something counts, else the oldest.
fn ports(member: Option<Member<'_>>, services: &[&Arc<Held>], mesh: &MeshConfigSpec) -> Vec<InboundPort> {
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    for service in services.iter().filter_map(|held| service(held)) {
        for port in PortOf::all(service) {
            let Some(number) = number_behind(member, port.port) else { continue };
            let found = InboundPort {
                port: number,
                protocol: protocol(declared_or_opaque(port.port, mesh)),
                service: full_name(&service.meta),
            };
            let known = ports.entry(number).or_insert_with(|| found.clone());
            if known.protocol == Protocol::Detect {
                known.protocol = found.protocol;
            }
        }
    }
    ports.into_values().collect()
}

/// The object that describes a client: by its name, else by its address.
fn workload_of<'w>(world: &'w World, client: &Client) -> Option<Member<'w>> {
    let named = [Kind::Workload, Kind::Pod].into_iter().find_map(|kind| {
        let reference = ObjectRef { kind, namespace: client.namespace.clone(), name: client.name.clone() };
        world.get(&reference).and_then(|held| Member::of(held))
    });
    named.or_else(|| {
        let here = world.find(&Term::At(client.address?)).filter_map(|held| Member::of(held));
        let mut own: Vec<_> = here.filter(|member| member.meta().namespace == client.namespace).collect();
        // Several workloads may share a host; then the address does not say which one asks.
        (own.len() == 1).then(|| own.remove(0))
    })
}

fn services_of<'w>(world: &'w World, client: &Client, member: Option<Member<'_>>) -> Vec<&'w Arc<Held>> {
    match member {
        Some(member) => world.services_selecting(member.meta()).collect(),
        None => world.services_selecting_labels(&client.namespace, &client.labels),
    }
}

fn number_behind(member: Option<Member<'_>>, port: &ServicePort) -> Option<u16> {
    match (member, &port.target_port) {
        (Some(member), _) => member.port_behind(port),
        (None, TargetPort::Number(number)) => Some(*number),
        (None, TargetPort::Name(_)) => None,
    }
}

fn protocol(declared: Declared) -> Protocol {
    match declared {
        Declared::Http1 => Protocol::Http1,
        Declared::Http2 => Protocol::Http2,
        Declared::Opaque => Protocol::Opaque,
        Declared::Nothing => Protocol::Detect,
    }
}

fn service(held: &Held) -> Option<&Service> {
    match &held.object {
        Object::Service(service) => Some(service),
        _ => None,
    }
}

fn full_name(meta: &Meta) -> Arc<str> {
    crate::world::service_host(&meta.namespace, &meta.name)
}
