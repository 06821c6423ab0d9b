//! From what users wrote to what proxies run on: pure functions of a world and of who asks.
//!
//! The only place where the words of Gateway API and those of xDS meet. The same world and client give the same
//! resource, byte for byte; nothing here does I/O, keeps state or reads a clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::name::{Destination, INBOUND};
use outrigger_model::resource::{Resource, ResourceType};

use crate::world::{Changed, World};

/// Who asks for a resource. Routes and listeners differ by `namespace` (consumer routes), `inbound` by all of it,
/// clusters and endpoints by nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Client {
    /// The namespace it runs in; empty when unknown.
    pub namespace: Arc<str>,
    /// The name of its Workload or Pod; empty when unknown.
    pub name: Arc<str>,
    /// The address others dial it at.
    pub address: Option<IpAddr>,
    /// Its labels, for a workload that no object describes.
    pub labels: BTreeMap<String, String>,
}

/// The resource of a name, as this client should see it; `None` when there is no such thing.
///
/// The answer carries the name that was asked for, whichever spelling of a host it is.
pub fn resource(world: &World, client: &Client, kind: ResourceType, name: &str) -> Option<Resource> {
    None
}

/// All names of a type that a client gets which asks for everything.
///
/// Clusters and endpoints of all Services and ExternalServices; listeners and routes are asked for by name only.
pub fn wildcard(world: &World, kind: ResourceType) -> Vec<Arc<str>> {
    Vec::new()
}

/// Whether the resource of a name may have changed. Never false when it has.
pub fn affects(changed: &Changed, kind: ResourceType, name: &str) -> bool {
    match (changed, kind) {
        (Changed::Everything, _) => true,
        (_, ResourceType::Listener) if name == INBOUND => changed.has_inbound(),
        (_, ResourceType::Listener | ResourceType::Route) => {
            name.parse().is_ok_and(|destination: Destination| changed.has(&destination))
        }
        (_, ResourceType::Cluster | ResourceType::Endpoints) => {
            Destination::from_cluster_name(name).is_some_and(|destination| changed.has(&destination))
        }
    }
}
