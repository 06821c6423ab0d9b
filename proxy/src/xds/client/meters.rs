//! What the client says of itself on `/metrics`.

use std::time::SystemTime;

use outrigger_base::telemetry::metrics::{Counter, Gauge, Kind, MetricSpec, Registry};
use outrigger_model::resource::ResourceType;

/// The metrics of the client.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: "outrigger_xds_connected",
        kind: Kind::Gauge,
        help: "Whether the control plane answers: 1 or 0.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_xds_version_age_seconds",
        kind: Kind::Gauge,
        help: "How long ago the configuration in force was last known to be current; 0 while connected.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_xds_acks_total",
        kind: Kind::Counter,
        help: "Responses of the control plane that were put in force.",
        labels: &["type"],
    },
    MetricSpec {
        name: "outrigger_xds_nacks_total",
        kind: Kind::Counter,
        help: "Responses of the control plane that were refused, in whole or in part.",
        labels: &["type"],
    },
];

/// The handles.
pub(super) struct Meters {
    connected: Gauge,
    age: Gauge,
    acks: [Counter; 4],
    nacks: [Counter; 4],
    is_connected: bool,
    current_as_of: Option<SystemTime>,
}

impl Meters {
    pub(super) fn new(registry: &Registry) -> Self {
        registry.declare(METRICS);
        let counters =
            |name| ResourceType::ALL.map(|kind| registry.counter(name, vec![("type", kind.word().into())]));
        let connected = registry.gauge("outrigger_xds_connected", Vec::new());
        connected.set(0.0);
        Self {
            connected,
            age: registry.gauge("outrigger_xds_version_age_seconds", Vec::new()),
            acks: counters("outrigger_xds_acks_total"),
            nacks: counters("outrigger_xds_nacks_total"),
            is_connected: false,
            current_as_of: None,
        }
    }

    pub(super) fn connected(&mut self) {
        self.is_connected = true;
        self.connected.set(1.0);
        self.age.set(0.0);
    }

    pub(super) fn disconnected(&mut self) {
        if std::mem::take(&mut self.is_connected) {
            self.current_as_of = Some(SystemTime::now());
            self.connected.set(0.0);
        }
    }

    /// What is in force was current at that time.
    pub(super) fn as_of(&mut self, time: SystemTime) {
        self.current_as_of = Some(time);
        self.age();
    }

    /// Brings the age up to date.
    pub(super) fn age(&self) {
        if let (false, Some(then)) = (self.is_connected, self.current_as_of) {
            self.age.set(then.elapsed().unwrap_or_default().as_secs_f64());
        }
    }

    pub(super) fn answered(&self, kind: ResourceType, is_nack: bool) {
        let counters = if is_nack { &self.nacks } else { &self.acks };
        counters[kind as usize].increment(1);
    }
}
