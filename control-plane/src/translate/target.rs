//! From a name that was dialled to what the mesh knows there.

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_model::name::{Destination, Host};
use outrigger_resources::external_service::{ExternalPort, ExternalService};
use outrigger_resources::kubernetes::{Service, ServicePort, ServiceType, Transport};
use outrigger_resources::{Kind, Object, ObjectRef};

use super::member::Member;
use super::outside::OutsideAt;
use crate::world::{Term, World, alias_of, host_patterns, service_host, service_of_host};

/// What stands behind a destination.
#[derive(Debug, Clone)]
pub(crate) enum Target<'w> {
    /// A port of a Service.
    Service(PortOf<'w>),
    /// A port of an ExternalService, dialled by one of its hosts.
    External(ExternalPortOf<'w>),
    /// A workload, dialled by its own address.
    Workload(WorkloadAt<'w>),
    /// An address outside the mesh, at a port for which ExternalServices have something to say.
    Outside(OutsideAt<'w>),
}

/// A port of a Service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortOf<'w> {
    pub(crate) service: &'w Service,
    pub(crate) port: &'w ServicePort,
}

/// A port of an ExternalService at one of its hosts.
#[derive(Debug, Clone)]
pub(crate) struct ExternalPortOf<'w> {
    pub(crate) external: &'w ExternalService,
    pub(crate) port: &'w ExternalPort,
    pub(crate) host: Arc<str>,
}

/// A port of a workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkloadAt<'w> {
    pub(crate) member: Member<'w>,
    pub(crate) address: SocketAddr,
}

impl<'w> Target<'w> {
    /// What a destination means. A Service is found before anything else that has the same name or address.
    pub(crate) fn find(world: &'w World, destination: &Destination) -> Option<Self> {
        match &destination.host {
            Host::Name(host) => Self::by_name(world, host, destination.port),
            Host::Address(address) => {
                let by_service =
                    world.service_at(*address).map(|service| PortOf::find(service, destination.port));
                match by_service {
                    Some(port) => port.map(Self::Service),
                    None => {
                        let address = SocketAddr::new(*address, destination.port);
                        let workload = WorkloadAt::find(world, address).map(Self::Workload);
                        workload.or_else(|| OutsideAt::find(world, address).map(Self::Outside))
                    }
                }
            }
        }
    }

    fn by_name(world: &'w World, host: &Arc<str>, port: u16) -> Option<Self> {
        let service = service_of_host(host).and_then(|(namespace, name)| world.service(namespace, name));
        if let Some(service) = service {
            let renamed = alias_of(service).and_then(|to| world.service(&to.namespace, &to.name));
            // One who renames one who renames is not followed: it is a name like any other.
            let renamed = renamed.filter(|to| to.spec.type_ != ServiceType::ExternalName);
            return PortOf::find(renamed.unwrap_or(service), port).map(Self::Service);
        }
        let oldest = |host: Arc<str>| world.find(&Term::Host(host)).min_by_key(|held| &held.age);
        let oldest = oldest(host.clone()).or_else(|| host_patterns(host).find_map(oldest))?;
        let Object::ExternalService(external) = &oldest.object else { return None };
        ExternalPortOf::find(external, host.clone(), port).map(Self::External)
    }

    /// The destination under its one full name, by which route configurations and clusters are called.
    pub(crate) fn canonical(&self) -> Destination {
        match self {
            Self::Service(port) => port.destination(),
            Self::External(port) => port.destination(),
            Self::Workload(workload) => Destination::address(workload.address),
            Self::Outside(outside) => Destination::address(outside.address),
        }
    }
}

impl<'w> PortOf<'w> {
    /// The port of a Service that carries bytes in order.
    pub(crate) fn find(service: &'w Service, port: u16) -> Option<Self> {
        Self::all(service).find(|known| known.port.port == port)
    }

    /// All ports that the mesh carries.
    pub(crate) fn all(service: &'w Service) -> impl Iterator<Item = Self> {
        let carried = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        carried.map(move |port| Self { service, port })
    }

    /// The name that an ExternalName Service stands for.
    pub(crate) fn external_name(&self) -> Option<&'w str> {
        let renames = self.service.spec.type_ == ServiceType::ExternalName;
        // What is no host name has nothing behind it, and status says so.
        self.service.spec.external_name.as_deref().filter(|name| renames && Host::parse(name).is_ok())
    }

    pub(crate) fn reference(&self) -> ObjectRef {
        let meta = &self.service.meta;
        ObjectRef { kind: Kind::Service, namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    pub(crate) fn destination(&self) -> Destination {
        let host = service_host(&self.service.meta.namespace, &self.service.meta.name);
        Destination { host: Host::Name(host), port: self.port.port }
    }
}

impl<'w> ExternalPortOf<'w> {
    /// A port of an ExternalService at a name, which is a whole one.
    pub(crate) fn find(external: &'w ExternalService, host: Arc<str>, port: u16) -> Option<Self> {
        let whole = !host.starts_with('*');
        let port = external.spec.ports.iter().find(|known| whole && known.port == port)?;
        Some(Self { external, port, host })
    }

    pub(crate) fn reference(&self) -> ObjectRef {
        let meta = &self.external.meta;
        ObjectRef { kind: Kind::ExternalService, namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination { host: Host::Name(self.host.clone()), port: self.port.port }
    }
}

impl<'w> WorkloadAt<'w> {
    /// The workload at an address. A port it does not name is only its own when its whole network is captured, which
    /// is so for a meshed Pod; on a host it may be anybody's.
    fn find(world: &'w World, address: SocketAddr) -> Option<Self> {
        let member = Member::at(world, address)?;
        let captured = matches!(member, Member::Pod(pod) if pod.spec.meshed && !pod.spec.host_network);
        (captured || member.names_port(address.port())).then_some(Self { member, address })
    }
}
