//! Who is measured. A further one is a variant and a file that starts it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Process;
use crate::scenario::Scenario;
use crate::site::Site;

mod addresses;
mod certificates;
mod direct;
mod envoy;
mod floor;
mod haproxy;
mod hop;
mod nginx;
mod outrigger;
mod peer;
mod programs;
mod yaml;

pub(crate) use peer::Peer;
pub(crate) use programs::find;

/// Who stands between load and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Nobody: the load asks the origin itself. What the others add is measured from here.
    Direct,
    /// A byte relay of ours: what the kernel costs, and in a pair mutual TLS.
    Floor,
    /// The mesh, as users run it: control plane, metrics, routes, balancing, limits.
    Outrigger,
    Envoy,
    Nginx,
    Haproxy,
}

/// A contender that runs, with its origin.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where the load goes in.
    pub(crate) entry: SocketAddr,
    /// What the load calls the origin.
    pub(crate) host: &'static str,
    /// The processes under test.
    proxies: Vec<Process>,
    origin: Process,
    /// What configures the proxies; it has no part in the traffic.
    control_plane: Option<Process>,
    /// Everybody's files.
    dir: TempDir,
}

impl Contender {
    /// Starts everything the scenario needs.
    pub(crate) async fn start(self, scenario: Scenario, site: &Site) -> Result<Running> {
        let dir = tempfile::Builder::new()
            .prefix("outrigger-bench-")
            .tempdir()
            .context("no temporary directory")?;
        match self {
            Self::Direct => direct::start(scenario, site, dir).await,
            Self::Floor => floor::start(scenario, site, dir).await,
            Self::Outrigger => outrigger::start(scenario, site, dir).await,
            Self::Envoy => peer::start(Peer::Envoy, scenario, (site, dir)).await,
            Self::Nginx => peer::start(Peer::Nginx, scenario, (site, dir)).await,
            Self::Haproxy => peer::start(Peer::Haproxy, scenario, (site, dir)).await,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "no proxy",
            Self::Floor => "byte relay",
            Self::Outrigger => "Outrigger",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        })
    }
}

impl Running {
    /// The ids of the processes under test.
    pub(crate) fn proxy_pids(&self) -> impl Iterator<Item = u32> {
        self.proxies.iter().map(Process::pid)
    }

    /// The id of the origin.
    pub(crate) fn origin_pid(&self) -> u32 {
        self.origin.pid()
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Fails when one of its processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes().try_for_each(Process::check)
    }

    /// Ends all of it; the machine is free afterwards.
    pub(crate) async fn end(self) -> Result<()> {
        for process in self.proxies.into_iter().chain(self.control_plane).chain([self.origin]) {
            process.end().await?;
        }
        Ok(())
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.proxies.iter_mut().chain(&mut self.control_plane).chain([&mut self.origin])
    }
}
