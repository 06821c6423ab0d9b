//! Every metric of the control plane: the table, and the handles that the rest of the crate records through.
//!
//! Names are those of contracts, section 8, and a few more under `outrigger_control_plane_`. Label values are enums of
//! ours; nothing a client sends becomes one.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrigger_base::telemetry::metrics::{Gauge, Histogram, Kind, Labels, MetricSpec, Registry};
use outrigger_model::resource::ResourceType;

const ROOT_ENDS: &str = "outrigger_control_plane_root_expiration_timestamp_seconds";
const SIGNER_ENDS: &str = "outrigger_control_plane_signer_expiration_timestamp_seconds";

/// The table: a row for each metric.
pub const SPECS: [MetricSpec; 12] = [
    MetricSpec {
        name: "outrigger_control_plane_proxies",
        kind: Kind::Gauge,
        help: "Clients with an open discovery stream.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_control_plane_push_duration_seconds",
        kind: Kind::Histogram,
        help: "Time from a change of the configuration until it was sent on every stream it concerns.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_control_plane_converge_duration_seconds",
        kind: Kind::Histogram,
        help: "Time from a change of the configuration until every stream it concerns acknowledged it.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_control_plane_resources",
        kind: Kind::Gauge,
        help: "Resources that clients subscribe to, each counted once however many share it.",
        labels: &["kind"],
    },
    MetricSpec {
        name: "outrigger_control_plane_nacks_total",
        kind: Kind::Counter,
        help: "Configuration that a client refused.",
        labels: &["kind"],
    },
    MetricSpec {
        name: "outrigger_control_plane_csr_total",
        kind: Kind::Counter,
        help: "Certificate requests by what became of them.",
        labels: &["outcome"],
    },
    MetricSpec {
        name: "outrigger_control_plane_injections_total",
        kind: Kind::Counter,
        help: "Pods that were to get a sidecar, by what became of them: injected, skipped, refused, malformed.",
        labels: &["outcome"],
    },
    MetricSpec {
        name: "outrigger_control_plane_tokens_refused_total",
        kind: Kind::Counter,
        help: "Bearer tokens that proved nothing, by reason.",
        labels: &["reason"],
    },
    MetricSpec {
        name: "outrigger_control_plane_jwks_fetches_total",
        kind: Kind::Counter,
        help: "Fetches of keys that sign tokens, by what became of them: fetched, failed.",
        labels: &["outcome"],
    },
    MetricSpec {
        name: "outrigger_control_plane_problems",
        kind: Kind::Gauge,
        help: "Objects with a condition that needs attention.",
        labels: &[],
    },
    MetricSpec {
        name: ROOT_ENDS,
        kind: Kind::Gauge,
        help: "When the root under which certificates are signed ends, in seconds since 1970.",
        labels: &[],
    },
    MetricSpec {
        name: SIGNER_ENDS,
        kind: Kind::Gauge,
        help: "When the certificate that signs ends, which is the root unless an intermediate signs, in seconds since 1970.",
        labels: &[],
    },
];

/// Handles to the metrics of the control plane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meters {
    registry: Arc<Registry>,
    proxies: Gauge,
    problems: Gauge,
    push: Histogram,
    converge: Histogram,
    root_ends: Gauge,
    signer_ends: Gauge,
}

impl Meters {
    /// Declares the table in `registry` and takes the handles.
    pub fn new(registry: Arc<Registry>) -> Self {
        registry.declare(&SPECS);
        Self {
            proxies: registry.gauge("outrigger_control_plane_proxies", Labels::new()),
            problems: registry.gauge("outrigger_control_plane_problems", Labels::new()),
            push: registry.histogram("outrigger_control_plane_push_duration_seconds", Labels::new()),
            converge: registry.histogram("outrigger_control_plane_converge_duration_seconds", Labels::new()),
            root_ends: registry.gauge(ROOT_ENDS, Labels::new()),
            signer_ends: registry.gauge(SIGNER_ENDS, Labels::new()),
            registry,
        }
    }

    /// When the root ends, and what signs under it.
    pub fn authority_ends(&self, root: SystemTime, signer: SystemTime) {
        let seconds = |end: SystemTime| end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.root_ends.set(seconds(root));
        self.signer_ends.set(seconds(signer));
    }

    /// How many clients are connected.
    pub fn proxies(&self, count: usize) {
        self.proxies.set(count as f64);
    }

    /// How many objects have problems.
    pub fn problems(&self, count: usize) {
        self.problems.set(count as f64);
    }

    /// How many resources of a kind are kept.
    pub fn resources(&self, kind: ResourceType, count: usize) {
        let labels = vec![("kind", kind.word().into())];
        self.registry.gauge("outrigger_control_plane_resources", labels).set(count as f64);
    }

    /// Stops when a change that was made at `since` has been sent everywhere.
    pub fn push_stopwatch(&self, since: Instant) -> Stopwatch {
        Stopwatch { since, histogram: self.push.clone() }
    }

    /// Stops when a change that was made at `since` has been answered everywhere.
    pub fn converge_stopwatch(&self, since: Instant) -> Stopwatch {
        Stopwatch { since, histogram: self.converge.clone() }
    }

    /// A client refused configuration.
    pub fn nack(&self, kind: ResourceType) {
        self.count("outrigger_control_plane_nacks_total", ("kind", kind.word()));
    }

    /// A certificate request was answered.
    pub fn csr(&self, outcome: &'static str) {
        self.count("outrigger_control_plane_csr_total", ("outcome", outcome));
    }

    /// The injector was asked for a pod.
    pub fn injection(&self, outcome: &'static str) {
        self.count("outrigger_control_plane_injections_total", ("outcome", outcome));
    }

    /// A token was refused.
    pub fn token_refused(&self, reason: &'static str) {
        self.count("outrigger_control_plane_tokens_refused_total", ("reason", reason));
    }

    /// Keys of an issuer of tokens were asked for.
    pub fn jwks_fetch(&self, outcome: &'static str) {
        self.count("outrigger_control_plane_jwks_fetches_total", ("outcome", outcome));
    }

    fn count(&self, name: &'static str, (label, value): (&'static str, &'static str)) {
        self.registry.counter(name, vec![(label, value.into())]).increment(1);
    }
}

/// Measures until the last of those who hold it lets go of it.
pub struct Stopwatch {
    since: Instant,
    histogram: Histogram,
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.histogram.record(self.since.elapsed().as_secs_f64());
    }
}

impl std::fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopwatch").field("since", &self.since).finish_non_exhaustive()
    }
}
