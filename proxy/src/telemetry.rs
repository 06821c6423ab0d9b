//! What the data path says of itself: request and connection metrics, and the access log.
//!
//! Labels are configured names, enums and status codes, interned to small numbers when configuration is linked or a
//! connection is accepted. A request is recorded once, when it is over, through handles its worker has looked up before.

use std::sync::Arc;
use std::time::Duration;

use outrigger_base::telemetry::access_log::Writer;
use outrigger_base::telemetry::metrics::{Kind, MetricSpec, Registry};
use outrigger_model::cluster::ServiceRef;
use outrigger_model::endpoint::Endpoint;
use outrigger_model::identity::SpiffeId;

mod access_log;
mod connection;
mod labels;
mod mirror;
mod request;

pub use connection::{ConnectionHandles, TcpLabels, TcpRecord};
pub use labels::{LABELS_MAX, Name};
pub use mirror::{MirrorMeters, MirrorOutcome};
pub use request::{RequestLine, RequestRecord};

use labels::Labels;
pub use request::LocalTelemetry;

const REQUEST_LABELS: &[&str] = &[
    "direction",
    "source_workload",
    "source_namespace",
    "source_identity",
    "destination_service",
    "destination_workload",
    "destination_namespace",
    "destination_identity",
    "route",
    "protocol",
    "status",
    "grpc_status",
    "reason",
    "security",
];

const CONNECTION_LABELS: &[&str] = &[
    "direction",
    "source_workload",
    "source_namespace",
    "source_identity",
    "destination_service",
    "destination_workload",
    "destination_namespace",
    "destination_identity",
    "reason",
    "security",
];

const fn spec(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricSpec {
    MetricSpec { name, kind, help, labels }
}

/// The metrics of this module.
pub const METRICS: &[MetricSpec] = &[
    spec("outrigger_requests_total", Kind::Counter, "Requests that are over.", REQUEST_LABELS),
    spec(
        "outrigger_request_duration_seconds",
        Kind::Histogram,
        "From the request head to the end of the response.",
        REQUEST_LABELS,
    ),
    spec(
        "outrigger_tcp_connections_opened_total",
        Kind::Counter,
        "Opaque connections opened.",
        CONNECTION_LABELS,
    ),
    spec(
        "outrigger_tcp_connections_closed_total",
        Kind::Counter,
        "Opaque connections closed.",
        CONNECTION_LABELS,
    ),
    spec(
        "outrigger_tcp_sent_bytes_total",
        Kind::Counter,
        "Bytes sent to the one who connected.",
        CONNECTION_LABELS,
    ),
    spec(
        "outrigger_tcp_received_bytes_total",
        Kind::Counter,
        "Bytes received from the one who connected.",
        CONNECTION_LABELS,
    ),
    mirror::METRIC,
];

/// Metrics and access log, shared by all threads.
pub struct Telemetry {
    registry: Arc<Registry>,
    labels: Labels,
    me: Name,
    access_log: Writer,
}

/// Which way traffic goes, seen from the local application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Towards it.
    Inbound,
    /// From it.
    Outbound,
}

/// How the hop over the network was protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Mutual TLS.
    Mtls,
    /// TLS to a server outside the mesh, which was verified; it does not know us.
    Tls,
    /// Nothing.
    Plaintext,
}

impl Telemetry {
    /// Declares the metrics. `me` is the workload this proxy stands beside.
    pub fn new(registry: Arc<Registry>, me: Name, access_log: Writer) -> Self {
        registry.declare(METRICS);
        Self { registry, labels: Labels::default(), me, access_log }
    }

    /// The registry behind `/metrics`.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The workload this proxy stands beside.
    pub fn me(&self) -> &Name {
        &self.me
    }

    /// The number of a plain text label. Off the request path: takes a lock.
    pub fn label(&self, text: &str) -> u32 {
        self.labels.intern(Name { name: text.into(), ..Name::default() })
    }

    /// The number of a service. Off the request path.
    pub fn service_label(&self, service: &ServiceRef) -> u32 {
        let name = Name {
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            identity: Arc::default(),
        };
        self.labels.intern(name)
    }

    /// The number of an endpoint's workload. Off the request path.
    pub fn endpoint_label(&self, endpoint: &Endpoint) -> u32 {
        let identity = endpoint.identity.as_ref().map(SpiffeId::shared).unwrap_or_default();
        let workload = &endpoint.workload;
        self.labels.intern(Name {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            identity,
        })
    }

    /// The number of an authenticated peer. Once a connection.
    pub fn peer_label(&self, peer: &SpiffeId) -> u32 {
        let namespace = peer.namespace().into();
        self.labels.intern(Name { name: Arc::default(), namespace, identity: peer.shared() })
    }

    /// The text of a number.
    pub fn name(&self, label: u32) -> Name {
        self.labels.name(label)
    }
}

impl Way {
    /// The word in labels and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Protection {
    /// The word in labels and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
