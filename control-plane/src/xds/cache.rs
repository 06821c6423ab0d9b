//! Encoded resources, each kept once for all streams that subscribe to it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use envoy_types::pb::google::protobuf::Any;
use outrigger_model::codec;
use outrigger_model::name::INBOUND;
use outrigger_model::resource::ResourceType;

use crate::translate::{self, Client};
use crate::world::World;

/// Resources that are kept at a time.
pub(crate) const MAX_ENTRIES: usize = 500_000;

/// Bytes of the hash that are the version of a resource.
const VERSION_BYTES: usize = 16;

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

/// A resource as it goes on the wire.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    /// A hash of the bytes: the same in every replica and after a restart.
    pub(crate) version: Arc<str>,
    pub(crate) any: Any,
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
    counts: [usize; ResourceType::ALL.len()],
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
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

impl Encoded {
    pub(crate) fn of(any: Any) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &any.value);
        let version = hash.as_ref().iter().take(VERSION_BYTES).fold(String::new(), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { version: version.into(), any }
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
        Some(Arc::new(Encoded::of(codec::encode(&resource))))
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
        Self { max_entries, slots: HashMap::new(), counts: Default::default() }
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
        self.counts[entry.key.kind as usize] += 1;
        self.slots.insert(entry.key.clone(), Slot { entry, leases: 1 });
        true
    }

    /// Counts one subscriber less and forgets an entry without any.
    pub(crate) fn release(&mut self, key: &Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.leases -= 1;
        if slot.leases == 0 {
            self.slots.remove(key);
            self.counts[key.kind as usize] -= 1;
        }
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.slots.values().map(|slot| slot.entry.clone()).collect()
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
