//! Who is measured. A further one is a variant and a file that starts it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Process;
use crate::scenario::{Protocol, Scenario};
use crate::site::Site;

mod addresses;
mod certificates;
mod direct;
mod envoy;
mod floor;
mod haproxy;
mod hop;
mod large;
mod nginx;
mod outrigger;
mod peer;
mod programs;
mod yaml;

pub(crate) use large::Door;
pub(crate) use peer::Peer;
pub(crate) use programs::find;
use yaml::Rules;

/// Who stands between load and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Nobody: the load asks the origin itself. What the others add is measured from here.
    Direct,
    /// A byte relay of ours: what the kernel costs, and in a pair mutual TLS.
    Floor,
    /// The mesh, as users run it: control plane, metrics, routes, balancing, limits.
    Outrigger,
    /// The same without the authorization rules that the scenario is about.
    Unguarded,
    /// Envoy 1.40, its configuration bare.
    Envoy,
    /// nginx of Debian, its configuration bare.
    Nginx,
    /// HAProxy of Debian, its configuration bare.
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
    /// What is no part of the measurement: the control plane, and a sidecar that only brings the load.
    beside: Vec<Process>,
    /// Everybody's files.
    dir: TempDir,
}

impl Contender {
    /// Starts everything the scenario needs.
    pub(crate) async fn start(self, scenario: Scenario, site: &Site) -> Result<Running> {
        let dir = directory()?;
        match (self, self.peer()) {
            (_, Some(peer)) => peer::start(peer, scenario, (site, dir)).await,
            (Self::Direct, _) => direct::start(scenario, site, dir).await,
            (Self::Floor, _) => floor::start(scenario, site, dir).await,
            (Self::Unguarded, _) => outrigger::start(scenario, Rules::None, (site, dir)).await,
            _ => outrigger::start(scenario, Rules::of(scenario), (site, dir)).await,
        }
    }

    /// Starts it with the large mesh of a scenario; returns also where the services are that are dialled.
    pub(crate) async fn start_large(self, scenario: Scenario, site: &Site) -> Result<(Running, Vec<Door>)> {
        large::start(self, scenario, (site, directory()?)).await
    }

    /// Whose program it is, when it is somebody else's.
    pub(crate) fn peer(self) -> Option<Peer> {
        match self {
            Self::Envoy => Some(Peer::Envoy),
            Self::Nginx => Some(Peer::Nginx),
            Self::Haproxy => Some(Peer::Haproxy),
            Self::Direct | Self::Floor | Self::Outrigger | Self::Unguarded => None,
        }
    }
}

/// Fails when the program of somebody who takes part is not there: a measurement that lacks one is not begun.
pub(crate) fn ensure_there(scenarios: &[Scenario]) -> Result<()> {
    let contenders = scenarios.iter().flat_map(|scenario| scenario.contenders());
    contenders.filter_map(|contender| contender.peer()).try_for_each(|peer| find(peer).map(drop))?;
    let mut opaque = scenarios.iter().filter(|scenario| scenario.protocol() == Protocol::Tcp);
    if opaque.any(|scenario| scenario.contenders().contains(&Contender::Nginx)) {
        programs::nginx_stream_module()?;
    }
    Ok(())
}

fn directory() -> Result<TempDir> {
    tempfile::Builder::new().prefix("outrigger-bench-").tempdir().context("no temporary directory")
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "no proxy",
            Self::Floor => "byte relay",
            Self::Outrigger => "Outrigger",
            Self::Unguarded => "Outrigger, no rules",
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

    /// The ids of all its processes.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        let all = self.proxies.iter().chain(&self.beside).chain([&self.origin]);
        all.map(Process::pid)
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
        for process in self.proxies.into_iter().chain(self.beside).chain([self.origin]) {
            process.end().await?;
        }
        Ok(())
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.proxies.iter_mut().chain(&mut self.beside).chain([&mut self.origin])
    }
}
