//! One worker: a current-thread runtime with its own listening sockets, connection pools and randomness.
//!
//! Workers share nothing on the request path but the snapshot (read only) and endpoint statistics (atomics).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Cache};
use outrigger_base::lifecycle::Drain;
use outrigger_base::tls::MeshTls;

use crate::alarms::Alarms;
use crate::demand::Demand;
use crate::jwt::Remembered;
use crate::opaque::Carriers;
use crate::snapshot::Snapshot;
use crate::telemetry::{ConnectionHandles, LocalTelemetry, Telemetry, Way};
use crate::upstream::Pools;

/// What all threads of the process share.
pub struct Shared {
    /// The configuration in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The certificate in force; `None` until the first was issued.
    pub tls: ArcSwapOption<MeshTls>,
    /// Asks for destinations that are not in the snapshot yet.
    pub demand: Demand,
    /// Metrics and access log.
    pub telemetry: Telemetry,
    /// This workload's name, `x-outrigger-reason` says it as `hop`.
    pub workload: Arc<str>,
    /// This workload's namespace.
    pub namespace: Arc<str>,
    /// How connections get to this proxy.
    pub interception: Interception,
    /// End accept loops and connections.
    pub drains: Drains,
}

/// How connections get to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// Applications and peers dial its listeners.
    Explicit,
    /// The packets of everything but this proxy are redirected to it: what it dials at its own address is the application.
    Capture,
}

/// The two drains of a process, in the order in which they start: while requests to the application are finished, the
/// application must still be able to make its own.
pub struct Drains {
    /// Of what comes to the application.
    pub inbound: Drain,
    /// Of what the application sends.
    pub outbound: Drain,
}

impl Drains {
    /// The one for a direction.
    pub fn of(&self, way: Way) -> &Drain {
        match way {
            Way::Inbound => &self.inbound,
            Way::Outbound => &self.outbound,
        }
    }
}

impl Shared {
    /// This workload as an object of the configuration: what a refusal names that no other object is concerned with.
    pub(crate) fn as_object(&self) -> Arc<str> {
        format!("Workload/{}/{}", self.namespace, self.workload).into()
    }
}

/// The state of one worker thread.
pub struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Idle and multiplexed connections of this worker.
    pub pools: Pools,
    /// Metric handles this worker has looked up before.
    pub telemetry: LocalTelemetry,
    /// Deadlines of requests.
    pub alarms: Alarms,
    /// The same, of opaque connections.
    pub connections: ConnectionHandles,
    /// Tokens of requests that were found good.
    pub tokens: Remembered,
    /// What carries bytes from one connection to another.
    pub(crate) carriers: Carriers,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    rng: RefCell<fastrand::Rng>,
}

impl Worker {
    /// A worker with empty pools.
    pub fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            index,
            pools: Pools::new(shared.clone()),
            telemetry: LocalTelemetry::new(&shared.telemetry),
            alarms: Alarms::default(),
            connections: ConnectionHandles::default(),
            tokens: Remembered::default(),
            carriers: Carriers::default(),
            snapshot: RefCell::new(Cache::new(shared.snapshot.clone())),
            rng: RefCell::new(fastrand::Rng::new()),
            shared,
        })
    }

    /// The configuration in force now. Loaded once a request and carried by it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow_mut().load().clone()
    }

    /// Runs a decision with this worker's random numbers.
    pub fn with_rng<T>(&self, decide: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        decide(&mut self.rng.borrow_mut())
    }
}
