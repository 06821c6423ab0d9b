//! The world in force, and what becomes of a change: recompute what it affects, tell the streams.
//!
//! A change is worked off at once; those that come within a few milliseconds after it are worked off together. Only
//! entries that follow from what changed (`translate::follows`) are recomputed, outside of any lock, and only those
//! whose bytes differ are announced.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outrigger_base::lifecycle::drain::Drain;
use outrigger_model::resource::ResourceType;
use tokio::sync::{Notify, broadcast, watch};

use crate::http::meters::{Meters, Stopwatch};
use crate::translate::{self, Client};
use crate::world::{Changed, World};
use crate::xds::cache::{Cache, Entry, Key, MAX_ENTRIES};
use crate::xds::connections::{Connections, Follower, ProxyStatus};
use crate::xds::encoded::Encoded;

/// The least time between two pushes; changes within it are merged.
const PUSH_INTERVAL: Duration = Duration::from_millis(5);
/// Pushes a stream may be behind before it looks at everything it subscribes to instead.
const MAX_BATCHES: usize = 64;
/// Entries that are worked on before other tasks get a turn.
const ENTRIES_PER_TURN: usize = 128;

/// The names of a wildcard subscription.
pub(crate) type Names = Arc<[Arc<str>]>;

/// The world in force and everything that is made of it for clients.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    pending: Mutex<Option<Pending>>,
    wake: Notify,
    batches: broadcast::Sender<Arc<Batch>>,
    generations: watch::Sender<u64>,
    connections: Arc<Connections>,
    meters: Meters,
}

#[derive(Debug)]
struct State {
    world: Arc<World>,
    generation: u64,
    /// The generation with which the roots that workloads trust changed.
    roots_since: u64,
    cache: Cache,
    wildcards: BTreeMap<ResourceType, Names>,
    /// Entries that were made while a push is being computed, from the world before it.
    late: Option<Vec<Arc<Entry>>>,
}

/// Changes that wait to be worked off.
#[derive(Debug)]
struct Pending {
    world: Arc<World>,
    changed: Changed,
    since: Instant,
}

/// One push: what is different now.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) generation: u64,
    pub(crate) keys: HashSet<Key>,
    pub(crate) wildcards: Vec<ResourceType>,
    /// Stops when the last stream has sent it.
    pub(crate) sent: Arc<Stopwatch>,
    /// Stops when the last stream has an answer to it.
    pub(crate) acknowledged: Arc<Stopwatch>,
}

/// What was computed of a push before it is put in force.
struct Computed {
    values: Vec<(Arc<Entry>, Option<Arc<Encoded>>)>,
    wildcards: BTreeMap<ResourceType, Names>,
}

/// One subscription to an entry; ends when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    hub: Arc<Hub>,
    entry: Arc<Entry>,
}

/// There is no room for one more resource.
#[derive(Debug, thiserror::Error)]
#[error("the control plane keeps as many resources as it may")]
pub(crate) struct CacheFull;

impl Hub {
    /// A hub with a first world in force.
    pub fn new(world: Arc<World>, meters: Meters) -> Arc<Self> {
        let state = State {
            world,
            generation: 1,
            roots_since: 1,
            cache: Cache::new(MAX_ENTRIES),
            wildcards: BTreeMap::new(),
            late: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            pending: Mutex::new(None),
            wake: Notify::new(),
            batches: broadcast::Sender::new(MAX_BATCHES),
            generations: watch::Sender::new(1),
            connections: Connections::new(meters.clone()),
            meters,
        })
    }

    /// Hands over the next world and what may differ in it. Returns at once; [`run`](Self::run) does the work.
    pub fn publish(&self, world: Arc<World>, changed: Changed) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.as_mut() {
            Some(waiting) => {
                waiting.world = world;
                waiting.changed.merge(changed);
            }
            None => *pending = Some(Pending { world, changed, since: Instant::now() }),
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// Works off what is published, until `drain` starts.
    pub async fn run(&self, drain: Drain) {
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = drain.started() => return,
            }
            let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(pending) = pending {
                self.push(pending).await;
            }
            tokio::time::sleep(PUSH_INTERVAL).await;
        }
    }

    /// The world in force.
    pub fn world(&self) -> Arc<World> {
        self.state().world.clone()
    }

    /// The trust domain of the world in force.
    pub fn trust_domain(&self) -> Arc<str> {
        self.world().trust_domain()
    }

    /// How many changes have been put in force; the version that clients see.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// The world in force, and the generation since which it has its roots.
    pub fn roots_in_force(&self) -> (Arc<World>, u64) {
        let state = self.state();
        (state.world.clone(), state.roots_since)
    }

    /// Changes whenever another world is put in force.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }

    /// Every connected client, with what it was sent and what it said to it.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.connections.statuses()
    }

    /// Every connected proxy of ours, with the generation of the settings that are in force in it.
    pub fn followers(&self) -> Vec<Follower> {
        self.connections.followers()
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Every push from now on.
    pub(crate) fn batches(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }

    /// Subscribes to what `client` means by a name.
    pub(crate) fn lease(
        self: &Arc<Self>,
        kind: ResourceType,
        name: &str,
        client: &Arc<Client>,
    ) -> Result<Lease, CacheFull> {
        let key = Key::new(kind, &name.into(), client);
        let mut state = self.state();
        if let Some(entry) = state.cache.lease(&key) {
            return Ok(Lease { hub: self.clone(), entry });
        }
        let entry = Arc::new(Entry::new(key, client.clone(), &state.world));
        if !state.cache.insert(entry.clone()) {
            return Err(CacheFull);
        }
        if let Some(late) = &mut state.late {
            late.push(entry.clone());
        }
        self.meters.resources(kind, state.cache.count(kind));
        Ok(Lease { hub: self.clone(), entry })
    }

    /// All names of a kind.
    pub(crate) fn wildcard(&self, kind: ResourceType) -> Names {
        let mut state = self.state();
        let State { world, wildcards, .. } = &mut *state;
        wildcards.entry(kind).or_insert_with(|| translate::wildcard(world, kind).into()).clone()
    }

    fn release(&self, key: &Key) {
        let mut state = self.state();
        state.cache.release(key);
        self.meters.resources(key.kind, state.cache.count(key.kind));
    }

    async fn push(&self, pending: Pending) {
        let (entries, wildcards) = {
            let mut state = self.state();
            state.late = Some(Vec::new());
            let affected = state.cache.affected(&pending.changed);
            (affected, state.wildcards.keys().copied().collect::<Vec<_>>())
        };
        let mut values = Vec::with_capacity(entries.len());
        for turn in entries.chunks(ENTRIES_PER_TURN) {
            values.extend(turn.iter().map(|entry| (entry.clone(), entry.compute(&pending.world))));
            tokio::task::yield_now().await;
        }
        let names = |kind| (kind, translate::wildcard(&pending.world, kind).into());
        let computed = Computed { values, wildcards: wildcards.into_iter().map(names).collect() };
        let batch = self.commit(pending, computed);
        tracing::debug!(generation = batch.generation, resources = batch.keys.len(), "pushing a change");
        self.generations.send_replace(batch.generation);
        // Without a receiver there is nobody to tell.
        let _ = self.batches.send(Arc::new(batch));
    }

    /// Puts a computed push in force.
    fn commit(&self, pending: Pending, computed: Computed) -> Batch {
        let mut state = self.state();
        let late = state.late.take().unwrap_or_default();
        let late = late.into_iter().map(|entry| {
            let value = entry.compute(&pending.world);
            (entry, value)
        });
        let values = computed.values.into_iter().chain(late);
        let keys =
            values.filter(|(entry, value)| entry.replace(value.clone())).map(|(entry, _)| entry.key.clone());
        let keys = keys.collect();
        state.generation += 1;
        if roots(&state.world) != roots(&pending.world) {
            state.roots_since = state.generation;
        }
        state.world = pending.world;
        let wildcards = state.replace_wildcards(computed.wildcards);
        Batch {
            generation: state.generation,
            keys,
            wildcards,
            sent: Arc::new(self.meters.push_stopwatch(pending.since)),
            acknowledged: Arc::new(self.meters.converge_stopwatch(pending.since)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The roots that workloads trust.
fn roots(world: &World) -> Option<&[Arc<[u8]>]> {
    world.facts().roots.as_ref().map(|roots| roots.certificates.as_slice())
}

impl State {
    /// Puts lists of names in force, drops those that nobody uses, and says which differ.
    fn replace_wildcards(&mut self, mut computed: BTreeMap<ResourceType, Names>) -> Vec<ResourceType> {
        let mut changed = Vec::new();
        let world = self.world.clone();
        self.wildcards.retain(|_, names| Arc::strong_count(names) > 1);
        for (kind, names) in &mut self.wildcards {
            let now = computed.remove(kind).unwrap_or_else(|| translate::wildcard(&world, *kind).into());
            if *now != **names {
                *names = now;
                changed.push(*kind);
            }
        }
        changed
    }
}

impl Lease {
    /// The entry that is subscribed to.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.hub.release(&self.entry.key);
    }
}

#[cfg(test)]
mod tests {
    use outrigger_base::telemetry::metrics::Registry;
    use outrigger_resources::parse_yaml;

    use super::*;
    use crate::world::{Change, Fact, Roots};

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                           spec: {ports: [{port: 9080}]}\n";
    const NAME: &str = "outbound|9080|reviews.shop.svc.cluster.local";

    #[tokio::test]
    async fn only_other_roots_are_a_change_of_the_roots() {
        let hub = Hub::new(Arc::new(World::default()), Meters::new(Registry::new()));
        let learned = |roots: &[u8], signer| {
            let certificates = roots.iter().map(|root| Arc::from([*root].as_slice())).collect();
            Fact::Roots(Roots { certificates, signer: [signer; 32] })
        };
        for (fact, since) in [(learned(&[1], 1), 2), (learned(&[1, 2], 1), 3), (learned(&[1, 2], 2), 3)] {
            let (world, changed) = hub.world().learn(fact);
            hub.push(Pending { world: Arc::new(world), changed, since: Instant::now() }).await;
            assert_eq!(hub.roots_in_force().1, since);
        }
    }

    #[tokio::test]
    async fn who_subscribes_while_a_push_is_computed_gets_its_result() {
        let hub = Hub::new(Arc::new(World::default()), Meters::new(Registry::new()));
        let lease = |name: &str| hub.lease(ResourceType::Cluster, name, &Arc::default()).unwrap();
        let _early = lease("outbound|1|reviews.shop.svc.cluster.local");
        let changes = parse_yaml("test.yaml", SERVICE).objects.into_iter().map(Change::from).collect();
        let (world, changed) = World::default().apply(changes);
        let mut batches = hub.batches();
        let push = hub.push(Pending { world: Arc::new(world), changed, since: Instant::now() });
        let mut push = std::pin::pin!(push);
        tokio::select! {
            biased;
            () = &mut push => panic!("the push gives others no turn"),
            () = std::future::ready(()) => {}
        }
        let late = lease(NAME);
        assert!(late.entry().value().is_none(), "the push is in force too early");
        push.await;
        assert!(late.entry().value().is_some(), "the push has passed by");
        let batch = batches.recv().await.unwrap();
        assert_eq!(batch.keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), [NAME]);
    }
}
