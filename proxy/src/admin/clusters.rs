//! `/clusters`: the clusters that destinations in force point at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tokio::time::Instant;

use crate::snapshot::{Action, Destination, Handling, OpaqueRoutes, Routes, Snapshot};
use crate::upstream::{Cluster, ClusterView};

/// Each cluster once, by name.
pub(super) fn views(snapshot: &Snapshot, now: Instant) -> Vec<ClusterView> {
    let mut clusters: BTreeMap<Arc<str>, &Arc<Cluster>> = BTreeMap::new();
    for destination in snapshot.destinations.iter().flatten() {
        clusters.extend(of(destination).map(|cluster| (cluster.config().name.clone(), cluster)));
    }
    clusters.values().map(|cluster| cluster.view(now)).collect()
}

/// For people: a line a cluster, a line an endpoint.
pub(super) fn text(views: &[ClusterView]) -> String {
    let mut text = String::new();
    for cluster in views {
        let limits = &cluster.limits;
        let _ = writeln!(
            text,
            "{}  requests {}/{}  connections {}/{}",
            cluster.name,
            limits.requests.current,
            limits.requests.max,
            limits.connections.current,
            limits.connections.max
        );
        for endpoint in &cluster.endpoints {
            let state = format!("{:?}", endpoint.state).to_lowercase();
            let ewma = endpoint.ewma_ms.map_or("-".to_owned(), |ewma| format!("{ewma:.1}ms"));
            let identity = endpoint.identity.as_deref().unwrap_or("no sidecar");
            let _ = writeln!(
                text,
                "  {:<24} {state:<9} pending {:<4} ewma {ewma:<9} requests {} failed {}  {identity}",
                endpoint.address.to_string(),
                endpoint.pending,
                endpoint.requests_total,
                endpoint.requests_failed
            );
        }
    }
    text
}

fn of(destination: &Destination) -> impl Iterator<Item = &Arc<Cluster>> {
    let (http, opaque): (Option<&Routes>, Option<&OpaqueRoutes>) = match &destination.handling {
        Handling::Http(http) => (Some(http), None),
        Handling::Opaque(opaque) => (None, Some(opaque)),
        Handling::Detect { http, opaque } => (Some(http), Some(opaque)),
        Handling::Pending | Handling::Unknown => (None, None),
    };
    let routes = http.into_iter().flat_map(|routes| &routes.routes);
    let backends = routes.flat_map(|route| match &route.action {
        Action::Forward(forward) => forward.backends.as_slice(),
        Action::Redirect(_) | Action::NoBackend => &[],
    });
    let opaque = opaque.into_iter().flat_map(OpaqueRoutes::all).flat_map(|route| &route.backends);
    let opaque = opaque.filter_map(|(_, cluster)| cluster.as_ref());
    backends.filter_map(|backend| backend.cluster.as_ref()).chain(opaque)
}
