//! What the client says of itself on `/metrics`.

use std::time::{Duration, SystemTime};

use outrigger_base::telemetry::metrics::{Counter, Gauge, Kind, MetricSpec, Registry};
use outrigger_model::resource::ResourceType;
use tokio::sync::watch;

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

/// How current the configuration in force is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    /// Nothing was ever heard of the control plane, and nothing was kept of an earlier process.
    Never,
    /// The control plane is connected: what it changes is in force soon.
    Current,
    /// It was current then; the control plane has been away since.
    Since(SystemTime),
}

impl Currency {
    /// How old the configuration in force is; zero while it is current, `None` when there is none.
    pub fn age(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Current => Some(Duration::ZERO),
            Self::Since(then) => Some(now.duration_since(then).unwrap_or_default()),
        }
    }
}

/// The handles.
pub(super) struct Meters {
    connected: Gauge,
    age: Gauge,
    acks: [Counter; 4],
    nacks: [Counter; 4],
    currency: watch::Sender<Currency>,
}

impl Meters {
    pub(super) fn new(registry: &Registry, currency: watch::Sender<Currency>) -> Self {
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
            currency,
        }
    }

    pub(super) fn connected(&self) {
        self.currency.send_replace(Currency::Current);
        self.connected.set(1.0);
        self.age.set(0.0);
    }

    pub(super) fn disconnected(&self) {
        if *self.currency.borrow() == Currency::Current {
            self.currency.send_replace(Currency::Since(SystemTime::now()));
            self.connected.set(0.0);
        }
    }

    /// What is in force was current at that time.
    pub(super) fn as_of(&self, time: SystemTime) {
        self.currency.send_replace(Currency::Since(time));
        self.age();
    }

    /// Until when what is in force was current; `None` when it never was.
    pub(super) fn current_as_of(&self, now: SystemTime) -> Option<SystemTime> {
        match *self.currency.borrow() {
            Currency::Never => None,
            Currency::Current => Some(now),
            Currency::Since(then) => Some(then),
        }
    }

    /// Brings the age up to date.
    pub(super) fn age(&self) {
        let age = self.currency.borrow().age(SystemTime::now());
        self.age.set(age.unwrap_or_default().as_secs_f64());
    }

    pub(super) fn answered(&self, kind: ResourceType, is_nack: bool) {
        let counters = if is_nack { &self.nacks } else { &self.acks };
        counters[kind as usize].increment(1);
    }
}
