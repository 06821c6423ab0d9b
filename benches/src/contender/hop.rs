//! One proxy process of a peer, as its configuration needs to know it. Each peer writes this in its own language.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use super::certificates::Certificates;
use super::peer::Peer;
use crate::scenario::{Path, Protocol};

/// What one proxy process does: takes connections, and sends what comes to a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop<'a> {
    /// What it is called in the names of its files.
    pub(super) name: &'static str,
    /// Where files may be put.
    pub(super) dir: &'a FilePath,
    pub(super) listen: SocketAddr,
    pub(super) downstream: Wire<'a>,
    pub(super) upstream: Wire<'a>,
    /// Whom it sends to. When there are several, the `Host` of a request says which by its name.
    pub(super) services: &'a [Service],
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) protocol: Protocol,
    /// With them it is mutual TLS.
    pub(super) tls: Option<&'a Certificates>,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) endpoints: Vec<SocketAddr>,
}

/// Where the processes of a path listen, and what they use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: &'a FilePath,
    /// Of the process the load talks to.
    pub(super) near: SocketAddr,
    /// Of the second process of a pair.
    pub(super) far: SocketAddr,
    pub(super) certificates: &'a [Certificates; 2],
    pub(super) services: &'a [Service],
    /// Where the near process of a pair sends to: the far one.
    pub(super) between: &'a [Service],
}

impl<'a> Hop<'a> {
    /// The processes of a path, in the order in which they are started: the one the load talks to is the last.
    pub(super) fn all(peer: Peer, (path, protocol): (Path, Protocol), place: Place<'a>) -> Vec<Self> {
        let plain = Wire { protocol, tls: None };
        let near = Self {
            name: "near",
            dir: place.dir,
            listen: place.near,
            downstream: plain,
            upstream: plain,
            services: place.services,
        };
        let [near_tls, far_tls] = place.certificates;
        let between = |tls| Wire { protocol: peer.between(protocol), tls: Some(tls) };
        match path {
            Path::OneHop => vec![near],
            Path::Pair => vec![
                Self { name: "far", listen: place.far, downstream: between(far_tls), ..near },
                Self { upstream: between(near_tls), services: place.between, ..near },
            ],
        }
    }
}
