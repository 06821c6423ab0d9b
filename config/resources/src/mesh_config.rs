//! A MeshConfig: what the whole mesh agrees on. There is one, named [`MESH_CONFIG_NAME`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};

use crate::field;
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
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshConfigSpec {
    /// The trust domain of every identity: `cluster.local` unless written.
    #[serde(deserialize_with = "trust_domain")]
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
    #[serde(deserialize_with = "field::port_set")]
    pub opaque_ports: BTreeSet<u16>,
}

/// Whether plaintext is let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Mtls {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS and plaintext.
    #[default]
    Permissive,
}

/// Whether destinations that the mesh does not know are let through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Egress {
    /// As they are.
    #[default]
    Allow,
    /// Refused.
    Deny,
}

/// The access log of every proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// `true` unless written.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
    /// `json` unless written.
    #[serde(default)]
    pub format: AccessLogFormat,
}

/// The shape of an access log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// An OTLP collector over gRPC, `http://` or `https://`.
    #[serde(deserialize_with = "endpoint")]
    pub otlp_endpoint: String,
    /// The share of requests that are traced, in percent, 0 to 100: 1 unless written.
    #[serde(default = "default_sample_percent", deserialize_with = "field::percent")]
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

fn default_enabled() -> bool {
    true
}

fn default_sample_percent() -> f64 {
    1.0
}

fn trust_domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    let name = String::deserialize(deserializer)?;
    field::check_trust_domain(&name).map_err(D::Error::custom)?;
    Ok(name.into())
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<http::Uri>().ok();
    let usable =
        parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    let hint = "write one like http://otel-collector:4317";
    usable
        .map(|_| text.clone())
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not an address; {hint}")))
}
