//! What is known of the cluster, and what of it the world was told. Pure: events in, updates out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_resources::kubernetes::Pod;
use outrigger_resources::{Effect, Kind, Object, ObjectRef, Problem, Sourced};

use super::read::{Name, ObjectReading, Place, REGION_LABEL, Reading, ZONE_LABEL};
use super::{Event, Scope, Watched};
use crate::source::Update;
use crate::world::Change;

/// Objects that are kept; one more is not read, and reported.
const MAX_OBJECTS: usize = 1_000_000;

/// What is known of the cluster.
pub(super) struct Store {
    scope: Scope,
    /// What has been listed once, or is known not to be there.
    listed: BTreeSet<Watched>,
    /// What was seen of lists that are not complete yet.
    listing: BTreeMap<Watched, BTreeSet<Name>>,
    objects: BTreeMap<ObjectRef, Arc<Sourced>>,
    nodes: BTreeMap<Arc<str>, Place>,
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// What the world was told, and of what it was not told yet.
    told: BTreeMap<ObjectRef, Arc<Sourced>>,
    touched: BTreeSet<ObjectRef>,
    /// Nodes that are at another place than their pods were told.
    moved: BTreeSet<Arc<str>>,
    /// The problems changed since the last update.
    problems_changed: bool,
    /// There was a first update.
    began: bool,
}

impl Store {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            scope,
            listed: BTreeSet::new(),
            listing: BTreeMap::new(),
            objects: BTreeMap::new(),
            nodes: BTreeMap::new(),
            problems: BTreeMap::new(),
            told: BTreeMap::new(),
            touched: BTreeSet::new(),
            moved: BTreeSet::new(),
            problems_changed: false,
            began: false,
        }
    }

    /// Takes in an event.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Listing(watched) => {
                self.listing.insert(watched, BTreeSet::new());
            }
            Event::There(reading) => {
                let name = reading.name();
                if let Some(seen) = self.listing.get_mut(&name.watched()) {
                    seen.insert(name);
                }
                self.there(reading);
            }
            Event::Gone(name) => self.gone(&name),
            Event::Listed(watched) => {
                let seen = self.listing.remove(&watched).unwrap_or_default();
                self.only(watched, &seen);
            }
            Event::Absent(watched) => {
                self.listing.remove(&watched);
                self.only(watched, &BTreeSet::new());
            }
            Event::Failed(..) => {}
        }
    }

    /// What the world does not know yet; `None` when it knows all, or before everything has been listed once.
    pub(super) fn update(&mut self) -> Option<Update> {
        if !self.began && Watched::all().any(|watched| !self.listed.contains(&watched)) {
            return None;
        }
        self.touch_moved_pods();
        let touched = std::mem::take(&mut self.touched);
        let changes: Vec<Change> =
            touched.into_iter().filter_map(|reference| self.change(reference)).collect();
        let news = !self.began || self.problems_changed || !changes.is_empty();
        (self.began, self.problems_changed) = (true, false);
        news.then(|| Update { changes, problems: self.all_problems() })
    }

    fn there(&mut self, reading: Reading) {
        match reading {
            Reading::Object(reading) if self.scope.may_count(namespace_of(&reading.reference)) => {
                self.object(*reading);
            }
            Reading::Object(_) => {}
            Reading::Node(name, place) => {
                if self.nodes.get(&name) != Some(&place) {
                    self.nodes.insert(name.clone(), place);
                    self.moved.insert(name);
                }
            }
        }
    }

    fn object(&mut self, reading: ObjectReading) {
        let ObjectReading { reference, object, mut problems } = reading;
        let before = self.objects.get(&reference);
        if before.is_none() && self.objects.len() >= MAX_OBJECTS {
            tracing::error!("{reference} is not read: the mesh keeps at most {MAX_OBJECTS} objects");
            return;
        }
        let failed =
            |problem: &&mut Problem| matches!(problem.effect, Effect::ObjectDropped | Effect::StandIn);
        let failed = problems.iter_mut().filter(failed);
        let was_good = before.is_some_and(|before| !before.object.is_stand_in());
        match object {
            // What was good is better than what stands in for it.
            Some(object) if object.object.is_stand_in() && was_good => {
                failed.for_each(Problem::stays_in_force)
            }
            Some(object) if matters(&object.object) => {
                self.objects.insert(reference.clone(), Arc::new(object));
            }
            Some(_) => {
                self.objects.remove(&reference);
            }
            // It keeps its last good version.
            None if before.is_some() => failed.for_each(Problem::stays_in_force),
            None => {}
        }
        self.blame(&reference, problems);
        self.touch(reference);
    }

    fn gone(&mut self, name: &Name) {
        match name {
            Name::Object(reference) => {
                self.objects.remove(reference);
                self.blame(reference, Vec::new());
                self.touch(reference.clone());
            }
            // Its pods go as well, so that nobody needs to be told.
            Name::Node(name) => {
                self.nodes.remove(name);
            }
        }
    }

    /// Of a kind there is what was seen and nothing else.
    fn only(&mut self, watched: Watched, seen: &BTreeSet<Name>) {
        let known: Vec<Name> = match watched {
            Watched::Nodes => self.nodes.keys().cloned().map(Name::Node).collect(),
            Watched::Objects(kind) => {
                let of_kind = |reference: &&ObjectRef| reference.kind == kind;
                let known = self.objects.keys().chain(self.problems.keys()).filter(of_kind);
                known.cloned().map(Name::Object).collect()
            }
        };
        for name in known.iter().filter(|name| !seen.contains(name)) {
            self.gone(name);
        }
        self.listed.insert(watched);
    }

    fn blame(&mut self, reference: &ObjectRef, problems: Vec<Problem>) {
        let before = match problems.is_empty() {
            true => self.problems.remove(reference),
            false => self.problems.insert(reference.clone(), problems.clone()),
        };
        self.problems_changed |= before.unwrap_or_default() != problems;
    }

    /// Looks at an object again, and at all that stands or falls with it.
    fn touch(&mut self, reference: ObjectRef) {
        if reference.kind == Kind::Namespace && !self.scope.labels.is_empty() {
            let within = |other: &&ObjectRef| other.namespace == reference.name;
            let others: Vec<_> = self.objects.keys().filter(within).cloned().collect();
            self.touched.extend(others);
            self.problems_changed = true;
        }
        self.touched.insert(reference);
    }

    /// Looks at the pods of nodes again that were not where they are now.
    fn touch_moved_pods(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return;
        }
        let on_moved = |object: &Sourced| match &object.object {
            Object::Pod(pod) => pod.spec.node_name.as_deref().is_some_and(|node| moved.contains(node)),
            _ => false,
        };
        let pods = self.objects.iter().filter(|(_, object)| on_moved(object));
        let pods: Vec<_> = pods.map(|(reference, _)| reference.clone()).collect();
        self.touched.extend(pods);
    }

    /// What the world has to be told of an object.
    fn change(&mut self, reference: ObjectRef) -> Option<Change> {
        let counts = self.counts(&reference);
        let known = self.objects.get_mut(&reference).filter(|_| counts);
        match known {
            Some(object) => {
                place(object, &self.nodes);
                if self.told.get(&reference) == Some(object) {
                    return None;
                }
                self.told.insert(reference, object.clone());
                Some(Change::Upsert(object.clone()))
            }
            None => self.told.remove(&reference).map(|_| Change::Delete(reference)),
        }
    }

    fn counts(&self, reference: &ObjectRef) -> bool {
        let namespace = namespace_of(reference);
        let named = ObjectRef { kind: Kind::Namespace, namespace: Arc::default(), name: namespace.clone() };
        let labels = self.objects.get(&named).map(|held| &held.object.meta().labels);
        self.scope.counts(namespace, labels)
    }

    fn all_problems(&self) -> Vec<Problem> {
        let counted = self.problems.iter().filter(|(reference, _)| self.counts(reference));
        counted.flat_map(|(_, problems)| problems.iter().cloned()).collect()
    }
}

/// The namespace that an object is part of; a Namespace is part of itself.
fn namespace_of(reference: &ObjectRef) -> &Arc<str> {
    match reference.kind {
        Kind::Namespace => &reference.name,
        _ => &reference.namespace,
    }
}

/// Whether the mesh has a use for an object: not for pods that have ended, nor for ConfigMaps without authorities.
fn matters(object: &Object) -> bool {
    match object {
        Object::Pod(pod) => !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"),
        Object::ConfigMap(map) => map.authorities.is_some(),
        _ => true,
    }
}

/// Gives a pod the labels of its node that say where it is, as newer clusters do by themselves.
fn place(object: &mut Arc<Sourced>, nodes: &BTreeMap<Arc<str>, Place>) {
    let Object::Pod(pod) = &object.object else { return };
    let Some(place) = pod.spec.node_name.as_deref().and_then(|node| nodes.get(node)) else { return };
    let said = [(REGION_LABEL, &place.region), (ZONE_LABEL, &place.zone)];
    let differs = |pod: &Pod, key: &str, value: &Option<String>| {
        value.is_some() && pod.meta.labels.get(key) != value.as_ref()
    };
    if !said.iter().any(|(key, value)| differs(pod, key, value)) {
        return;
    }
    let Object::Pod(pod) = &mut Arc::make_mut(object).object else { return };
    for (key, value) in said {
        if let Some(value) = value {
            pod.meta.labels.insert(key.to_owned(), value.clone());
        }
    }
}
