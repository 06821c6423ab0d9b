//! Objects from the API of a Kubernetes cluster, listed once and then watched.
//!
//! One task a kind follows the API ([`follow`]) and turns what it hears into typed objects at once ([`read`]), so that
//! nothing else of them is kept. One task collects ([`store`]): it says nothing before every kind has been listed, so
//! that a control plane that starts never takes away what it has not read yet; after that, what has come is sent on
//! together and nothing waits for more. When the API is away, everything stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::kube::Client;
use outrigger_resources::Kind;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::source::{SourceError, Update};

mod discovery;
mod follow;
mod outage;
mod read;
mod store;

use follow::Follower;
use outage::Outages;
use store::Store;

/// Events of the API that wait to be collected; beyond that the connections to the API are read no further.
const MAX_EVENTS: usize = 1024;
/// Events that become one update.
const MAX_BATCH: usize = 4096;

/// Which part of a cluster counts.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The namespace of the control plane, which always counts.
    pub own: Arc<str>,
    /// The namespaces that count; all when empty.
    pub namespaces: BTreeSet<String>,
    /// Labels that a namespace must have.
    pub labels: BTreeMap<String, String>,
}

/// What is watched: the kinds of the mesh, and nodes for where pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Objects(Kind),
    Nodes,
}

/// What one follower says.
#[derive(Debug)]
enum Event {
    /// Everything is listed anew.
    Listing(Watched),
    /// An object is there, in a list or because it changed.
    There(read::Reading),
    /// An object is gone.
    Gone(read::Name),
    /// The list is complete: what was not in it is gone.
    Listed(Watched),
    /// The cluster does not know the kind.
    Absent(Watched),
    /// The API did not answer, or refused.
    Failed(Watched, outage::Failure),
}

/// Lists and watches until nobody listens any more.
///
/// # Errors
///
/// When a part of it ends that must not.
pub async fn watch(client: Client, scope: Scope, updates: mpsc::Sender<Update>) -> Result<(), SourceError> {
    let (events, received) = mpsc::channel(MAX_EVENTS);
    let mut followers = JoinSet::new();
    for watched in Watched::all() {
        let follower = Follower { client: client.clone(), watched, events: events.clone() };
        followers.spawn(follower.run());
    }
    drop(events);
    tokio::select! {
        () = collect(received, Store::new(scope), &updates) => {}
        () = updates.closed() => return Ok(()),
        Some(_) = followers.join_next() => {}
    }
    match updates.is_closed() {
        true => Ok(()),
        false => Err(SourceError::WatchEnded),
    }
}

/// Sends on what followers say.
async fn collect(mut events: mpsc::Receiver<Event>, mut store: Store, updates: &mpsc::Sender<Update>) {
    let mut outages = Outages::default();
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, MAX_BATCH).await > 0 {
        for event in batch.drain(..) {
            outages.note(&event, tokio::time::Instant::now());
            store.take(event);
        }
        if let Some(update) = store.update()
            && updates.send(update).await.is_err()
        {
            return;
        }
    }
}

impl Watched {
    fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(Self::Objects).chain([Self::Nodes])
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Objects(kind) => kind.fmt(f),
            Self::Nodes => f.write_str("Node"),
        }
    }
}

impl Scope {
    /// Whether a namespace may count, whatever its labels are.
    fn may_count(&self, namespace: &str) -> bool {
        *namespace == *self.own || self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Whether a namespace with these labels counts.
    fn counts(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let has_all = || {
            let has = |(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value);
            self.labels.iter().all(has)
        };
        *namespace == *self.own || self.may_count(namespace) && has_all()
    }
}

#[cfg(test)]
mod tests;
