//! What the control plane has said: resources by type and name, with their versions, and what of them is wanted next.
//!
//! A resource that cannot be read leaves the last good one of its name in place and is never recorded as held. Pure: no
//! stream, no clock, no snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Item};
use outrigger_base::tls::check_trust;
use outrigger_model::cluster::{Cluster, Discovery};
use outrigger_model::codec::{self, DecodeError};
use outrigger_model::endpoint::Endpoints;
use outrigger_model::filter::Filters;
use outrigger_model::inbound::Inbound;
use outrigger_model::listener::Listener;
use outrigger_model::name::{INBOUND, INVALID_CLUSTER};
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_model::route::{Action, BackendTarget, RouteConfig};

/// How many resources of one type are subscribed to. The control plane takes no more from one stream.
pub(crate) const MAX_NAMES_PER_TYPE: usize = 10_000;
/// The most refused resources that one NACK names.
const MAX_REASONS: usize = 10;

/// Resource names by type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeMap<ResourceType, BTreeSet<Arc<str>>>);

/// What is known of a name that was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Known<T> {
    /// The control plane says there is no such resource.
    Missing,
    /// There is one, and it cannot be used; there never was a good one.
    Rejected,
    /// The last good one.
    There(Arc<T>, String),
}

/// The resources of one type; a name that is not in it was not answered yet.
#[derive(Debug)]
pub(crate) struct Table<T>(BTreeMap<Arc<str>, Known<T>>);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) inbound: Table<Inbound>,
    pub(crate) listeners: Table<Listener>,
    pub(crate) routes: Table<RouteConfig>,
    pub(crate) clusters: Table<Cluster>,
    pub(crate) endpoints: Table<Endpoints>,
}

/// What a response did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Names that are not what they were.
    pub(crate) changed: BTreeSet<Arc<str>>,
    /// Why resources were refused; empty is an ACK.
    pub(crate) refused: Vec<String>,
}

impl Names {
    pub(crate) fn of(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.0.get(&kind).into_iter().flatten()
    }

    pub(crate) fn contains(&self, kind: ResourceType, name: &str) -> bool {
        self.0.get(&kind).is_some_and(|names| names.contains(name))
    }

    /// Adds a name, unless there are too many.
    pub(crate) fn insert(&mut self, kind: ResourceType, name: &Arc<str>) {
        let names = self.0.entry(kind).or_default();
        if names.len() < MAX_NAMES_PER_TYPE {
            names.insert(name.clone());
        }
    }

    /// Names of a type that are here and not in `other`.
    pub(crate) fn beyond(&self, other: &Self, kind: ResourceType) -> Vec<Arc<str>> {
        self.of(kind).filter(|name| !other.contains(kind, name)).cloned().collect()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq> Table<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&Known<T>> {
        self.0.get(name)
    }

    pub(crate) fn good(&self, name: &str) -> Option<&Arc<T>> {
        match self.0.get(name) {
            Some(Known::There(resource, _)) => Some(resource),
            _ => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<T>, &str)> {
        self.0.values().filter_map(|known| match known {
            Known::There(resource, version) => Some((resource, version.as_str())),
            _ => None,
        })
    }

    /// Keeps what is equal, so that what depends on it is not made anew. Says whether it changed.
    fn put(&mut self, name: Arc<str>, resource: T, version: String) -> bool {
        if let Some(Known::There(held, held_version)) = self.0.get_mut(&name)
            && **held == resource
        {
            *held_version = version;
            return false;
        }
        self.0.insert(name, Known::There(Arc::new(resource), version));
        true
    }

    /// Says whether it was something else before.
    fn missing(&mut self, name: &Arc<str>) -> bool {
        !matches!(self.0.insert(name.clone(), Known::Missing), Some(Known::Missing))
    }

    /// The last good one stays.
    fn reject(&mut self, name: &Arc<str>) -> bool {
        match self.0.get(name) {
            Some(Known::There(..) | Known::Rejected) => false,
            Some(Known::Missing) | None => {
                self.0.insert(name.clone(), Known::Rejected);
                true
            }
        }
    }

    fn version(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Known::There(_, version)) => Some(version),
            _ => None,
        }
    }
}

impl Held {
    /// Takes a response item by item. What was not asked for is passed over.
    pub(crate) fn apply(
        &mut self,
        kind: ResourceType,
        response: DeltaDiscoveryResponse,
        asked: &Names,
    ) -> Applied {
        let mut applied = Applied::default();
        for item in response.resources {
            let Some(name) = asked.0.get(&kind).and_then(|names| names.get(item.name.as_str())) else {
                continue;
            };
            let name = name.clone();
            match self.take(kind, &name, item) {
                Ok(false) => {}
                Ok(true) => {
                    applied.changed.insert(name);
                }
                Err(reason) => {
                    if self.reject(kind, &name) {
                        applied.changed.insert(name);
                    }
                    applied.refused.push(reason);
                }
            }
        }
        for removed in response.removed_resources {
            let Some(name) = asked.0.get(&kind).and_then(|names| names.get(removed.as_str())) else {
                continue;
            };
            if self.missing(kind, name) {
                applied.changed.insert(name.clone());
            }
        }
        applied
    }

    /// The version of a held resource, for a control plane that comes back.
    pub(crate) fn version(&self, kind: ResourceType, name: &str) -> Option<&str> {
        match kind {
            ResourceType::Cluster => self.clusters.version(name),
            ResourceType::Endpoints => self.endpoints.version(name),
            ResourceType::Listener if name == INBOUND => self.inbound.version(name),
            ResourceType::Listener => self.listeners.version(name),
            ResourceType::Route => self.routes.version(name),
        }
    }

    /// Drops what is not subscribed to any more.
    pub(crate) fn retain(&mut self, wanted: &Names) {
        self.listeners.0.retain(|name, _| wanted.contains(ResourceType::Listener, name));
        self.routes.0.retain(|name, _| wanted.contains(ResourceType::Route, name));
        self.clusters.0.retain(|name, _| wanted.contains(ResourceType::Cluster, name));
        self.endpoints.0.retain(|name, _| wanted.contains(ResourceType::Endpoints, name));
    }

    /// Everything that `destinations` lead to, as far as it is known, and the clusters that are `in_force`.
    pub(crate) fn wanted(&self, destinations: &[Arc<str>], in_force: &BTreeSet<Arc<str>>) -> Names {
        let mut wanted = Names::default();
        wanted.insert(ResourceType::Listener, &INBOUND.into());
        let mut clusters: BTreeSet<&Arc<str>> = in_force.iter().collect();
        for name in destinations {
            wanted.insert(ResourceType::Listener, name);
            let Some(listener) = self.listeners.good(name) else { continue };
            clusters.extend(opaque_clusters(listener));
            let Some(config) = listener.route_config() else { continue };
            wanted.insert(ResourceType::Route, config);
            clusters.extend(self.routes.good(config).into_iter().flat_map(|config| route_clusters(config)));
        }
        for name in clusters {
            wanted.insert(ResourceType::Cluster, name);
            // While the cluster is unknown its endpoints are asked for too: they mostly come at the same time.
            let by_name = self.clusters.good(name).is_some_and(|cluster| cluster.discovery != Discovery::Eds);
            let missing = matches!(self.clusters.get(name), Some(Known::Missing));
            if !by_name && !missing {
                wanted.insert(ResourceType::Endpoints, name);
            }
        }
        wanted
    }

    fn take(&mut self, kind: ResourceType, name: &Arc<str>, item: Item) -> Result<bool, String> {
        // Without a resource it is a sign that the one we hold is still good.
        let Some(any) = item.resource else { return Ok(false) };
        let resource = codec::decode(&any).map_err(|error| named(error, name).to_string())?;
        usable(&resource).map_err(|error| error.to_string())?;
        if resource.kind() != kind || resource.name() != *name {
            let why = format!("holds the {} {:?}", resource.kind().word(), resource.name());
            let error = DecodeError { kind: Some(kind), name: name.to_string(), field: String::new(), why };
            return Err(error.to_string());
        }
        let (name, version) = (name.clone(), item.version);
        Ok(match resource {
            Resource::Inbound(inbound) => self.inbound.put(name, inbound, version),
            Resource::Listener(listener) => self.listeners.put(name, listener, version),
            Resource::Route(routes) => self.routes.put(name, routes, version),
            Resource::Cluster(cluster) => self.clusters.put(name, cluster, version),
            Resource::Endpoints(endpoints) => self.endpoints.put(name, endpoints, version),
        })
    }

    fn missing(&mut self, kind: ResourceType, name: &Arc<str>) -> bool {
        match kind {
            ResourceType::Cluster => self.clusters.missing(name),
            ResourceType::Endpoints => self.endpoints.missing(name),
            ResourceType::Listener if &**name == INBOUND => self.inbound.missing(name),
            ResourceType::Listener => self.listeners.missing(name),
            ResourceType::Route => self.routes.missing(name),
        }
    }

    fn reject(&mut self, kind: ResourceType, name: &Arc<str>) -> bool {
        match kind {
            ResourceType::Cluster => self.clusters.reject(name),
            ResourceType::Endpoints => self.endpoints.reject(name),
            ResourceType::Listener if &**name == INBOUND => self.inbound.reject(name),
            ResourceType::Listener => self.listeners.reject(name),
            ResourceType::Route => self.routes.reject(name),
        }
    }
}

impl Applied {
    /// What a NACK says; `None` is an ACK.
    pub(crate) fn nack(&self) -> Option<String> {
        let shown = self.refused.iter().take(MAX_REASONS).map(String::as_str).collect::<Vec<_>>().join("; ");
        match self.refused.len() {
            0 => None,
            count if count <= MAX_REASONS => Some(shown),
            count => Some(format!("{shown}; and {} more", count - MAX_REASONS)),
        }
    }
}

/// What the codec cannot know: whether TLS can use the roots.
fn usable(resource: &Resource) -> Result<(), DecodeError> {
    let Resource::Inbound(inbound) = resource else { return Ok(()) };
    let Some(trust) = &inbound.trust else { return Ok(()) };
    check_trust(trust).map_err(|error| DecodeError {
        kind: Some(ResourceType::Listener),
        name: INBOUND.to_owned(),
        field: "trust".to_owned(),
        why: error.to_string(),
    })
}

/// What could not even be read far enough to know its name has the name it was sent under.
fn named(error: DecodeError, name: &str) -> DecodeError {
    if error.name.is_empty() { DecodeError { name: name.to_owned(), ..error } } else { error }
}

/// The clusters that a route configuration points at.
pub(crate) fn route_clusters(config: &RouteConfig) -> impl Iterator<Item = &Arc<str>> {
    config.routes.iter().flat_map(|route| {
        let backends = match &route.action {
            Action::Forward(forward) => forward.backends.as_slice(),
            Action::Redirect(_) | Action::NoBackend { .. } => &[],
        };
        let filters = backends.iter().filter_map(|backend| backend.filters.as_deref());
        let filters = filters.chain(route.filters.as_deref());
        let targets = backends.iter().map(|backend| &backend.target);
        targets.filter_map(BackendTarget::cluster).chain(filters.flat_map(Filters::clusters))
    })
}

/// The clusters that the opaque side of a listener points at.
pub(crate) fn opaque_clusters(listener: &Listener) -> impl Iterator<Item = &Arc<str>> {
    let routes = listener.opaque().into_iter().flat_map(|opaque| opaque.all());
    let clusters = routes.flat_map(|route| &route.backends).map(|backend| &backend.cluster);
    clusters.filter(|name| !name.starts_with(INVALID_CLUSTER))
}
