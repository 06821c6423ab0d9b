//! An ExternalService: a destination outside the mesh.

use std::net::IpAddr;
use std::sync::Arc;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalServiceSpec {
    /// The names applications dial, at least one, in lower case without a trailing dot.
    pub hosts: Vec<Arc<str>>,
    /// The ports applications dial, at least one.
    pub ports: Vec<ExternalPort>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// The addresses for [`Resolution::Static`], at least one there and none elsewhere.
    pub endpoints: Vec<IpAddr>,
}

/// A port of an [`ExternalService`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalPort {
    /// Its name; may be empty.
    pub name: String,
    /// The port, never 0.
    pub port: u16,
    /// What is spoken; `TCP` unless written.
    pub protocol: ExternalProtocol,
}

/// What is spoken on an [`ExternalPort`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// By looking up its hosts.
    #[default]
    Dns,
    /// They are written down.
    Static,
    /// As the application dialled it.
    Passthrough,
}
