//! From a changed object to the destinations that may translate differently because of it.
//!
//! For every object that a translation looks at there is an edge here that leads back to the destination. An object is
//! followed through the picture before and the picture after, so that what it was tied to and what it is tied to
//! now are both found.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_resources::authorization_policy::Scope;
use outrigger_resources::kubernetes::{EndpointSlice, Service};
use outrigger_resources::reference_grant::ReferenceGrant;
use outrigger_resources::route_policy::RoutePolicy;
use outrigger_resources::{Kind, Meta, Object, ObjectRef, select};

use super::changed::{Changed, DestinationKey, service_host};
use super::index::{
    Label, Term, parent_service, policy_target, policy_targets, route_parents, route_policy_target,
    slice_owner,
};
use super::{Held, World};

/// Adds what a change of one object from one picture to the next may alter.
pub(super) fn touch(pictures: [&World; 2], id: &ObjectRef, changed: &mut Changed) {
    let [before, after] = pictures.map(|world| world.get(id));
    if before == after {
        return;
    }
    if let Kind::Namespace | Kind::MeshConfig = id.kind {
        *changed = Changed::Everything;
        return;
    }
    for (world, held) in pictures.into_iter().zip([before, after]) {
        if let Some(held) = held {
            Edges { world, changed }.follow(&held.object);
        }
    }
    if inbound_differs(before, after) {
        changed.add(DestinationKey::Inbound(id.namespace.clone()));
    }
}

/// Whether a Service, policy or workload changed in what the `inbound` listeners of its namespace are made of; being ready or
/// not is no part of it. Selectors do not reach beyond their namespace.
fn inbound_differs(before: Option<&Arc<Held>>, after: Option<&Arc<Held>>) -> bool {
    match (before.map(|held| &held.object), after.map(|held| &held.object)) {
        (Some(Object::Pod(before)), Some(Object::Pod(after))) => {
            before.meta.labels != after.meta.labels
                || before.spec != after.spec
                || before.status.addresses != after.status.addresses
        }
        (before, after) => [before, after].into_iter().flatten().any(makes_inbound),
    }
}

fn makes_inbound(object: &Object) -> bool {
    let is_policy = matches!(object, Object::InboundPolicy(_) | Object::AuthorizationPolicy(_));
    is_policy || matches!(object, Object::Service(_) | Object::Workload(_) | Object::Pod(_))
}

struct Edges<'a> {
    world: &'a World,
    changed: &'a mut Changed,
}

impl Edges<'_> {
    fn follow(&mut self, object: &Object) {
        match object {
            Object::Service(service) => self.service(service, &object.reference()),
            Object::EndpointSlice(slice) => self.slice(slice),
            Object::Pod(_) | Object::Workload(_) => self.workload(object),
            Object::ExternalService(_) => {
                self.destination(&object.reference());
                self.routes_to(&object.reference());
            }
            Object::HttpRoute(_) | Object::GrpcRoute(_) | Object::TcpRoute(_) | Object::TlsRoute(_) => {
                self.route(object);
            }
            Object::BackendPolicy(_) | Object::BackendTlsPolicy(_) | Object::XBackendTrafficPolicy(_) => {
                self.policy(object);
            }
            Object::ConfigMap(_) => {
                for policy in self.world.find(&Term::Trusting(object.reference())) {
                    self.policy(&policy.object);
                }
            }
            Object::ReferenceGrant(grant) => self.grant(grant),
            Object::RoutePolicy(policy) => self.route_policy(policy, object.reference()),
            Object::Namespace(_) | Object::MeshConfig(_) => *self.changed = Changed::Everything,
            // All it changes are the inbound listeners of its namespace.
            Object::InboundPolicy(_) => {}
            Object::AuthorizationPolicy(policy) => {
                if *policy.meta.namespace == *self.world.mesh_namespace()
                    && policy.spec.scope == Scope::Namespace
                {
                    *self.changed = Changed::Everything;
                }
            }
            Object::ServiceAccount(_) => {}
        }
    }

    fn service(&mut self, service: &Service, reference: &ObjectRef) {
        self.destination(reference);
        self.routes_to(reference);
        // What is spoken at a member's own address is what its Services say.
        let members: Vec<_> = self.world.members(service).cloned().collect();
        for member in members {
            self.addresses(&member.object);
        }
    }

    fn slice(&mut self, slice: &EndpointSlice) {
        if let Some(owner) = slice_owner(slice) {
            self.destination(&owner);
        }
    }

    fn workload(&mut self, object: &Object) {
        self.addresses(object);
        let services: Vec<_> = self.world.services_selecting(object.meta()).map(Held::reference).collect();
        for service in services {
            self.destination(&service);
        }
        for slice in self.world.slices_about(object) {
            self.slice(slice);
        }
    }

    fn route(&mut self, object: &Object) {
        for parent in route_parents(object) {
            if let Some(service) = parent_service(parent, &object.meta().namespace) {
                self.destination(&service);
            }
        }
    }

    fn routes_to(&mut self, backend: &ObjectRef) {
        let routes: Vec<_> = self.world.find(&Term::RouteTo(backend.clone())).cloned().collect();
        for found in routes {
            match &found.object {
                Object::RoutePolicy(policy) => self.route_policy(policy, found.reference()),
                route => self.route(route),
            }
        }
    }

    /// The routes of all destinations that a policy is about, and those that name it.
    fn route_policy(&mut self, policy: &RoutePolicy, reference: ObjectRef) {
        let targets = policy.spec.target_refs.iter();
        for target in targets.filter_map(|to| route_policy_target(to, &policy.meta.namespace)) {
            match self.world.get(&target).cloned() {
                Some(held) if matches!(target.kind, Kind::HttpRoute | Kind::GrpcRoute) => {
                    self.route(&held.object);
                }
                _ => self.destination(&target),
            }
        }
        let naming: Vec<_> = self.world.find(&Term::RouteNaming(reference)).cloned().collect();
        for route in naming {
            self.route(&route.object);
        }
    }

    /// The routes of the namespaces that a grant lets in which send to the namespace of the grant.
    fn grant(&mut self, grant: &ReferenceGrant) {
        for from in &grant.spec.from {
            let across = Term::RouteAcross { from: from.namespace.clone(), to: grant.meta.namespace.clone() };
            for route in self.world.find(&across) {
                self.route(&route.object);
            }
        }
    }

    fn policy(&mut self, policy: &Object) {
        for target in policy_targets(policy) {
            if let Some(target) = policy_target(target, &policy.meta().namespace) {
                self.destination(&target);
            }
        }
    }

    fn addresses(&mut self, object: &Object) {
        match object {
            Object::Workload(workload) => self.changed.add(DestinationKey::Address(workload.spec.address)),
            Object::Pod(pod) => {
                for address in &pod.status.addresses {
                    self.changed.add(DestinationKey::Address(*address));
                }
            }
            _ => {}
        }
    }

    /// All names of a Service or ExternalService.
    fn destination(&mut self, reference: &ObjectRef) {
        match self.world.get(reference).map(|held| &held.object) {
            Some(Object::ExternalService(external)) => {
                for host in &external.spec.hosts {
                    self.changed.add(DestinationKey::Host(host.clone()));
                }
                for port in &external.spec.ports {
                    self.changed.add(DestinationKey::Outside(port.port));
                }
            }
            Some(Object::Service(service)) => {
                for address in &service.spec.cluster_ips {
                    self.changed.add(DestinationKey::Address(*address));
                }
                self.changed.add(DestinationKey::Host(service_host(&reference.namespace, &reference.name)));
                for alias in self.world.find(&Term::AliasOf(reference.clone())) {
                    let meta = alias.object.meta();
                    self.changed.add(DestinationKey::Host(service_host(&meta.namespace, &meta.name)));
                }
            }
            _ => {}
        }
    }
}

impl World {
    /// The Workloads and Pods that a Service's selector picks.
    pub(crate) fn members<'w>(&'w self, service: &'w Service) -> impl Iterator<Item = &'w Arc<Held>> {
        let terms = Label::all_of_selector(service).map(Term::Labelled);
        let rarest = terms.min_by_key(|term| self.how_many(term));
        let found = rarest.into_iter().flat_map(|term| self.find(&term));
        found.filter(|held| select(&service.spec.selector, &held.object.meta().labels))
    }

    /// Whether a Service's selector picks what carries this metadata.
    pub(crate) fn is_selected(&self, meta: &Meta) -> bool {
        let mut found = Label::all(meta).flat_map(|label| self.find(&Term::Selects(label)));
        found.any(|held| held.selects(&meta.labels))
    }

    /// The Services whose selector picks what carries this metadata.
    pub(crate) fn services_selecting(&self, meta: &Meta) -> impl Iterator<Item = &Arc<Held>> {
        self.services_selecting_labels(&meta.namespace, &meta.labels).into_iter()
    }

    /// The Services of a namespace whose selector picks these labels.
    pub(crate) fn services_selecting_labels(
        &self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<&Arc<Held>> {
        let mut services = Vec::new();
        for label in labels {
            let candidates = self.find(&Term::Selects(Label::new(namespace, label)));
            services.extend(candidates.filter(|held| held.selects(labels)));
        }
        services
    }

    /// The EndpointSlices that list a Workload or Pod, by address or by name.
    fn slices_about(&self, object: &Object) -> Vec<&EndpointSlice> {
        let addresses = match object {
            Object::Workload(workload) => std::slice::from_ref(&workload.spec.address),
            Object::Pod(pod) => &pod.status.addresses,
            _ => &[],
        };
        let mut terms = vec![Term::SliceNaming(object.reference())];
        terms.extend(addresses.iter().copied().map(Term::SliceListing));
        let held = terms.iter().flat_map(|term| self.find(term));
        let slices = held.filter_map(|held| match &held.object {
            Object::EndpointSlice(slice) => Some(slice),
            _ => None,
        });
        slices.collect()
    }
}
