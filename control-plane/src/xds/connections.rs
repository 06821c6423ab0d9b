//! Who is connected, what each was sent, and what it said to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_model::resource::ResourceType;
use serde::Serialize;

use crate::http::meters::Meters;
use crate::xds::MAX_STREAMS;

/// The longest reason of a refusal that is remembered, in characters.
const MAX_REASON_CHARS: usize = 1024;

/// One connected client as status shows it. Keys are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyStatus {
    /// Its `node.id`.
    pub id: String,
    /// The namespace whose configuration it gets.
    pub namespace: String,
    /// Its service account, when it proved one.
    pub service_account: Option<String>,
    /// Where its connection comes from.
    pub address: Option<SocketAddr>,
    /// `delta` or `sotw`.
    pub protocol: &'static str,
    /// Since when it is connected, in seconds of Unix time.
    pub connected_at: u64,
    /// What it subscribes to, by type.
    pub types: Vec<TypeStatus>,
}

/// One resource type of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeStatus {
    /// `cluster`, `endpoints`, `listener` or `route`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How many names it subscribes to.
    pub subscribed: usize,
    /// The version sent last.
    pub sent_version: Option<u64>,
    /// The version that is in force in the client.
    pub acked_version: Option<u64>,
    /// The refusal of the version sent last, if it was refused.
    pub nack: Option<Nack>,
}

/// A client's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nack {
    /// The version that was refused.
    pub version: u64,
    /// Why, in the client's words.
    pub reason: String,
    /// When, in seconds of Unix time.
    pub at: u64,
}

/// A connected proxy of ours: one that receives by the settings that we make for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Its `node.id`.
    pub id: String,
    /// The namespace whose configuration it gets.
    pub namespace: String,
    /// Its service account, when it proved one.
    pub service_account: Option<String>,
    /// Since when it is connected, in seconds of Unix time.
    pub connected_at: u64,
    /// The latest generation whose settings are known to be in force in it; 0 before the first.
    pub in_force: u64,
}

/// Who a connection belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Identification {
    pub(crate) id: String,
    pub(crate) namespace: Arc<str>,
    pub(crate) service_account: Option<String>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) protocol: &'static str,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    meters: Meters,
}

#[derive(Debug, Default)]
struct Open {
    /// Streams, with or without a first request.
    streams: usize,
    next: u64,
    known: BTreeMap<u64, Arc<Connection>>,
}

/// A place among the streams; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: Option<u64>,
}

/// What is known of one client.
#[derive(Debug)]
pub(crate) struct Connection {
    who: Identification,
    connected_at: u64,
    types: Mutex<BTreeMap<ResourceType, TypeStatus>>,
    /// [`Follower::in_force`]; `None` for a client that does not ask for such settings.
    in_force: Mutex<Option<u64>>,
}

impl Connections {
    pub(crate) fn new(meters: Meters) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), meters })
    }

    /// Takes a place for a new stream, if there is one left.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.streams >= MAX_STREAMS {
            return None;
        }
        open.streams += 1;
        Some(Place { connections: self.clone(), number: None })
    }

    /// Every client that has said who it is.
    pub(crate) fn statuses(&self) -> Vec<ProxyStatus> {
        let known: Vec<Arc<Connection>> = self.open().known.values().cloned().collect();
        known.iter().map(|connection| connection.status()).collect()
    }

    /// Every client that receives by settings of ours.
    pub(crate) fn followers(&self) -> Vec<Follower> {
        let known: Vec<Arc<Connection>> = self.open().known.values().cloned().collect();
        known.iter().filter_map(|connection| connection.follower()).collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says who took the place.
    pub(crate) fn identify(&mut self, who: Identification) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            who,
            connected_at: unix_seconds(),
            types: Mutex::default(),
            in_force: Mutex::default(),
        });
        let mut open = self.connections.open();
        open.next += 1;
        let number = open.next;
        open.known.insert(number, connection.clone());
        self.number = Some(number);
        self.connections.meters.proxies(open.known.len());
        connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.streams -= 1;
        if let Some(number) = self.number {
            open.known.remove(&number);
            self.connections.meters.proxies(open.known.len());
        }
    }
}

impl Connection {
    /// Who it is.
    pub(crate) fn who(&self) -> &Identification {
        &self.who
    }

    pub(crate) fn subscribed(&self, kind: ResourceType, names: usize) {
        self.update(kind, |status| status.subscribed = names);
    }

    pub(crate) fn sent(&self, kind: ResourceType, version: u64) {
        self.update(kind, |status| status.sent_version = Some(version));
    }

    pub(crate) fn acked(&self, kind: ResourceType, version: u64) {
        self.update(kind, |status| {
            status.acked_version = Some(version);
            status.nack = None;
        });
    }

    pub(crate) fn nacked(&self, kind: ResourceType, version: u64, reason: &str) {
        let reason = reason.chars().take(MAX_REASON_CHARS).collect();
        let nack = Nack { version, reason, at: unix_seconds() };
        self.update(kind, |status| status.nack = Some(nack));
    }

    /// It asks for settings of ours; those of `generation` are in force in it, when that is known.
    pub(crate) fn follows(&self, generation: Option<u64>) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        *in_force = Some(in_force.unwrap_or(0).max(generation.unwrap_or(0)));
    }

    fn follower(&self) -> Option<Follower> {
        let in_force = (*self.in_force.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(Follower {
            id: self.who.id.clone(),
            namespace: self.who.namespace.to_string(),
            service_account: self.who.service_account.clone(),
            connected_at: self.connected_at,
            in_force,
        })
    }

    fn update(&self, kind: ResourceType, change: impl FnOnce(&mut TypeStatus)) {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        change(types.entry(kind).or_insert_with(|| TypeStatus::new(kind)));
    }

    fn status(&self) -> ProxyStatus {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        ProxyStatus {
            id: self.who.id.clone(),
            namespace: self.who.namespace.to_string(),
            service_account: self.who.service_account.clone(),
            address: self.who.address,
            protocol: self.who.protocol,
            connected_at: self.connected_at,
            types: types.values().cloned().collect(),
        }
    }
}

impl TypeStatus {
    fn new(kind: ResourceType) -> Self {
        Self { kind: kind.word(), subscribed: 0, sent_version: None, acked_version: None, nack: None }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
