//! How one workload receives traffic, and what the whole mesh agrees on.

use std::sync::Arc;

/// The resource named [`crate::name::INBOUND`], made for one proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// Whether plaintext is let in.
    pub mtls: MtlsMode,
    /// What is known of the ports others dial; a port that is not listed is detected.
    pub ports: Vec<InboundPort>,
    /// What the whole mesh agrees on.
    pub mesh: MeshSettings,
}

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MtlsMode {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS and plaintext.
    Permissive,
}

/// A port of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPort {
    /// The port others dial.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The Service that has this port, for telemetry; empty when there is none.
    pub service: Arc<str>,
}

/// What a port speaks, as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Not declared: by what the client sends.
    Detect,
    /// HTTP/1.1 (and WebSocket).
    Http1,
    /// HTTP/2 and gRPC.
    Http2,
    /// Bytes, including TLS of the application's own.
    Opaque,
}

/// `MeshConfig`, as far as proxies need it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshSettings {
    /// The trust domain of this mesh.
    pub trust_domain: Arc<str>,
    /// What happens to destinations the mesh does not know.
    pub egress: Egress,
    /// Ports that are never looked into, in ascending order.
    pub opaque_ports: Vec<u16>,
    /// Access log, `None` is off.
    pub access_log: Option<AccessLogFormat>,
}

/// What happens to destinations the mesh does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Passed through as they are.
    Allow,
    /// Refused.
    Deny,
}

/// The shape of an access log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            egress: Egress::Allow,
            opaque_ports: vec![25, 587, 3306, 4444, 5432, 6379, 9300, 11211],
            access_log: None,
        }
    }
}
