//! A MeshConfig: what the whole mesh agrees on. There is one, named [`MESH_CONFIG_NAME`].

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::Meta;

/// The only name a MeshConfig may have.
pub const MESH_CONFIG_NAME: &str = "mesh";

/// Ports that are never looked into unless MeshConfig says otherwise: protocols where the server speaks first.
pub const DEFAULT_OPAQUE_PORTS: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// What the whole mesh agrees on.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfig {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: MeshConfigSpec,
}

/// `MeshConfig.spec`. Its `Default` is a mesh without a MeshConfig.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfigSpec {
    /// The trust domain of every identity: `cluster.local` unless written.
    pub trust_domain: Arc<str>,
    /// Whether workloads let plaintext in: they do unless written.
    pub mtls: Mtls,
    /// Whether destinations that the mesh does not know are let through: they are unless written.
    pub egress: Egress,
    /// The access log; none unless written.
    pub access_log: Option<AccessLog>,
    /// Traces; none unless written.
    pub tracing: Option<Tracing>,
    /// Ports that are never looked into: [`DEFAULT_OPAQUE_PORTS`] unless written.
    pub opaque_ports: BTreeSet<u16>,
}

/// Whether plaintext is let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mtls {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS and plaintext.
    #[default]
    Permissive,
}

/// Whether destinations that the mesh does not know are let through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Egress {
    /// As they are.
    #[default]
    Allow,
    /// Refused.
    Deny,
}

/// The access log of every proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessLog {
    /// `true` unless written.
    pub enabled: bool,
    /// `json` unless written.
    pub format: AccessLogFormat,
}

/// The shape of an access log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// An OTLP collector over gRPC, `http://` or `https://`.
    pub otlp_endpoint: String,
    /// The share of requests that are traced, in percent, 0 to 100: 1 unless written.
    pub sample_percent: f64,
}

impl Default for MeshConfigSpec {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            mtls: Mtls::default(),
            egress: Egress::default(),
            access_log: None,
            tracing: None,
            opaque_ports: DEFAULT_OPAQUE_PORTS.into(),
        }
    }
}
