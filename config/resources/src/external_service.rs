//! An ExternalService: a destination outside the mesh.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::field::{self, Misfit};
use crate::object::Meta;

/// A destination outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalService {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: ExternalServiceSpec,
}

/// `ExternalService.spec`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenSpec")]
pub struct ExternalServiceSpec {
    /// The names applications dial, at least one, in lower case without a trailing dot. `*.` and the end of names only with
    /// [`Resolution::Passthrough`].
    pub hosts: Vec<Arc<str>>,
    /// The ports applications dial, at least one.
    pub ports: Vec<ExternalPort>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// The addresses for [`Resolution::Static`], at least one there and none elsewhere.
    pub endpoints: Vec<IpAddr>,
}

/// A port of an [`ExternalService`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalPort {
    /// Its name; may be empty.
    #[serde(default)]
    pub name: String,
    /// The port, never 0.
    #[serde(deserialize_with = "field::port")]
    pub port: u16,
    /// What is spoken; `TCP` unless written.
    #[serde(default)]
    pub protocol: ExternalProtocol,
}

/// What is spoken on an [`ExternalPort`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the words of the resource")]
pub enum ExternalProtocol {
    Http,
    Https,
    Http2,
    Grpc,
    #[default]
    Tcp,
    Tls,
}

/// How the endpoints of an [`ExternalService`] are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum Resolution {
    /// By looking up its hosts.
    #[default]
    #[serde(rename = "DNS")]
    Dns,
    /// They are written down.
    Static,
    /// As the application dialled it: the address goes unchanged, and the name (the one in TLS, or the host of an HTTP
    /// request) only says that it may. Who may not be trusted to tell the truth about names needs another resolution.
    /// Dialled by name alone, through an explicit listener or a backendRef, the name is looked up.
    Passthrough,
}

/// At most so many hosts.
const MAX_HOSTS: usize = 64;
/// At most so many ports.
const MAX_PORTS: usize = 64;
/// At most so many endpoints.
const MAX_ENDPOINTS: usize = 1000;

/// [`ExternalServiceSpec`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSpec {
    #[serde(deserialize_with = "field::one_to::<MAX_HOSTS, _, _>")]
    hosts: Vec<Host>,
    #[serde(deserialize_with = "field::one_to::<MAX_PORTS, _, _>")]
    ports: Vec<ExternalPort>,
    #[serde(default)]
    resolution: Resolution,
    #[serde(default, deserialize_with = "field::addresses")]
    endpoints: Vec<IpAddr>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Host(Arc<str>);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        field::parse_host_pattern(&text).map(Self)
    }
}

impl TryFrom<WrittenSpec> for ExternalServiceSpec {
    type Error = Misfit;

    fn try_from(written: WrittenSpec) -> Result<Self, Misfit> {
        let WrittenSpec { hosts, ports, resolution, endpoints } = written;
        let star = hosts.iter().find(|host| host.0.starts_with('*'));
        if let Some(star) = star.filter(|_| resolution != Resolution::Passthrough) {
            let message =
                format!("{:?} cannot be looked up; write whole names, or resolution: Passthrough", star.0);
            return Err(Misfit::new("hosts", message));
        }
        match (resolution, endpoints.len()) {
            (Resolution::Static, 0) => {
                Err(Misfit::new("endpoints", "missing; resolution Static needs at least one address"))
            }
            (Resolution::Static, count) if count > MAX_ENDPOINTS => Err(Misfit::new(
                "endpoints",
                format!("{count} entries; at most {MAX_ENDPOINTS} are allowed here"),
            )),
            (Resolution::Dns | Resolution::Passthrough, 1..) => {
                Err(Misfit::new("endpoints", "only for resolution Static; remove them or change resolution"))
            }
            _ => {
                let hosts = hosts.into_iter().map(|host| host.0).collect();
                Ok(Self { hosts, ports, resolution, endpoints })
            }
        }
    }
}
