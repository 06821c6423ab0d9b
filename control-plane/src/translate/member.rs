//! Workloads and Pods seen alike: who answers at an address, where, and as whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::endpoint::{Endpoint, Health, Locality, WorkloadRef};
use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use outrigger_resources::kubernetes::{Pod, Service, ServicePort, TargetPort, Transport};
use outrigger_resources::workload::Workload;
use outrigger_resources::{Meta, Object, ObjectRef};

use crate::world::{Held, Term, World};

/// A Workload or a Pod.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member<'w> {
    Workload(&'w Workload),
    Pod(&'w Pod),
}

impl<'w> Member<'w> {
    pub(crate) fn of(held: &'w Held) -> Option<Self> {
        match &held.object {
            Object::Workload(workload) => Some(Self::Workload(workload)),
            Object::Pod(pod) => Some(Self::Pod(pod)),
            _ => None,
        }
    }

    /// Those that a Service's selector picks.
    pub(crate) fn picked_by(world: &'w World, service: &'w Service) -> impl Iterator<Item = Self> {
        world.members(service).filter_map(|held| Self::of(held))
    }

    /// Who answers at an address: the one that names the port, or the only one there is.
    pub(crate) fn at(world: &'w World, address: SocketAddr) -> Option<Self> {
        let here: Vec<_> = world.find(&Term::At(address.ip())).filter_map(|held| Self::of(held)).collect();
        let naming = here.iter().find(|member| member.names_port(address.port()));
        let only = (here.len() == 1).then(|| here.first()).flatten();
        naming.or(only).copied()
    }

    pub(crate) fn meta(&self) -> &'w Meta {
        match self {
            Self::Workload(workload) => &workload.meta,
            Self::Pod(pod) => &pod.meta,
        }
    }

    pub(crate) fn reference(&self) -> ObjectRef {
        let kind = match self {
            Self::Workload(_) => outrigger_resources::Kind::Workload,
            Self::Pod(_) => outrigger_resources::Kind::Pod,
        };
        let meta = self.meta();
        ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    /// The address others dial.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Workload(workload) => Some(workload.spec.address),
            Self::Pod(pod) => pod.status.addresses.first().copied(),
        }
    }

    /// Whether a sidecar stands in front.
    pub(crate) fn is_meshed(&self) -> bool {
        match self {
            Self::Workload(workload) => workload.spec.meshed,
            Self::Pod(pod) => pod.spec.meshed,
        }
    }

    /// Whether a port is one of those it says it has.
    pub(crate) fn names_port(&self, port: u16) -> bool {
        match self {
            Self::Workload(workload) => workload.spec.ports.values().any(|known| *known == port),
            Self::Pod(pod) => pod.spec.ports.iter().any(|known| known.port == port),
        }
    }

    /// The port behind a port of a Service; `None` when it is meant by a name that is not there.
    pub(crate) fn port_behind(&self, port: &ServicePort) -> Option<u16> {
        let name = match &port.target_port {
            TargetPort::Number(number) => return Some(*number),
            TargetPort::Name(name) => name,
        };
        match self {
            Self::Workload(workload) => workload.spec.ports.get(name).copied(),
            Self::Pod(pod) => {
                let mut named = pod.spec.ports.iter().filter(|known| known.protocol == Transport::Tcp);
                named.find(|known| known.name == *name).map(|known| known.port)
            }
        }
    }

    /// Whether it takes requests now; `None` when it does not.
    pub(crate) fn health(&self, count_not_ready: bool) -> Option<Health> {
        let pod = match self {
            Self::Workload(_) => return Some(Health::Healthy),
            Self::Pod(pod) => pod,
        };
        let ended = pod.status.phase == "Succeeded" || pod.status.phase == "Failed";
        let serves = !ended && (pod.status.ready || count_not_ready);
        match serves {
            false => None,
            true if pod.meta.deletion_timestamp.is_some() => Some(Health::Draining),
            true => Some(Health::Healthy),
        }
    }

    /// Who it proves to be; `Ok(None)` when no sidecar stands in front.
    pub(crate) fn identity(&self, trust_domain: &str) -> Result<Option<SpiffeId>, SpiffeIdError> {
        let account = match self {
            Self::Workload(workload) => &workload.spec.service_account,
            Self::Pod(pod) => &pod.spec.service_account,
        };
        match self.is_meshed() {
            true => SpiffeId::new(trust_domain, &self.meta().namespace, account).map(Some),
            false => Ok(None),
        }
    }

    /// Where it runs: of a Pod, what its topology labels say.
    pub(crate) fn locality(&self) -> Locality {
        let label = |pod: &Pod, key: &str| Arc::from(pod.meta.labels.get(key).map_or("", String::as_str));
        match self {
            Self::Workload(workload) => Locality {
                region: workload.spec.locality.region.clone(),
                zone: workload.spec.locality.zone.clone(),
            },
            Self::Pod(pod) => Locality {
                region: label(pod, "topology.kubernetes.io/region"),
                zone: label(pod, "topology.kubernetes.io/zone"),
            },
        }
    }

    /// An endpoint at one of its ports. `None` when it must not be dialled: a sidecar stands in front and nobody can
    /// say whose, so that neither mutual TLS nor plaintext would be right.
    pub(crate) fn endpoint(
        &self,
        address: SocketAddr,
        health: Health,
        trust_domain: &str,
    ) -> Option<Endpoint> {
        let identity = self.identity(trust_domain).ok()?;
        let weight = match self {
            Self::Workload(workload) => workload.spec.weight.max(1),
            Self::Pod(_) => 1,
        };
        let meta = self.meta();
        let workload = WorkloadRef { namespace: meta.namespace.clone(), name: meta.name.clone() };
        let (locality, hint_zones) = (self.locality(), Vec::new());
        Some(Endpoint { address, weight, health, locality, hint_zones, workload, identity })
    }
}
