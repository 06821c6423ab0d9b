//! One record an opaque connection: opened, bytes both ways, closed when dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use outrigger_base::telemetry::metrics::{Counter, Labels};

use super::labels::Parties;
use super::{Protection, Telemetry, Way};
use crate::reason::Reason;
use crate::worker::Worker;

/// Handles a worker keeps at most, of each kind; beyond that it forgets all and starts again.
const HANDLES_MAX: usize = 4096;

/// Who takes part in a connection, by their numbers in [`Telemetry`]; 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpLabels {
    /// Which way.
    pub way: Way,
    /// How it was protected.
    pub protection: Protection,
    /// The authenticated client of an inbound connection.
    pub peer: u32,
    /// The service.
    pub service: u32,
    /// The endpoint of an outbound connection.
    pub endpoint: u32,
}

/// The handles of connections that a worker has looked up before.
#[derive(Default)]
pub struct ConnectionHandles {
    open: RefCell<HashMap<TcpLabels, Rc<Handles>, foldhash::fast::FixedState>>,
    closed: RefCell<HashMap<Ending, Counter, foldhash::fast::FixedState>>,
}

/// What is counted while a connection is open.
struct Handles {
    opened: Counter,
    sent: Counter,
    received: Counter,
}

type Ending = (TcpLabels, Option<Reason>);

/// The record of one opaque connection. Dropping it closes it.
pub struct TcpRecord {
    worker: Rc<Worker>,
    labels: TcpLabels,
    reason: Option<Reason>,
    handles: Rc<Handles>,
}

impl ConnectionHandles {
    fn open(&self, telemetry: &Telemetry, labels: &TcpLabels) -> Rc<Handles> {
        let mut open = self.open.borrow_mut();
        if let Some(found) = open.get(labels) {
            return found.clone();
        }
        if open.len() >= HANDLES_MAX {
            open.clear();
        }
        let set = label_set(telemetry, labels, None);
        let registry = telemetry.registry();
        let made = Rc::new(Handles {
            opened: registry.counter("outrigger_tcp_connections_opened_total", set.clone()),
            sent: registry.counter("outrigger_tcp_sent_bytes_total", set.clone()),
            received: registry.counter("outrigger_tcp_received_bytes_total", set),
        });
        open.insert(*labels, made.clone());
        made
    }

    fn count_closed(&self, telemetry: &Telemetry, ending: Ending) {
        let mut closed = self.closed.borrow_mut();
        if let Some(found) = closed.get(&ending) {
            return found.increment(1);
        }
        if closed.len() >= HANDLES_MAX {
            closed.clear();
        }
        let set = label_set(telemetry, &ending.0, ending.1);
        let made = telemetry.registry().counter("outrigger_tcp_connections_closed_total", set);
        made.increment(1);
        closed.insert(ending, made);
    }
}

impl TcpRecord {
    /// Counts a connection as opened.
    pub fn open(worker: &Rc<Worker>, labels: TcpLabels) -> Self {
        let handles = worker.connections.open(&worker.shared.telemetry, &labels);
        handles.opened.increment(1);
        Self { worker: worker.clone(), labels, reason: None, handles }
    }

    /// Bytes sent to the one who connected.
    pub fn sent(&self, bytes: u64) {
        self.handles.sent.increment(bytes);
    }

    /// Bytes received from the one who connected.
    pub fn received(&self, bytes: u64) {
        self.handles.received.increment(bytes);
    }

    /// Why it ended, when the proxy ended it.
    pub fn reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }
}

impl Drop for TcpRecord {
    fn drop(&mut self) {
        self.worker.connections.count_closed(&self.worker.shared.telemetry, (self.labels, self.reason));
    }
}

fn label_set(telemetry: &Telemetry, labels: &TcpLabels, reason: Option<Reason>) -> Labels {
    let TcpLabels { way, protection, peer, service, endpoint } = *labels;
    let mut set = Parties { way, peer, service, endpoint }.labels(telemetry);
    set.extend([
        ("reason", reason.map(Reason::word).unwrap_or_default().into()),
        ("security", protection.word().into()),
    ]);
    set
}
