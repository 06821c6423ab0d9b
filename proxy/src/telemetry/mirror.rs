//! What became of copies of requests.

use outrigger_base::telemetry::metrics::{Counter, Kind, Labels, MetricSpec, Registry};
use outrigger_model::cluster::ServiceRef;

const NAME: &str = "outrigger_mirrored_requests_total";

pub(super) const METRIC: MetricSpec = MetricSpec {
    name: NAME,
    kind: Kind::Counter,
    help: "Copies of requests for mirrors that are over, by outcome: answered, failed, refused (no endpoint, or a limit), lost (slower than the request).",
    labels: &["destination_service", "destination_namespace", "outcome"],
};

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// All of an answer came.
    Answered,
    /// None came in time, or it broke off.
    Failed,
    /// It was not sent: the mirror has no endpoint, or a limit was reached.
    Refused,
    /// The mirror took it more slowly than the request came.
    Lost,
}

/// The counters of one mirror.
#[derive(Debug, Clone)]
pub struct MirrorMeters([Counter; 4]);

impl MirrorMeters {
    /// Looks the counters up. Off the request path.
    pub fn new(registry: &Registry, service: &ServiceRef) -> Self {
        Self(["answered", "failed", "refused", "lost"].map(|outcome| {
            let labels: Labels = vec![
                ("destination_service", service.name.to_string().into()),
                ("destination_namespace", service.namespace.to_string().into()),
                ("outcome", outcome.into()),
            ];
            registry.counter(NAME, labels)
        }))
    }

    /// Counts a copy that is over.
    pub fn count(&self, outcome: MirrorOutcome) {
        self.0[outcome as usize].increment(1);
    }
}
