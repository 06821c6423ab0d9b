//! Encoded resources, each kept once for all streams that subscribe to it, and found by what they follow from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use outrigger_model::codec;
use outrigger_model::name::INBOUND;
use outrigger_model::resource::ResourceType;

use crate::translate::{self, Client};
use crate::world::{Changed, DestinationKey, World};
use crate::xds::encoded::Encoded;

/// Resources that are kept at a time.
pub(crate) const MAX_ENTRIES: usize = 500_000;

/// What makes two subscriptions the same resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) kind: ResourceType,
    pub(crate) name: Arc<str>,
    scope: Scope,
}

/// Who shares a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    /// All clients.
    Mesh,
    /// Clients of one namespace: routes of consumers differ by it.
    Namespace(Arc<str>),
    /// Clients that are the same workload.
    Workload(Arc<Client>),
}

/// A resource that somebody subscribes to. Without a value it does not exist.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    client: Arc<Client>,
    value: ArcSwapOption<Encoded>,
}

/// All entries.
#[derive(Debug)]
pub(crate) struct Cache {
    max_entries: usize,
    slots: HashMap<Key, Slot>,
    /// Entries by what they follow from, so that a change finds those it concerns without looking at the others.
    followers: HashMap<DestinationKey, BTreeMap<u64, Arc<Entry>>>,
    /// The number of the next entry.
    next: u64,
    counts: [usize; ResourceType::ALL.len()],
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    number: u64,
    leases: usize,
}

impl Key {
    /// The key of what `client` means by a name.
    pub(crate) fn new(kind: ResourceType, name: &Arc<str>, client: &Arc<Client>) -> Self {
        let scope = match kind {
            ResourceType::Cluster | ResourceType::Endpoints => Scope::Mesh,
            ResourceType::Listener if **name == *INBOUND => Scope::Workload(client.clone()),
            ResourceType::Listener | ResourceType::Route => Scope::Namespace(client.namespace.clone()),
        };
        Self { kind, name: name.clone(), scope }
    }
}

impl Entry {
    pub(crate) fn new(key: Key, client: Arc<Client>, world: &World) -> Self {
        let entry = Self { key, client, value: ArcSwapOption::empty() };
        entry.value.store(entry.compute(world));
        entry
    }

    /// What the resource is in a world.
    pub(crate) fn compute(&self, world: &World) -> Option<Arc<Encoded>> {
        let resource = translate::resource(world, &self.client, self.key.kind, &self.key.name)?;
        Some(Arc::new(Encoded::new(&self.key.name, &codec::encode(&resource))))
    }

    fn follows(&self) -> Vec<DestinationKey> {
        translate::follows(&self.client, self.key.kind, &self.key.name)
    }

    /// What the resource is now.
    pub(crate) fn value(&self) -> Option<Arc<Encoded>> {
        self.value.load_full()
    }

    /// Puts a value in force; whether it differs from the one before.
    pub(crate) fn replace(&self, value: Option<Arc<Encoded>>) -> bool {
        let before = self.value.load();
        let same =
            before.as_ref().map(|encoded| &encoded.version) == value.as_ref().map(|encoded| &encoded.version);
        if !same {
            self.value.store(value);
        }
        !same
    }
}

impl Cache {
    /// An empty cache that keeps up to `max_entries`.
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            max_entries,
            slots: HashMap::new(),
            followers: HashMap::new(),
            next: 0,
            counts: Default::default(),
        }
    }

    /// Counts one more subscriber of an entry, if it is there.
    pub(crate) fn lease(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let slot = self.slots.get_mut(key)?;
        slot.leases += 1;
        Some(slot.entry.clone())
    }

    /// Keeps a new entry with one subscriber. `false` when there are too many.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> bool {
        if self.slots.len() >= self.max_entries {
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.counts[entry.key.kind as usize] += 1;
        for key in entry.follows() {
            self.followers.entry(key).or_default().insert(number, entry.clone());
        }
        self.slots.insert(entry.key.clone(), Slot { entry, number, leases: 1 });
        true
    }

    /// Counts one subscriber less and forgets an entry without any.
    pub(crate) fn release(&mut self, key: &Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.leases -= 1;
        if slot.leases > 0 {
            return;
        }
        self.counts[key.kind as usize] -= 1;
        let Some(Slot { entry, number, .. }) = self.slots.remove(key) else { return };
        for key in entry.follows() {
            let Some(followers) = self.followers.get_mut(&key) else { continue };
            followers.remove(&number);
            if followers.is_empty() {
                self.followers.remove(&key);
            }
        }
    }

    /// The entries that a change may alter, each once, the oldest first.
    pub(crate) fn affected(&self, changed: &Changed) -> Vec<Arc<Entry>> {
        let Changed::Destinations(keys) = changed else {
            return self.slots.values().map(|slot| slot.entry.clone()).collect();
        };
        let followers = keys.iter().filter_map(|key| self.followers.get(key)).flatten();
        let distinct: BTreeMap<u64, &Arc<Entry>> =
            followers.map(|(number, entry)| (*number, entry)).collect();
        distinct.into_values().cloned().collect()
    }

    /// How many entries of a kind there are.
    pub(crate) fn count(&self, kind: ResourceType) -> usize {
        self.counts[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: ResourceType, name: &str, namespace: &str) -> Arc<Entry> {
        let client = Arc::new(Client { namespace: namespace.into(), ..Client::default() });
        let key = Key::new(kind, &name.into(), &client);
        Arc::new(Entry::new(key, client, &World::default()))
    }

    #[test]
    fn the_bound_holds_and_a_released_place_can_be_taken() {
        let mut cache = Cache::new(2);
        let [one, two, three] = ["a:1", "b:1", "c:1"].map(|name| entry(ResourceType::Route, name, "shop"));
        assert!(cache.insert(one.clone()) && cache.insert(two) && !cache.insert(three.clone()));
        assert!(cache.lease(&one.key).is_some());
        cache.release(&one.key);
        assert_eq!((cache.count(ResourceType::Route), cache.insert(three.clone())), (2, false));
        cache.release(&one.key);
        assert_eq!((cache.count(ResourceType::Route), cache.insert(three)), (1, true));
    }

    #[test]
    fn a_change_finds_what_follows_from_it_and_nothing_else() {
        let mut cache = Cache::new(10);
        let full = "a.shop.svc.cluster.local";
        let followers = [
            entry(ResourceType::Listener, "a.shop:80", "shop"),
            entry(ResourceType::Route, "a.shop.svc.cluster.local:80", "shop"),
            entry(ResourceType::Endpoints, "outbound|80|a.shop.svc.cluster.local", "bank"),
        ];
        let others = [
            entry(ResourceType::Listener, "b.shop:80", "shop"),
            entry(ResourceType::Listener, INBOUND, "shop"),
            entry(ResourceType::Listener, INBOUND, "bank"),
        ];
        assert!(followers.iter().chain(&others).all(|entry| cache.insert(entry.clone())));
        let affected = |cache: &Cache, keys: &[DestinationKey]| {
            let changed = Changed::Destinations(keys.iter().cloned().collect());
            cache.affected(&changed).iter().map(|entry| entry.key.clone()).collect::<Vec<_>>()
        };
        let host = DestinationKey::Host(full.into());
        // The first one is found by its name as it was dialled and by its full name, and named once.
        let both = [host.clone(), DestinationKey::Host("a.shop".into())];
        assert_eq!(affected(&cache, &both), followers.each_ref().map(|entry| entry.key.clone()));
        assert_eq!(affected(&cache, &[DestinationKey::Inbound("bank".into())]), [others[2].key.clone()]);
        assert_eq!(affected(&cache, &[DestinationKey::Host("c.shop".into())]), []);
        assert_eq!(cache.affected(&Changed::Everything).len(), 6);
        for entry in followers.iter().chain(&others) {
            cache.release(&entry.key);
        }
        assert!(affected(&cache, &[host]).is_empty() && cache.followers.is_empty());
    }

    #[test]
    fn resources_are_shared_by_those_for_whom_they_are_the_same() {
        let key = |kind, name, namespace| entry(kind, name, namespace).key.clone();
        for (kind, name, shared) in [
            (ResourceType::Cluster, "outbound|80|a.b", true),
            (ResourceType::Endpoints, "outbound|80|a.b", true),
            (ResourceType::Route, "a.b:80", false),
            (ResourceType::Listener, "a.b:80", false),
            (ResourceType::Listener, INBOUND, false),
        ] {
            assert_eq!(key(kind, name, "shop") == key(kind, name, "bank"), shared, "{kind:?} {name}");
            assert_eq!(key(kind, name, "shop"), key(kind, name, "shop"));
        }
        let other = Arc::new(Client { namespace: "shop".into(), name: "web-2".into(), ..Client::default() });
        let key_of = |kind, name: &str| Key::new(kind, &name.into(), &other);
        assert_eq!(key_of(ResourceType::Route, "a.b:80"), key(ResourceType::Route, "a.b:80", "shop"));
        assert_ne!(key_of(ResourceType::Listener, INBOUND), key(ResourceType::Listener, INBOUND, "shop"));
    }
}
