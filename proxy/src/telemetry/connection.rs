//! One record an opaque connection: opened, bytes both ways, closed when dropped.

use std::rc::Rc;

use outrigger_base::telemetry::metrics::{Counter, Labels};

use super::labels::Parties;
use super::{Protection, Telemetry, Way};
use crate::reason::Reason;
use crate::worker::Worker;

/// Who takes part in a connection, by their numbers in [`Telemetry`]; 0 is unknown.
#[derive(Debug, Clone, Copy)]
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

/// The record of one opaque connection. Dropping it closes it.
pub struct TcpRecord {
    worker: Rc<Worker>,
    labels: TcpLabels,
    reason: Option<Reason>,
    sent: Counter,
    received: Counter,
}

impl TcpRecord {
    /// Counts a connection as opened.
    pub fn open(worker: &Rc<Worker>, labels: TcpLabels) -> Self {
        let telemetry = &worker.shared.telemetry;
        let registry = telemetry.registry();
        let set = label_set(telemetry, &labels, None);
        registry.counter("outrigger_tcp_connections_opened_total", set.clone()).increment(1);
        let sent = registry.counter("outrigger_tcp_sent_bytes_total", set.clone());
        let received = registry.counter("outrigger_tcp_received_bytes_total", set);
        Self { worker: worker.clone(), labels, reason: None, sent, received }
    }

    /// Bytes sent to the one who connected.
    pub fn sent(&self, bytes: u64) {
        self.sent.increment(bytes);
    }

    /// Bytes received from the one who connected.
    pub fn received(&self, bytes: u64) {
        self.received.increment(bytes);
    }

    /// Why it ended, when the proxy ended it.
    pub fn reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }
}

impl Drop for TcpRecord {
    fn drop(&mut self) {
        let telemetry = &self.worker.shared.telemetry;
        let set = label_set(telemetry, &self.labels, self.reason);
        telemetry.registry().counter("outrigger_tcp_connections_closed_total", set).increment(1);
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
