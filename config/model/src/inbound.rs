//! How one workload receives traffic, and what the whole mesh agrees on.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::authorization::Authorization;
use crate::endpoint::Locality;
use crate::filter::RateLimit;
use crate::jwt::JwtRule;
use crate::trust::Trust;

/// The resource named [`crate::name::INBOUND`], made for one proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// Whether plaintext is let in.
    pub mtls: MtlsMode,
    /// What is known of the ports others dial; a port that is not listed is detected.
    pub ports: Vec<InboundPort>,
    /// What the whole mesh agrees on.
    pub mesh: MeshSettings,
    /// How much is let in; `None` is no limit.
    pub limits: Option<Box<InboundLimits>>,
    /// A policy that holds here and that this version cannot apply: while it is there nothing is let in.
    pub closed_by: Option<Arc<str>>,
    /// Where the proxy runs, as far as the control plane knows; for a proxy that was not told itself.
    pub locality: Locality,
    /// Who may call; `None` is anybody.
    pub authorization: Option<Box<Authorization>>,
    /// What tokens requests must carry; `None` is none.
    pub jwt: Option<Box<JwtRule>>,
    /// Whose certificates are believed; `None` is as the proxy was told when it started.
    pub trust: Option<Arc<Trust>>,
}

impl Inbound {
    /// Without ports, settings and limits of its own.
    pub fn plain(mtls: MtlsMode) -> Self {
        Self {
            mtls,
            ports: Vec::new(),
            mesh: MeshSettings::default(),
            limits: None,
            closed_by: None,
            locality: Locality::default(),
            authorization: None,
            jwt: None,
            trust: None,
        }
    }
}

/// How much a workload is given at most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InboundLimits {
    /// Requests in time.
    pub rate: Option<RateLimit>,
    /// Requests at once.
    pub concurrency: Option<ConcurrencyLimit>,
    /// Which requests are refused first; without it all are equal.
    pub priorities: Option<Priorities>,
}

/// Requests that are under way at once. Between `min` and `max` the proxy finds out itself how many the application
/// takes without making them wait; the limit stands still where both are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// Where it was written.
    pub name: Arc<str>,
    /// It never falls below this, at least 1.
    pub min: u32,
    /// It never rises above this.
    pub max: u32,
}

/// Classes of requests: 0 is served longest, the last is refused first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priorities {
    /// The request header whose value is the class, as a number.
    pub header: HeaderName,
    /// How many classes there are, 1 to [`MAX_CLASSES`]. A larger number in the header means the last.
    pub classes: u8,
    /// The class of requests without the header, and of those whose header is no number; below `classes`.
    pub default: u8,
}

/// The most classes there are.
pub const MAX_CLASSES: u8 = 8;

impl Priorities {
    /// The class of a request.
    pub fn class_of(&self, headers: &HeaderMap) -> u8 {
        let written = headers.get(&self.header).and_then(|value| value.to_str().ok());
        let class = written.and_then(|value| value.trim().parse::<u8>().ok());
        class.map_or(self.default, |class| class.min(self.classes - 1))
    }
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_class_is_a_number_in_a_header_and_the_last_is_the_lowest() {
        let priorities = Priorities { header: HeaderName::from_static("x-priority"), classes: 4, default: 1 };
        let table =
            [("0", 0), (" 2 ", 2), ("3", 3), ("4", 3), ("255", 3), ("256", 1), ("-1", 1), ("high", 1)];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("x-priority", HeaderValue::from_static(value));
            assert_eq!(priorities.class_of(&headers), expected, "{value:?}");
        }
        assert_eq!(priorities.class_of(&HeaderMap::new()), 1);
    }
}
