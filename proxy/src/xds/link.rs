//! From what is held to a snapshot: names become pointers, once, off the request path.
//!
//! A destination shows nothing until its listener, routes, clusters and endpoints are there or known missing, and while
//! a change of a live destination is incomplete the old stays. What did not change keeps its pointers: routes, clusters
//! with their endpoint state, whole destinations. No stream, no clock: held resources and the previous snapshot in, the
//! next snapshot out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_model::cluster::{Cluster as ClusterConfig, Discovery};
use outrigger_model::endpoint::{Endpoints, Locality};
use outrigger_model::inbound::Inbound;
use outrigger_model::listener::Listener;
use outrigger_model::route::RouteConfig;
use tokio::time::Instant;

use super::held::{Held, Known, opaque_clusters, route_clusters};
use crate::jwt::Verifier;
use crate::limit::Limits;
use crate::protection::Protection;
use crate::snapshot::{Destination, DestinationId, Handling, OpaqueRoutes, Routes, Snapshot};
use crate::telemetry::Telemetry;
use crate::upstream::Cluster;

mod build;

/// What links between one snapshot and the next: the clusters in force, and what each destination was made of.
#[derive(Debug, Default)]
pub(crate) struct Linker {
    /// Where this proxy runs.
    client: Locality,
    clusters: BTreeMap<Arc<str>, InForce>,
    made_of: BTreeMap<u32, Sources>,
    /// Rate limits and the gate of inbound, with their counts.
    limits: Limits,
    /// Destinations that wait for something, as of the last time.
    incomplete: usize,
    /// Those of them that are live, and stay what they were until then.
    behind: usize,
}

/// A cluster that destinations point at.
#[derive(Debug)]
struct InForce {
    config: Arc<ClusterConfig>,
    cluster: Arc<Cluster>,
}

/// What a live destination was made of.
#[derive(Debug, Default)]
struct Sources {
    http: Option<HttpSide>,
    opaque: Option<OpaqueSide>,
}

#[derive(Debug)]
struct HttpSide {
    /// `None`: the control plane has no such route configuration.
    config: Option<Arc<RouteConfig>>,
    clusters: Clusters,
    routes: Arc<Routes>,
}

#[derive(Debug)]
struct OpaqueSide {
    listener: Arc<Listener>,
    clusters: Clusters,
    route: Arc<OpaqueRoutes>,
}

/// The clusters of a side, by name; `None` where the control plane has none.
type Clusters = BTreeMap<Arc<str>, Option<Arc<Cluster>>>;

/// Whether a destination shows anything yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It does: a change waits until nothing of it is missing or was rejected.
    Live,
    /// Not yet: it starts when everything was answered; what was rejected will not come, and is left out.
    Warming,
}

impl Linker {
    /// Of a proxy that runs there.
    pub(crate) fn at(client: Locality) -> Self {
        Self { client, ..Self::default() }
    }

    /// The next snapshot, `None` when nothing changes.
    pub(crate) fn link(
        &mut self,
        held: &Held,
        previous: &Snapshot,
        telemetry: &Telemetry,
    ) -> Option<Snapshot> {
        self.learn_where_we_are(held);
        let mut destinations = previous.destinations.clone();
        let mut changed = false;
        (self.incomplete, self.behind) = (0, 0);
        for (place, slot) in destinations.iter_mut().enumerate() {
            let Some(current) = slot else { continue };
            if let Some(next) = self.destination(place as u32, current, held, telemetry) {
                *slot = Some(Arc::new(next));
                changed = true;
            }
        }
        self.drop_unused();
        let inbound = match held.inbound.get(outrigger_model::name::INBOUND) {
            Some(Known::There(inbound, _)) => Some(inbound.clone()),
            Some(Known::Missing) => None,
            Some(Known::Rejected) | None => previous.inbound.clone(),
        };
        let same_inbound = same(inbound.as_ref(), previous.inbound.as_ref());
        if !changed && same_inbound {
            return None;
        }
        let mesh = match &inbound {
            Some(inbound) if inbound.mesh != *previous.mesh => Arc::new(inbound.mesh.clone()),
            _ => previous.mesh.clone(),
        };
        let guard = match same_inbound {
            true => previous.guard.clone(),
            false => inbound
                .as_ref()
                .and_then(|inbound| self.limits.inbound(inbound, Instant::now(), telemetry.registry())),
        };
        let tokens = match same_inbound {
            true => previous.tokens.clone(),
            false => tokens(inbound.as_deref(), previous, telemetry),
        };
        self.limits.forget_unused();
        let protection = protection(inbound.as_deref(), previous, telemetry);
        let (generation, names) = (previous.generation + 1, previous.names.clone());
        Some(Snapshot { generation, inbound, guard, protection, tokens, mesh, destinations, names })
    }

    /// A proxy that was not told where it runs takes the control plane's word, once: a workload does not move. The
    /// application of a pod starts after that, so no cluster was there before.
    fn learn_where_we_are(&mut self, held: &Held) {
        if self.client == Locality::default()
            && let Some(Known::There(inbound, _)) = held.inbound.get(outrigger_model::name::INBOUND)
        {
            self.client = inbound.locality.clone();
        }
    }

    /// Endpoints alone changed: clusters take them as they are, nothing else has to be linked.
    pub(crate) fn endpoints_changed(&self, name: &str, held: &Held, telemetry: &Telemetry) {
        if let Some(InForce { config, cluster }) = self.clusters.get(name) {
            set_endpoints(config, cluster, held, telemetry);
        }
    }

    /// The destination is gone.
    pub(crate) fn forget(&mut self, id: DestinationId) {
        self.made_of.remove(&id.0);
        self.drop_unused();
    }

    /// Whether a destination waits for something: endpoints may complete it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.incomplete > 0
    }

    /// Whether a change of a live destination is not in force yet, because something it points at is not here.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// The names of the clusters that live destinations point at.
    pub(crate) fn names_in_force(&self) -> BTreeSet<Arc<str>> {
        self.clusters.keys().cloned().collect()
    }

    /// The clusters in force that the control thread works for: names to resolve, endpoints to check.
    pub(crate) fn attended_clusters(&self) -> Vec<Arc<Cluster>> {
        let attended = |entry: &&InForce| {
            entry.config.discovery != Discovery::Eds || entry.config.health_check.is_some()
        };
        self.clusters.values().filter(attended).map(|entry| entry.cluster.clone()).collect()
    }

    /// What becomes of a destination; `None` when it stays as it is.
    fn destination(
        &mut self,
        place: u32,
        current: &Destination,
        held: &Held,
        telemetry: &Telemetry,
    ) -> Option<Destination> {
        let become_one =
            |handling| Destination { name: current.name.clone(), handling, usage: current.usage.clone() };
        let listener = match held.listeners.get(&current.name.to_string()) {
            None | Some(Known::Rejected) => {
                self.incomplete += 1;
                return None;
            }
            Some(Known::Missing) if matches!(current.handling, Handling::Unknown) => return None,
            Some(Known::Missing) => {
                self.made_of.remove(&place);
                return Some(become_one(Handling::Unknown));
            }
            Some(Known::There(listener, _)) => listener.clone(),
        };
        let life = match current.handling {
            Handling::Pending | Handling::Unknown => Life::Warming,
            Handling::Http(_) | Handling::Opaque(_) | Handling::Detect { .. } => Life::Live,
        };
        if !is_complete(&listener, held, life) {
            self.incomplete += 1;
            self.behind += usize::from(life == Life::Live);
            return None;
        }
        let before = self.made_of.remove(&place).unwrap_or_default();
        let (sources, handling, is_same) = self.relink(&listener, before, held, telemetry);
        self.made_of.insert(place, sources);
        (life == Life::Warming || !is_same).then(|| become_one(handling))
    }

    /// Both sides of a listener, and whether they are those of before.
    fn relink(
        &mut self,
        listener: &Arc<Listener>,
        before: Sources,
        held: &Held,
        telemetry: &Telemetry,
    ) -> (Sources, Handling, bool) {
        let mut is_same = true;
        let had = (before.http.is_some(), before.opaque.is_some());
        let http = listener.route_config().map(|name| {
            let (side, kept) = self.http_side(name, before.http, held, telemetry);
            is_same &= kept;
            side
        });
        let opaque = listener.opaque().map(|_| {
            let (side, kept) = self.opaque_side(listener, before.opaque, held, telemetry);
            is_same &= kept;
            side
        });
        is_same &= had == (http.is_some(), opaque.is_some());
        let routes = http.as_ref().map(|side| side.routes.clone());
        let route = opaque.as_ref().map(|side| side.route.clone());
        let handling = match (routes, route) {
            (Some(http), Some(opaque)) => Handling::Detect { http, opaque },
            (Some(http), None) => Handling::Http(http),
            (None, Some(opaque)) => Handling::Opaque(opaque),
            // A listener has at least one side: its type says so.
            (None, None) => Handling::Unknown,
        };
        (Sources { http, opaque }, handling, is_same)
    }

    fn http_side(
        &mut self,
        name: &Arc<str>,
        before: Option<HttpSide>,
        held: &Held,
        telemetry: &Telemetry,
    ) -> (HttpSide, bool) {
        let config = held.routes.good(name).cloned();
        let clusters = self.resolve(config.iter().flat_map(|config| route_clusters(config)), held, telemetry);
        match before {
            Some(side)
                if same(side.config.as_ref(), config.as_ref())
                    && same_clusters(&side.clusters, &clusters) =>
            {
                (side, true)
            }
            _ => {
                let parts = build::Parts { clusters: &clusters, limits: &mut self.limits, telemetry };
                let routes = Arc::new(build::routes(name, config.as_deref(), parts));
                (HttpSide { config, clusters, routes }, false)
            }
        }
    }

    fn opaque_side(
        &mut self,
        listener: &Arc<Listener>,
        before: Option<OpaqueSide>,
        held: &Held,
        telemetry: &Telemetry,
    ) -> (OpaqueSide, bool) {
        let clusters = self.resolve(opaque_clusters(listener), held, telemetry);
        let kept = before.filter(|side| {
            side.listener.opaque() == listener.opaque() && same_clusters(&side.clusters, &clusters)
        });
        match kept {
            Some(side) => (OpaqueSide { listener: listener.clone(), ..side }, true),
            None => {
                let route = Arc::new(build::opaque(listener.opaque(), &clusters, telemetry));
                (OpaqueSide { listener: listener.clone(), clusters, route }, false)
            }
        }
    }

    fn resolve<'a>(
        &mut self,
        names: impl Iterator<Item = &'a Arc<str>>,
        held: &Held,
        telemetry: &Telemetry,
    ) -> Clusters {
        names.map(|name| (name.clone(), self.cluster(name, held, telemetry))).collect()
    }

    /// The cluster of a name: the one in force when its configuration is what it was, otherwise a new one that takes
    /// over the state of the old.
    fn cluster(&mut self, name: &Arc<str>, held: &Held, telemetry: &Telemetry) -> Option<Arc<Cluster>> {
        let config = held.clusters.good(name)?;
        let before = self.clusters.get(name);
        if let Some(before) = before
            && Arc::ptr_eq(&before.config, config)
        {
            return Some(before.cluster.clone());
        }
        let previous = before.map(|before| &*before.cluster);
        let cluster = Cluster::seen_from(&self.client, config.clone(), previous, telemetry);
        set_endpoints(config, &cluster, held, telemetry);
        self.clusters.insert(name.clone(), InForce { config: config.clone(), cluster: cluster.clone() });
        Some(cluster)
    }

    /// Clusters that no live destination points at go.
    fn drop_unused(&mut self) {
        let sides = self.made_of.values().flat_map(|sources| {
            let http = sources.http.iter().flat_map(|side| side.clusters.keys());
            http.chain(sources.opaque.iter().flat_map(|side| side.clusters.keys()))
        });
        let used: BTreeSet<&Arc<str>> = sides.collect();
        self.clusters.retain(|name, _| used.contains(name));
    }
}

/// Who may call: what was in force stays, with what connections know of it, while nothing of it changes.
fn protection(
    inbound: Option<&Inbound>,
    previous: &Snapshot,
    telemetry: &Telemetry,
) -> Option<Arc<Protection>> {
    let inbound = inbound?;
    match &previous.inbound {
        Some(before) if Protection::is_same(before, inbound) => previous.protection.clone(),
        _ => Protection::new(inbound, telemetry.registry()).map(Arc::new),
    }
}

/// Whether everything that a listener leads to is known well enough to show it.
fn is_complete(listener: &Listener, held: &Held, life: Life) -> bool {
    let mut routes = None;
    if let Some(name) = listener.route_config() {
        match held.routes.get(name) {
            Some(Known::There(config, _)) => routes = Some(config),
            Some(Known::Missing) => {}
            Some(Known::Rejected) | None => return false,
        }
    }
    let clusters = routes.into_iter().flat_map(|config| route_clusters(config));
    clusters.chain(opaque_clusters(listener)).all(|name| cluster_is_known(name, held, life))
}

fn cluster_is_known(name: &str, held: &Held, life: Life) -> bool {
    match held.clusters.get(name) {
        None => false,
        Some(Known::Missing) => true,
        Some(Known::Rejected) => life == Life::Warming,
        Some(Known::There(config, _)) if config.discovery != Discovery::Eds => true,
        Some(Known::There(..)) => match held.endpoints.get(name) {
            None => false,
            Some(Known::Missing | Known::There(..)) => true,
            Some(Known::Rejected) => life == Life::Warming,
        },
    }
}

/// Endpoints that come from the control plane; those that come from DNS are left alone.
fn set_endpoints(config: &ClusterConfig, cluster: &Cluster, held: &Held, telemetry: &Telemetry) {
    if config.discovery != Discovery::Eds {
        return;
    }
    match held.endpoints.get(&config.name) {
        Some(Known::There(endpoints, _)) => cluster.set_endpoints(endpoints, telemetry),
        Some(Known::Missing) => {
            let none = Endpoints { cluster: config.name.clone(), endpoints: Vec::new() };
            cluster.set_endpoints(&none, telemetry);
        }
        Some(Known::Rejected) | None => {}
    }
}

/// What tokens must be, with the keys read; the verifier of before, with what workers know of it, while the rule stays.
fn tokens(inbound: Option<&Inbound>, previous: &Snapshot, telemetry: &Telemetry) -> Option<Arc<Verifier>> {
    let rule = inbound?.jwt.as_deref()?;
    let before = previous.tokens.as_ref().filter(|verifier| verifier.rule() == rule);
    Some(before.cloned().unwrap_or_else(|| Arc::new(Verifier::new(rule, telemetry.registry()))))
}

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn same_clusters(one: &Clusters, other: &Clusters) -> bool {
    let equal = |((a, x), (b, y)): ((_, &Option<_>), (_, &Option<_>))| a == b && same(x.as_ref(), y.as_ref());
    one.len() == other.len() && one.iter().zip(other).all(equal)
}

#[cfg(test)]
mod tests;
