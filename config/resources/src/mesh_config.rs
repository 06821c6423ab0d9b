//! A MeshConfig: what the whole mesh agrees on. There is one, named [`MESH_CONFIG_NAME`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};

use x509_parser::pem::Pem;

use crate::field;
use crate::object::Meta;

/// The only name a MeshConfig may have.
pub const MESH_CONFIG_NAME: &str = "mesh";

/// The most trust domains with roots of their own, beside that of the mesh.
pub const MAX_TRUST_BUNDLES: usize = 32;
/// The most roots of one of them.
pub const MAX_BUNDLE_ROOTS: usize = 16;

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
    /// Roots of other trust domains, and more of the own one; none unless written.
    #[serde(deserialize_with = "trust_bundles")]
    pub trust_bundles: Vec<TrustBundle>,
}

/// The roots of a trust domain (SPIFFE Trust Domain and Bundle, section 4).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustBundle {
    /// Whose identities they may sign. The own trust domain gets these roots beside those of the control plane.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: Arc<str>,
    /// Certificates in DER, at least one; written as PEM.
    #[serde(deserialize_with = "certificates")]
    pub certificates: Vec<Arc<[u8]>>,
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
            trust_bundles: Vec::new(),
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

fn trust_bundles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrustBundle>, D::Error> {
    let bundles: Vec<TrustBundle> = field::up_to::<MAX_TRUST_BUNDLES, _, _>(deserializer)?;
    let mut seen = BTreeSet::new();
    match bundles.iter().find(|bundle| !seen.insert(&bundle.trust_domain)) {
        None => Ok(bundles),
        Some(twice) => Err(D::Error::custom(format!(
            "{} is here twice; write all of its roots into one entry",
            twice.trust_domain
        ))),
    }
}

/// Roots in PEM, each the certificate of an authority.
fn certificates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<[u8]>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem =
            pem.map_err(|_| D::Error::custom("is not PEM; copy the roots with their BEGIN and END lines"))?;
        let place = found.len() + 1;
        if place > MAX_BUNDLE_ROOTS {
            return Err(D::Error::custom(format!("has more than {MAX_BUNDLE_ROOTS} certificates")));
        }
        let is_authority = pem.label == "CERTIFICATE" && pem.parse_x509().is_ok_and(|parsed| parsed.is_ca());
        if !is_authority {
            return Err(D::Error::custom(format!(
                "certificate {place} is not that of an authority (CA:TRUE); write the roots of the trust domain"
            )));
        }
        found.push(pem.contents.into());
    }
    match found.is_empty() {
        true => Err(D::Error::custom("has no certificate; write the roots of the trust domain as PEM")),
        false => Ok(found),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of `everything.yaml`.
    const ROOT: &str = "-----BEGIN CERTIFICATE-----\n\
                        MIIBhjCCASygAwIBAgITFLl+za6rRL/sthPW/tfWVq/inDAKBggqhkjOPQQDAjAQ\n\
                        MQ4wDAYDVQQKDAVPdGhlcjAgFw0yNjExMjEyMDUzMDlaGA8yMTI2MTAyODIwNTMw\n\
                        OVowEDEOMAwGA1UECgwFT3RoZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATS\n\
                        +OxYGv7KL6ZmLflG0WjVI9cJsLV5P8Lv/Bg+Qjl65iE1Bbn7jmAWpZyrmY25cSfN\n\
                        SUjabU3/0eW6tZOR7Bx1o2MwYTAdBgNVHQ4EFgQUOX1e6tVDv/aEZPXSzcVIEbsM\n\
                        s8YwHwYDVR0jBBgwFoAUOX1e6tVDv/aEZPXSzcVIEbsMs8YwDwYDVR0TAQH/BAUw\n\
                        AwEB/zAOBgNVHQ8BAf8EBAMCAQYwCgYIKoZIzj0EAwIDSAAwRQIgT+pf8JfuS7l2\n\
                        Kwe8kI6Iky9eNSPgcmvxpuzlfGaId84CIQD8HOEPJaIMcPy/qhML5pmoh7P2gcP6\n\
                        +1TWvjdjVH9EQQ==\n\
                        -----END CERTIFICATE-----\n";

    fn bundles(written: &[(&str, &str)]) -> Result<Vec<TrustBundle>, String> {
        let list: Vec<_> = written
            .iter()
            .map(|(domain, pem)| serde_json::json!({"trustDomain": domain, "certificates": pem}))
            .collect();
        let spec = serde_json::json!({"trustBundles": list});
        serde_json::from_value::<MeshConfigSpec>(spec)
            .map(|spec| spec.trust_bundles)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn roots_of_other_trust_domains_are_read() {
        let read = bundles(&[("other.example", &ROOT.repeat(2)), ("third.example", ROOT)]).unwrap();
        assert_eq!((read.len(), read[0].certificates.len(), &*read[1].trust_domain), (2, 2, "third.example"));
        assert_eq!(read[0].certificates[0], read[1].certificates[0]);
    }

    #[test]
    fn what_is_no_root_is_refused_with_what_to_write() {
        let garbled = ROOT.replace("MIIB", "MIIC");
        let too_many = ROOT.repeat(MAX_BUNDLE_ROOTS + 1);
        for (written, why) in [
            (vec![("other.example", "")], "has no certificate"),
            (vec![("other.example", "hello")], "PEM"),
            (vec![("other.example", garbled.as_str())], "certificate 1 is not that of an authority"),
            (vec![("other.example", too_many.as_str())], "more than 16"),
            (vec![("Other Example", ROOT)], "trust domain"),
            (vec![("other.example", ROOT), ("other.example", ROOT)], "twice"),
        ] {
            let said = bundles(&written).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
    }
}
