//! How workers get a destination into the snapshot: they ask by name, the control thread asks the control plane.
//!
//! The snapshot itself is the table of what was asked for. A question travels over a bounded queue; its answer is the
//! next snapshot, which [`Changes`] announces. What an answer means is linking's business (`xds`), not known here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use outrigger_model::name::Destination as DestinationName;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::snapshot::{Destination, DestinationId, Handling, Snapshot, Usage};

/// How many destinations a proxy knows at a time.
pub const MAX_DESTINATIONS: usize = 10_000;

/// How long a connection waits for its destination to become known.
pub const DEMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// A destination without a connection for so long is dropped, unless it is pinned.
pub const IDLE_AFTER: Duration = Duration::from_secs(300);

/// How many names wait for the control thread; more wait at the asking connection.
pub const MAX_QUEUED_NAMES: usize = 1024;

/// Asks for destinations. Cheap to clone; every thread has one.
#[derive(Debug, Clone)]
pub struct Demand {
    snapshot: Arc<ArcSwap<Snapshot>>,
    names: mpsc::Sender<DestinationName>,
    changes: Changes,
}

/// The control thread's side of a [`Demand`].
#[derive(Debug)]
pub struct Demanded {
    /// Names that are not in the snapshot yet.
    pub(crate) names: mpsc::Receiver<DestinationName>,
    /// Rung after each change.
    pub(crate) changes: Changes,
}

/// Announces that something that all threads share has changed: the snapshot, or the certificate.
#[derive(Debug, Clone)]
pub struct Changes(Arc<watch::Sender<u64>>);

/// Held by a connection as long as it uses a destination; keeps the destination from being dropped as idle.
#[derive(Debug)]
pub struct InUse(Arc<Usage>);

/// A demand over `snapshot`, and the side that answers it.
pub fn channel(snapshot: Arc<ArcSwap<Snapshot>>) -> (Demand, Demanded) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_NAMES);
    let changes = Changes(Arc::new(watch::Sender::new(0)));
    let demand = Demand { snapshot, names: sender, changes: changes.clone() };
    (demand, Demanded { names: receiver, changes })
}

impl Demand {
    /// A place for a destination that lives as long as the process (explicit listeners), asked for at start: before
    /// the control thread reads the snapshot for the first time.
    pub fn pin(&self, name: DestinationName) -> DestinationId {
        let before = self.snapshot.load_full();
        if let Some(id) = before.lookup(&name) {
            return id;
        }
        let (next, id) = with_place(&before, name);
        self.snapshot.store(Arc::new(next));
        id
    }

    /// The destination of a connection. Resolves when the control plane has answered, known or unknown, or after
    /// [`DEMAND_TIMEOUT`] with what there is. `None` when the name could not even be asked for, because
    /// [`MAX_DESTINATIONS`] are in use or the control thread is busy.
    pub async fn destination(&self, name: DestinationName) -> Option<DestinationId> {
        let deadline = Instant::now() + DEMAND_TIMEOUT;
        let mut changes = self.changes.listen();
        let mut asked = false;
        loop {
            changes.borrow_and_update();
            let found = self.find(&name);
            match found {
                Found::Settled(id) => return Some(id),
                Found::Full => return None,
                Found::Absent if !asked => {
                    asked = true;
                    // Whether it was sent or not, what the snapshot says at the deadline counts.
                    let _ = timeout_at(deadline, self.names.send(name.clone())).await;
                }
                Found::Absent | Found::Pending => {}
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return self.snapshot.load().lookup(&name);
            }
        }
    }

    /// What announces the changes of everything that threads share.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    fn find(&self, name: &DestinationName) -> Found {
        let snapshot = self.snapshot.load();
        match snapshot.lookup(name).and_then(|id| Some((id, snapshot.destination(id)?))) {
            None if snapshot.names.len() >= MAX_DESTINATIONS => Found::Full,
            None => Found::Absent,
            Some((_, destination)) if matches!(destination.handling, Handling::Pending) => Found::Pending,
            Some((id, destination)) => {
                touch(&destination.usage);
                Found::Settled(id)
            }
        }
    }
}

enum Found {
    Settled(DestinationId),
    Pending,
    Absent,
    Full,
}

impl Changes {
    /// Says that something has changed.
    pub(crate) fn ring(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Resolves with each change from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl InUse {
    /// Counts a connection to `destination` until it is dropped.
    pub fn new(destination: &Destination) -> Self {
        destination.usage.connections.fetch_add(1, Relaxed);
        touch(&destination.usage);
        Self(destination.usage.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        touch(&self.0);
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// `snapshot` with one more place, whose destination is pending.
pub(crate) fn with_place(snapshot: &Snapshot, name: DestinationName) -> (Snapshot, DestinationId) {
    let id = DestinationId(snapshot.destinations.len() as u32);
    let mut next = Snapshot { generation: snapshot.generation + 1, ..snapshot.clone() };
    next.names.insert(name.clone(), id);
    let destination = Destination { name, handling: Handling::Pending, usage: Arc::default() };
    next.destinations.push(Some(Arc::new(destination)));
    (next, id)
}

fn touch(usage: &Usage) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    usage.last_used_seconds.store(now.as_secs(), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> (Demand, Demanded, Arc<ArcSwap<Snapshot>>) {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let (demand, demanded) = channel(snapshot.clone());
        (demand, demanded, snapshot)
    }

    fn name(text: &str) -> DestinationName {
        text.parse().unwrap()
    }

    #[test]
    fn a_pinned_destination_has_one_place() {
        let (demand, _demanded, snapshot) = demand();
        let (a, b) = (demand.pin(name("a:1")), demand.pin(name("b:1")));
        assert_ne!(a, b);
        assert_eq!(demand.pin(name("a:1")), a);
        assert!(matches!(snapshot.load().destination(a).unwrap().handling, Handling::Pending));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_asked_once_and_answered_by_a_snapshot() {
        let (demand, mut demanded, snapshot) = demand();
        let asking = tokio::spawn(async move { demand.destination(name("a:1")).await });
        assert_eq!(demanded.names.recv().await, Some(name("a:1")));
        let (mut next, id) = with_place(&snapshot.load(), name("a:1"));
        snapshot.store(Arc::new(with_place(&Snapshot::empty(), name("a:1")).0));
        demanded.changes.ring();
        tokio::task::yield_now().await;
        assert!(!asking.is_finished(), "a pending destination is no answer");
        let known = Destination { name: name("a:1"), handling: Handling::Unknown, usage: Arc::default() };
        next.destinations[0] = Some(Arc::new(known));
        snapshot.store(Arc::new(next));
        demanded.changes.ring();
        assert_eq!(asking.await.unwrap(), Some(id));
        assert!(demanded.names.try_recv().is_err(), "asked twice");
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_it_says_what_there_is() {
        let (demand, _demanded, _) = demand();
        let begin = Instant::now();
        assert_eq!(demand.destination(name("a:1")).await, None);
        assert_eq!(begin.elapsed(), DEMAND_TIMEOUT);
        let id = demand.pin(name("b:1"));
        assert_eq!(demand.destination(name("b:1")).await, Some(id));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_answers_at_once() {
        let (demand, _demanded, snapshot) = demand();
        let mut full = Snapshot::empty();
        for port in 1..=MAX_DESTINATIONS {
            full.names.insert(name(&format!("a:{port}")), DestinationId(0));
        }
        snapshot.store(Arc::new(full));
        let begin = Instant::now();
        assert_eq!(demand.destination(name("b:1")).await, None);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let usage = Arc::<Usage>::default();
        let destination =
            Destination { name: name("a:1"), handling: Handling::Pending, usage: usage.clone() };
        let in_use = InUse::new(&destination);
        assert_eq!(usage.connections.load(Relaxed), 1);
        assert!(usage.last_used_seconds.load(Relaxed) > 0);
        drop(in_use);
        assert_eq!(usage.connections.load(Relaxed), 0);
    }
}
