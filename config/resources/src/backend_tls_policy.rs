//! A BackendTLSPolicy of Gateway API: clients start TLS towards a Service, and this is who must answer.

use std::sync::Arc;

use serde::Deserialize;

use crate::field::{self, Misfit};
use crate::object::Meta;
use crate::route::TargetRef;

/// TLS towards a destination whose endpoints have no sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What it is about, at least one.
    pub target_refs: Vec<TargetRef>,
    /// Who must answer; what is wrong with it otherwise. A policy that cannot be understood still says that there must be
    /// TLS, so it stays an object, and connections fail.
    pub validation: Result<Validation, Arc<str>>,
}

/// `BackendTLSPolicy.spec.validation`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenValidation")]
pub struct Validation {
    /// Who may sign the server's certificate.
    pub authorities: Authorities,
    /// The name sent to the server; its certificate must be for it unless `names` says otherwise.
    pub hostname: Arc<str>,
    /// The certificate must be for one of these; empty is `hostname`.
    pub names: Vec<SubjectAltName>,
}

/// Who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those the host of the client trusts.
    System,
    /// Those in these objects of the policy's namespace, at least one.
    Refs(Vec<AuthorityRef>),
}

/// An object that holds certificates of authorities, in its key `ca.crt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityRef {
    /// Its API group, empty for a ConfigMap.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: Arc<str>,
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "WrittenName")]
pub enum SubjectAltName {
    /// A host name, perhaps with `*` as its first label.
    Hostname(Arc<str>),
    /// A URI.
    Uri(Arc<str>),
}

/// At most so many references (Gateway API).
const MAX_REFS: usize = 8;
/// At most so many names (Gateway API).
const MAX_NAMES: usize = 5;

#[derive(Deserialize)]
enum WellKnown {
    System,
}

/// [`Validation`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenValidation {
    #[serde(default, deserialize_with = "field::up_to::<MAX_REFS, _, _>")]
    ca_certificate_refs: Vec<AuthorityRef>,
    #[serde(rename = "wellKnownCACertificates")]
    well_known: Option<WellKnown>,
    hostname: String,
    #[serde(default, deserialize_with = "field::up_to::<MAX_NAMES, _, _>")]
    subject_alt_names: Vec<SubjectAltName>,
}

impl TryFrom<WrittenValidation> for Validation {
    type Error = Misfit;

    fn try_from(written: WrittenValidation) -> Result<Self, Misfit> {
        let authorities = match (written.well_known, written.ca_certificate_refs) {
            (Some(WellKnown::System), refs) if refs.is_empty() => Authorities::System,
            (None, refs) if !refs.is_empty() => Authorities::Refs(refs),
            _ => {
                let message = "write either caCertificateRefs or wellKnownCACertificates: System";
                return Err(Misfit::new("caCertificateRefs", message));
            }
        };
        let hostname =
            field::parse_host(&written.hostname).map_err(|message| Misfit::new("hostname", message))?;
        Ok(Self { authorities, hostname, names: written.subject_alt_names })
    }
}

#[derive(Deserialize)]
enum NameType {
    Hostname,
    #[serde(rename = "URI")]
    Uri,
}

/// [`SubjectAltName`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenName {
    #[serde(rename = "type")]
    type_: NameType,
    hostname: Option<String>,
    uri: Option<String>,
}

impl TryFrom<WrittenName> for SubjectAltName {
    type Error = Misfit;

    fn try_from(written: WrittenName) -> Result<Self, Misfit> {
        match (written.type_, written.hostname, written.uri) {
            (NameType::Hostname, Some(name), None) => {
                let host = field::parse_host(name.strip_prefix("*.").unwrap_or(&name));
                host.map_err(|message| Misfit::new("hostname", message))?;
                Ok(Self::Hostname(name.to_ascii_lowercase().into()))
            }
            (NameType::Uri, None, Some(uri)) if uri.contains("://") => Ok(Self::Uri(uri.into())),
            (NameType::Hostname, ..) => Err(Misfit::new("hostname", "write it, and no uri, for Hostname")),
            (NameType::Uri, ..) => {
                Err(Misfit::new("uri", "write one with a scheme, and no hostname, for URI"))
            }
        }
    }
}

/// `spec.targetRefs`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Targets(
    #[serde(deserialize_with = "field::one_to::<MAX_TARGETS, _, _>")] pub(crate) Vec<TargetRef>,
);

/// At most so many targets (Gateway API).
const MAX_TARGETS: usize = 16;
