//! The one place where the model meets xDS: resources to and from Envoy's protocol buffers.
//!
//! What is written is understood by an unmodified Envoy and by gRPC's xDS clients; what the standard cannot say
//! travels in typed metadata under [`crate::name::EXTENSION`], which they ignore. Reading is strict: a field that we
//! cannot honour and that changes what traffic does is an error, so that it is refused rather than half applied;
//! purely informative fields are passed over. Everything read is bounded by the constants here. The codec knows
//! nothing of streams, versions and subscriptions.

use std::fmt;

use crate::resource::{Resource, ResourceType};

mod authorization;
mod cluster;
mod endpoints;
mod fault;
mod headers;
mod inbound;
mod jwt;
mod limit;
mod listener;
mod matches;
mod outlier;
mod retry;
mod route;
mod session;
mod share;
mod trust;
mod wire;

pub use envoy_types::pb::google::protobuf::Any;

use fault::{Decoded, Fault};

/// The largest resource that is read, in bytes.
pub const MAX_RESOURCE_BYTES: usize = 4 * 1024 * 1024;
/// The most routes in one route configuration.
pub const MAX_ROUTES: usize = 1_000;
/// The most parts of one kind (header conditions, backends, ...) that all routes of one configuration have together.
pub const MAX_ROUTE_PARTS: usize = 100_000;
/// The most regular expressions in one route configuration; each compiles to at most
/// [`crate::route::MAX_REGEX_BYTES`].
pub const MAX_PATTERNS: usize = 1_000;
/// The most backends of one route, HTTP or opaque.
pub const MAX_BACKENDS: usize = 100;
/// The most names by which the opaque connections of one listener are told apart.
pub const MAX_SERVER_NAMES: usize = 1_000;
/// The most header conditions, and the most query conditions, of one route.
pub const MAX_MATCHES: usize = 64;
/// The most fields that one set of header changes removes, and the most that it sets and adds.
pub const MAX_HEADER_CHANGES: usize = 64;
/// The most mirrors of one route, and of one backend.
pub const MAX_MIRRORS: usize = 16;
/// The most entries of one list of a CORS policy.
pub const MAX_CORS_ENTRIES: usize = 64;
/// The most statuses that one retry policy names.
pub const MAX_RETRY_STATUSES: usize = 512;
/// The most parts of one key that a rate limit counts apart.
pub const MAX_LIMIT_KEYS: usize = 8;
/// The most entries of one descriptor that a rate limit service is told.
pub const MAX_DESCRIPTOR_ENTRIES: usize = 16;
/// The most endpoints of one cluster.
pub const MAX_ENDPOINTS: usize = 10_000;
/// The most zones that one endpoint is meant for (Kubernetes allows 8).
pub const MAX_HINT_ZONES: usize = 16;
/// How many names of a server's certificate are accepted in a cluster (Gateway API: 5, and the host name).
pub const MAX_PEER_NAMES: usize = 16;
/// The largest bundle of authorities of a cluster, in bytes.
pub const MAX_ROOTS_BYTES: usize = 256 * 1024;
/// How many ranges of statuses pass a health check.
pub const MAX_STATUS_RANGES: usize = 16;
/// The most names that one cluster resolves.
pub const MAX_DNS_NAMES: usize = 100;
/// The most ports of one workload that are declared.
pub const MAX_INBOUND_PORTS: usize = 1_000;
/// The most ports that the mesh declares opaque.
pub const MAX_OPAQUE_PORTS: usize = 1_000;
/// The most authorization policies about one workload.
pub const MAX_AUTHORIZATION_POLICIES: usize = 1_000;
/// The most parts (rules, entries of lists) that all authorization policies about one workload have together.
pub const MAX_AUTHORIZATION_PARTS: usize = 100_000;
/// The most names that a claim is nested under.
pub const MAX_CLAIM_DEPTH: usize = 8;
/// The most audiences of a token rule.
pub const MAX_AUDIENCES: usize = 16;
/// The largest set of keys of an issuer of tokens, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 * 1024;
/// The most trust domains that a mesh trusts.
pub const MAX_TRUST_DOMAINS: usize = 64;
/// The most roots of one trust domain.
pub const MAX_TRUST_ROOTS: usize = 64;
/// The longest part of an error text that repeats what was received, in bytes.
pub const MAX_ERROR_TEXT_BYTES: usize = 512;

/// Why a resource cannot be used. Its text is what the other side is told (NACK).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// The type of the resource, `None` when the type itself is unknown.
    pub kind: Option<ResourceType>,
    /// The name of the resource, empty when it could not be read.
    pub name: String,
    /// The field that is wrong, as a path through the message; empty when it is the whole.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.map_or("resource", ResourceType::word))?;
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Writes a resource. The same resource always gives the same bytes.
pub fn encode(resource: &Resource) -> Any {
    match resource {
        Resource::Cluster(cluster) => wire::pack(&cluster::encode(cluster)),
        Resource::Endpoints(endpoints) => wire::pack(&endpoints::encode(endpoints)),
        Resource::Listener(listener) => wire::pack(&listener::encode(listener)),
        Resource::Inbound(inbound) => wire::pack(&inbound::encode(inbound)),
        Resource::Route(routes) => route::pack(routes),
    }
}

/// Reads a resource. Fails on what is malformed, out of bounds, or cannot be honoured.
pub fn decode(any: &Any) -> Result<Resource, DecodeError> {
    let kind = ResourceType::from_url(&any.type_url);
    let mut name = String::new();
    decode_named(kind, any, &mut name).map_err(|fault| DecodeError {
        kind,
        name: fault::shorten(&name),
        field: fault::shorten(&fault.field),
        why: fault::shorten(&fault.why),
    })
}

fn decode_named(kind: Option<ResourceType>, any: &Any, name: &mut String) -> Decoded<Resource> {
    let unknown = || Fault::whole(format!("the type {:?} is not one we know", fault::shorten(&any.type_url)));
    let kind = kind.ok_or_else(unknown)?;
    if any.value.len() > MAX_RESOURCE_BYTES {
        let found = any.value.len();
        return Err(Fault::whole(format!("has {found} bytes, at most {MAX_RESOURCE_BYTES} are read")));
    }
    let resource = match kind {
        ResourceType::Cluster => Resource::Cluster(cluster::decode(any, name)?),
        ResourceType::Endpoints => Resource::Endpoints(endpoints::decode(any, name)?),
        ResourceType::Listener => listener::decode(any, name)?,
        ResourceType::Route => Resource::Route(route::decode(any, name)?),
    };
    Ok(resource)
}

#[cfg(test)]
mod tests;
