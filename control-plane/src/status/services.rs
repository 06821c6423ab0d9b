//! What became of Services, ExternalServices, EndpointSlices and Workloads.

use std::net::IpAddr;

use outrigger_model::name::Host;
use outrigger_resources::external_service::ExternalService;
use outrigger_resources::kubernetes::{EndpointSlice, Service, ServiceType, TargetPort, Transport};
use outrigger_resources::workload::Workload;
use outrigger_resources::{Object, ObjectRef};

use super::{ObjectStatus, Verdict, reason};
use crate::translate::{Member, PortOf, has_endpoints};
use crate::world::{Held, Term, World, service_of_host};

/// A Service: whether it is known by its addresses and whether somebody serves.
pub(super) fn service(world: &World, held: &Held, service: &Service) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    if service.spec.type_ == ServiceType::ExternalName {
        renaming(&mut verdict, service);
    }
    for (index, port) in service.spec.ports.iter().enumerate() {
        if port.protocol != Transport::Tcp {
            let message = format!("spec.ports[{index}]: {:?} is not carried by the mesh", port.protocol);
            verdict.invalidate(reason::UNSUPPORTED_PROTOCOL, message);
        }
    }
    for address in &service.spec.cluster_ips {
        if let Some(older) = older_at(world, *address, held) {
            let message = format!("spec.clusterIP: {address} is that of {older} already");
            verdict.invalidate(reason::CONFLICTED, message);
        }
    }
    for port in PortOf::all(service) {
        if service.spec.type_ != ServiceType::ExternalName && !has_endpoints(world, port) {
            verdict.unresolve(reason::NO_ENDPOINTS, why_no_endpoints(world, port));
        }
    }
    verdict.done()
}

/// What a Service needs that only renames another host.
fn renaming(verdict: &mut Verdict, service: &Service) {
    if service.spec.external_name.as_ref().is_none_or(|name| Host::parse(name).is_err()) {
        let message = "spec.externalName: missing or not a host name; write the name that it stands for";
        verdict.refuse(reason::UNSUPPORTED_VALUE, message.to_owned());
    } else if service.spec.ports.is_empty() {
        let message = "spec.ports: empty, so that the mesh does not know what can be dialled; name the ports";
        verdict.refuse(reason::UNSUPPORTED_VALUE, message.to_owned());
    }
}

fn older_at(world: &World, address: IpAddr, held: &Held) -> Option<ObjectRef> {
    let first = world.service_at(address)?;
    let first = Object::Service(first.clone()).reference();
    (first != held.object.reference()).then_some(first)
}

fn why_no_endpoints(world: &World, port: PortOf<'_>) -> String {
    let number = port.port.port;
    let picked = Member::picked_by(world, port.service).count();
    match (&port.port.target_port, picked) {
        (_, 0) if port.service.spec.selector.is_empty() => {
            format!("port {number} has no endpoint: no selector, and no ready endpoint in an EndpointSlice")
        }
        (_, 0) => format!("port {number} has no endpoint: spec.selector picks no Workload and no Pod"),
        (TargetPort::Name(name), _) => {
            format!(
                "port {number} has no endpoint: no picked workload is ready and has a port named {name:?}"
            )
        }
        (TargetPort::Number(_), _) => format!("port {number} has no endpoint: no picked workload is ready"),
    }
}

/// An ExternalService: whether its hosts are its own.
pub(super) fn external(world: &World, held: &Held, external: &ExternalService) -> ObjectStatus {
    let mut verdict = Verdict::about(held);
    for (index, host) in external.spec.hosts.iter().enumerate() {
        let service =
            service_of_host(host).filter(|(namespace, name)| world.service(namespace, name).is_some());
        let first = world.find(&Term::Host(host.clone())).min_by_key(|other| &other.age);
        let other = first.map(|first| first.reference()).filter(|first| *first != held.object.reference());
        if let Some((namespace, name)) = service {
            let message = format!("spec.hosts[{index}]: {host} is the name of Service/{namespace}/{name}");
            verdict.invalidate(reason::CONFLICTED, message);
        } else if let Some(other) = other {
            verdict.invalidate(
                reason::CONFLICTED,
                format!("spec.hosts[{index}]: {host} is that of {other} already"),
            );
        }
    }
    verdict.done()
}

/// An EndpointSlice that belongs to nobody.
pub(super) fn slice(world: &World, held: &Held, slice: &EndpointSlice) -> Option<ObjectStatus> {
    let namespace = &slice.meta.namespace;
    let message = match &slice.service {
        None => "metadata.labels: kubernetes.io/service-name is missing, so that it belongs to no Service"
            .to_owned(),
        Some(name) if world.service(namespace, name).is_none() => {
            format!("its Service {namespace}/{name} is not there")
        }
        Some(_) => return None,
    };
    let mut verdict = Verdict::about(held);
    verdict.unresolve(reason::TARGET_NOT_FOUND, message);
    Some(verdict.done())
}

/// A Workload in a trust domain.
pub(super) struct Described<'a> {
    pub(super) workload: &'a Workload,
    pub(super) trust_domain: &'a str,
}

/// A Workload: whether it can be dialled.
pub(super) fn workload(world: &World, held: &Held, described: &Described<'_>) -> ObjectStatus {
    let Described { workload, trust_domain } = *described;
    let mut verdict = Verdict::about(held);
    if let Err(error) = Member::Workload(workload).identity(trust_domain) {
        let message = format!("it has no identity, so nobody dials it: {error}");
        verdict.refuse(reason::INVALID_IDENTITY, message);
    }
    if !world.is_selected(&workload.meta) {
        verdict.note("no Service picks it; it can be dialled by its address only");
    }
    verdict.done()
}
