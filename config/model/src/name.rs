//! Names on the wire: destinations (`host:port`, `ip:port`) and clusters (`outbound|<port>|<host>`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// The name of the one listener that says how a workload receives traffic (contracts, section 4).
pub const INBOUND: &str = "inbound";

/// The key under which our own messages travel in `typed_filter_metadata`; other clients ignore it.
pub const EXTENSION: &str = "outrigger.dev";

/// Clusters whose name starts so stand for a backend that cannot be used; the rest of the name says which and why.
pub const INVALID_CLUSTER: &str = "invalid|";

/// The longest host we accept, in bytes (RFC 1035, section 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;

/// What an application dials: a host or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Lower-case host name without a trailing dot, or an address.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

/// The host part of a [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(Arc<str>),
    /// An address.
    Address(IpAddr),
}

/// Why a text names no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not host:port or ip:port: {why}")]
pub struct DestinationError {
    text: String,
    why: &'static str,
}

impl Destination {
    /// A destination by address.
    pub fn address(address: SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port() }
    }

    /// The address and port to dial, when it is not known by name.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Address(address) => Some(SocketAddr::new(*address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The name of the cluster that carries traffic to this destination.
    pub fn cluster_name(&self) -> String {
        format!("outbound|{}|{}", self.port, self.host)
    }

    /// Reads a cluster name back.
    pub fn from_cluster_name(name: &str) -> Option<Self> {
        let (port, host) = name.strip_prefix("outbound|")?.split_once('|')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some(Self { host: Host::parse(host).ok()?, port })
    }
}

impl Host {
    /// Parses a host as it stands in a cluster name: no port, no brackets around IPv6.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_HOST_BYTES {
            return Err("a host has 1 to 253 characters");
        }
        if !name.bytes().all(allowed) || name.split('.').any(str::is_empty) {
            return Err("a host is made of letters, digits, '-', '_' and single dots");
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why| DestinationError { text: text.to_owned(), why };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("the port is missing"))?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| error("the port is a number from 1 to 65535"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) => Host::Address(IpAddr::V6(v6.parse().map_err(|_| error("not an IPv6 address"))?)),
            None => Host::parse(host).map_err(error)?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_written() {
        for (text, shown, cluster) in [
            ("reviews.shop:9080", "reviews.shop:9080", "outbound|9080|reviews.shop"),
            ("Reviews.Shop.:9080", "reviews.shop:9080", "outbound|9080|reviews.shop"),
            ("10.0.0.1:80", "10.0.0.1:80", "outbound|80|10.0.0.1"),
            ("[fd00::1]:80", "[fd00::1]:80", "outbound|80|fd00::1"),
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.to_string(), shown);
            assert_eq!(destination.cluster_name(), cluster);
            assert_eq!(destination.socket_address(), shown.parse().ok());
            assert_eq!(Destination::from_cluster_name(cluster), Some(destination));
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in
            ["", "reviews", "reviews:", ":80", "reviews:0", "reviews:65536", "a b:80", "a..b:80", "[::1:80"]
        {
            assert!(text.parse::<Destination>().is_err(), "{text:?} was accepted");
        }
    }
}
