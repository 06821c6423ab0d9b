//! Everything that is configured, as one immutable picture.
//!
//! A source turns files or watches into [`Change`]s; [`World::apply`] makes the next picture and says which
//! destinations may translate differently. Pictures share what they have in common, so an old one stays valid for
//! whoever reads it and a new one is cheap. Nothing here does I/O, reads a clock or knows the data plane.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use outrigger_resources::external_service::ExternalService;
use outrigger_resources::kubernetes::Service;
use outrigger_resources::mesh_config::{MESH_CONFIG_NAME, MeshConfig, MeshConfigSpec};
use outrigger_resources::{Kind, Object, ObjectRef, Problem, Sourced, select};

mod age;
mod changed;
mod facts;
mod index;
mod shared_map;
mod touch;

pub use age::Age;
pub use changed::{Changed, DestinationKey, MAX_CHANGED_DESTINATIONS};
pub(crate) use changed::{host_patterns, service_host, service_of_host};
pub use facts::{Fact, Facts, Roots};
pub(crate) use index::{
    Term, alias_of, asked_service, authority_reference, backend_reference, parent_service, policy_target,
    policy_targets, route_parents, route_policy_target,
};

use crate::kubernetes::names::DEFAULT_NAMESPACE;
use shared_map::{SharedMap, SharedSets};

/// One immutable picture of all objects.
#[derive(Debug, Clone)]
pub struct World {
    /// The namespace of the one [`MeshConfig`] that counts.
    namespace: Arc<str>,
    objects: SharedMap<Arc<ObjectRef>, Arc<Held>>,
    index: SharedSets<Term, Arc<ObjectRef>>,
    problems: Arc<[Problem]>,
    facts: Arc<Facts>,
}

/// What happened to one object.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is new, or it changed. The source keeps the same object to compare with, so both share it.
    Upsert(Arc<Sourced>),
    /// It is gone.
    Delete(ObjectRef),
}

/// An object with where it was written, to which it dereferences, and how old it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    sourced: Arc<Sourced>,
    /// Who came first, where two objects contradict each other.
    pub age: Age,
}

impl Default for World {
    /// An empty picture of a mesh in the usual namespace.
    fn default() -> Self {
        Self::of_mesh(DEFAULT_NAMESPACE)
    }
}

impl World {
    /// An empty picture of the mesh whose control plane lives in `namespace`.
    pub fn of_mesh(namespace: &str) -> Self {
        let (objects, index) = (SharedMap::default(), SharedSets::default());
        let (problems, facts) = (Arc::default(), Arc::default());
        Self { namespace: namespace.into(), objects, index, problems, facts }
    }

    /// The namespace of the control plane, in which the mesh's own configuration counts.
    pub fn mesh_namespace(&self) -> &str {
        &self.namespace
    }

    /// The picture after some changes, and what they may have altered. Of several changes to one object the last counts.
    pub fn apply(&self, changes: Vec<Change>) -> (World, Changed) {
        let mut next = self.clone();
        let mut changed = Changed::default();
        let mut touched = Vec::with_capacity(changes.len());
        for change in changes {
            let id = match change {
                Change::Upsert(sourced) => next.put(sourced),
                Change::Delete(reference) => next.take(&reference),
            };
            touched.extend(id);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in &touched {
            touch::touch([self, &next], id, &mut changed);
        }
        (next, changed)
    }

    /// The same picture with what a source found wrong; replaces what was found before.
    pub fn with_problems(&self, problems: Vec<Problem>) -> World {
        Self { problems: problems.into(), ..self.clone() }
    }

    /// The same picture with something learned that is not written in any object, and what that may alter.
    pub fn learn(&self, fact: Fact) -> (World, Changed) {
        let mut facts = Facts::clone(&self.facts);
        let changed = match &fact {
            Fact::Roots(_) => Changed::Everything,
            Fact::Keys(..) => self.inbound_with_jwt(),
            // Proxies are not told why there are no keys.
            Fact::KeysFault(..) => Changed::default(),
        };
        match facts.learn(fact) {
            true => (Self { facts: Arc::new(facts), ..self.clone() }, changed),
            false => (self.clone(), Changed::default()),
        }
    }

    /// How the workloads receive traffic that a policy about tokens may be about: such policies do not reach beyond their
    /// namespace.
    fn inbound_with_jwt(&self) -> Changed {
        let mut changed = Changed::default();
        for held in self.find(&Term::InboundPolicyWithJwt) {
            changed.add(DestinationKey::Inbound(held.object.meta().namespace.clone()));
        }
        changed
    }

    /// What is known beside the objects.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the source found wrong.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many objects there are of each kind, for the metrics.
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for (id, _) in self.objects.iter() {
            *counts.entry(id.kind).or_default() += 1;
        }
        counts
    }

    /// All objects, in no useful order.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.objects.iter().map(|(_, held)| held)
    }

    /// All objects, by reference.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&Arc<ObjectRef>, &Arc<Held>)> {
        self.objects.sorted().into_iter()
    }

    /// One object.
    pub fn get(&self, reference: &ObjectRef) -> Option<&Arc<Held>> {
        self.objects.get(reference)
    }

    /// A Service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        match &self.get(&reference(Kind::Service, namespace, name))?.object {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    /// An ExternalService.
    pub fn external_service(&self, namespace: &str, name: &str) -> Option<&ExternalService> {
        match &self.get(&reference(Kind::ExternalService, namespace, name))?.object {
            Object::ExternalService(external) => Some(external),
            _ => None,
        }
    }

    /// What the whole mesh agrees on, if somebody said so.
    pub fn mesh_config(&self) -> Option<&MeshConfig> {
        match &self.get(&reference(Kind::MeshConfig, &self.namespace, MESH_CONFIG_NAME))?.object {
            Object::MeshConfig(mesh) => Some(mesh),
            _ => None,
        }
    }

    /// The trust domain of the mesh, said or by default.
    pub fn trust_domain(&self) -> Arc<str> {
        let said = self.mesh_config().map(|mesh| mesh.spec.trust_domain.clone());
        said.unwrap_or_else(|| MeshConfigSpec::default().trust_domain)
    }

    /// What the whole mesh agrees on, said or by default.
    pub fn mesh(&self) -> MeshConfigSpec {
        self.mesh_config().map(|mesh| mesh.spec.clone()).unwrap_or_default()
    }

    /// What is found under a term of the index, by reference.
    pub(crate) fn find<'w>(&'w self, term: &Term) -> impl Iterator<Item = &'w Arc<Held>> + use<'w> {
        self.index.members(term).filter_map(|id| self.objects.get(id))
    }

    /// How many objects are found under a term.
    fn how_many(&self, term: &Term) -> usize {
        self.index.get(term).map_or(0, |set| set.len())
    }

    /// Whether one object may refer to another one: within a namespace always, across only by a ReferenceGrant of the
    /// namespace that is referred to.
    pub(crate) fn permits(&self, from: &ObjectRef, to: &ObjectRef) -> bool {
        let mut grants = self.find(&Term::GrantOf(to.namespace.clone()));
        let granted = |held: &Arc<Held>| match &held.object {
            Object::ReferenceGrant(grant) => grant.permits(from, to),
            _ => false,
        };
        from.namespace == to.namespace || grants.any(granted)
    }

    /// The Service that answers at a virtual address: the oldest, should several claim it.
    pub fn service_at(&self, address: IpAddr) -> Option<&Service> {
        let oldest = self.find(&Term::VirtualIp(address)).min_by_key(|held| &held.age)?;
        match &oldest.object {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    fn put(&mut self, sourced: Arc<Sourced>) -> Option<Arc<ObjectRef>> {
        let id = Arc::new(sourced.object.reference());
        let held = Arc::new(Held::from(sourced));
        if self.objects.get(&id).is_some_and(|before| *before == held) {
            return None;
        }
        self.unlist(&id);
        for term in index::terms(&held.object) {
            self.index.add(term, id.clone());
        }
        self.objects.insert(id.clone(), held);
        Some(id)
    }

    fn take(&mut self, reference: &ObjectRef) -> Option<Arc<ObjectRef>> {
        self.unlist(reference);
        self.objects.remove(reference).map(|_| Arc::new(reference.clone()))
    }

    fn unlist(&mut self, reference: &ObjectRef) {
        let Some(before) = self.objects.get(reference).cloned() else { return };
        for term in index::terms(&before.object) {
            self.index.discard(&term, reference);
        }
    }
}

impl Held {
    /// What the object is called.
    pub fn reference(self: &Arc<Self>) -> ObjectRef {
        self.object.reference()
    }

    /// Whether it is a Service whose selector picks these labels.
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match &self.object {
            Object::Service(service) => select(&service.spec.selector, labels),
            _ => false,
        }
    }
}

impl PartialEq for World {
    /// Whether two pictures show the same objects.
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects && self.index == other.index
    }
}

impl From<Arc<Sourced>> for Held {
    fn from(sourced: Arc<Sourced>) -> Self {
        let age = Age::of(&sourced);
        Self { sourced, age }
    }
}

impl Deref for Held {
    type Target = Sourced;

    fn deref(&self) -> &Sourced {
        &self.sourced
    }
}

impl From<Sourced> for Change {
    fn from(sourced: Sourced) -> Self {
        Self::Upsert(Arc::new(sourced))
    }
}

fn reference(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: namespace.into(), name: name.into() }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
