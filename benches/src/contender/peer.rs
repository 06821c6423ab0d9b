//! Starts a peer: one process with a bare configuration, or two with mutual TLS between them.
//!
//! Bare means what a measurement needs and nothing that only costs: one worker, no access log, pools and limits that
//! never hold up the load, TLS 1.3 with P-256 certificates and AES-128-GCM. What is not needed is as it is by default.

use std::fs;
use std::path::Path as FilePath;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::addresses::{ANY, endpoints};
use super::certificates;
use super::hop::{Hop, Place, Service};
use super::{Running, envoy, haproxy, nginx, programs};
use crate::origin;
use crate::process::{Process, Program};
use crate::scenario::{Protocol, Scenario};
use crate::site::Site;

/// A proxy of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Envoy 1.40 from PyPI.
    Envoy,
    /// nginx from Debian.
    Nginx,
    /// HAProxy from Debian.
    Haproxy,
}

impl Peer {
    /// Everybody.
    pub(crate) const ALL: [Self; 3] = [Self::Envoy, Self::Nginx, Self::Haproxy];

    /// What its proxies speak between each other when the load speaks this: HTTP/2 where they can, which costs them
    /// least. nginx cannot, towards an upstream.
    pub(super) fn between(self, protocol: Protocol) -> Protocol {
        match (self, protocol) {
            (Self::Envoy | Self::Haproxy, Protocol::Http1) => Protocol::Http2,
            (_, same) => same,
        }
    }

    /// Its configuration of one process.
    pub(super) fn config(self, hop: &Hop<'_>) -> Result<String> {
        Ok(match self {
            Self::Envoy => envoy::config(hop),
            Self::Nginx => nginx::config(hop)?,
            Self::Haproxy => haproxy::config(hop),
        })
    }

    fn args(self, file: &FilePath, dir: &FilePath) -> Vec<String> {
        match self {
            Self::Envoy => envoy::args(file),
            Self::Nginx => nginx::args(file, dir),
            Self::Haproxy => haproxy::args(file),
        }
    }

    /// Writes the configuration, starts the process and waits until it listens.
    async fn start_hop(self, hop: &Hop<'_>, site: &Site) -> Result<Process> {
        // Envoy goes by the ending.
        let file = hop.dir.join(format!("{}.json", hop.name));
        let config = self.config(hop)?;
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let path = programs::find(self)?;
        let args = self.args(&file, hop.dir);
        let program = Program { name: hop.name, path: &path, args, core: site.cores.proxies };
        Process::start_listening(program, hop.dir, hop.listen).await
    }
}

/// Starts everything for a scenario but a large mesh.
pub(super) async fn start(peer: Peer, scenario: Scenario, (site, dir): (&Site, TempDir)) -> Result<Running> {
    let origin = origin::start(&[ANY], scenario.work(), (site, dir.path())).await?;
    let services = [Service { name: "origin.bench".to_owned(), endpoints: vec![origin.address("/http/0")?] }];
    start_with(peer, scenario, (site, dir), (origin, &services)).await
}

/// As [`start`], in front of these services.
pub(super) async fn start_with(
    peer: Peer,
    scenario: Scenario,
    (site, dir): (&Site, TempDir),
    (origin, services): (Process, &[Service]),
) -> Result<Running> {
    let [near, far] = endpoints()?;
    let certificates = certificates::make(dir.path())?;
    let between = [Service { name: "far.bench".to_owned(), endpoints: vec![far] }];
    let place =
        Place { dir: dir.path(), near, far, certificates: &certificates, services, between: &between };
    let mut proxies = Vec::new();
    for hop in Hop::all(peer, (scenario.path(), scenario.protocol()), place) {
        proxies.push(peer.start_hop(&hop, site).await?);
    }
    Ok(Running { entry: near, host: "origin.bench", proxies, origin, beside: Vec::new(), dir })
}

#[cfg(test)]
mod tests;
