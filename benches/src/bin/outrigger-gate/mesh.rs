//! The mesh around the sidecar that is looked at: control plane, origin, and in a pair the other sidecar, all as users run
//! them.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::callgrind::{self, Profiled};
use crate::child::{self, Child};
use crate::origin::Origin;
use crate::scenario::{Place, Protocol, Scenario};

/// The service, as its clients call it.
pub(crate) const SERVICE: &str = "origin.gate";
/// Its port.
pub(crate) const SERVICE_PORT: u16 = 9080;
/// The namespace of everything.
const NAMESPACE: &str = "gate";
/// Any free port of the loopback address.
const ANY: &str = "127.0.0.1:0";
/// Endpoints of the service: two, so that balancing has something to choose from.
const ENDPOINTS: usize = 2;
/// Networks that are looked through for free addresses: 127.x.0.0/24 above what people and tests use.
const NETWORKS: std::ops::Range<u8> = 200..240;

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) outrigger: PathBuf,
    pub(crate) proxy: PathBuf,
}

/// Everything that runs for one count. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Mesh {
    entry: SocketAddr,
    profiled: Profiled,
    _children: Vec<Child>,
    _origin: Origin,
    _dir: TempDir,
}

/// What starting sidecars needs.
struct Starter<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    xds: SocketAddr,
}

/// A sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sidecar {
    Client,
    Server,
}

impl Mesh {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(scenario: Scenario, programs: &Programs) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("outrigger-gate-").tempdir().context("no temporary directory")?;
        let mut listeners = free_listeners().await?;
        let endpoints = addresses(&listeners)?;
        let control_plane = start_control_plane(scenario, &endpoints, (programs, dir.path())).await?;
        let starter = Starter { programs, dir: dir.path(), xds: control_plane.address("/xds")? };
        let mut children = vec![control_plane];
        let origin = if scenario.place() == Place::Alone {
            Origin::start(listeners, scenario)
        } else {
            // The endpoints are the sidecar's; the application is behind it.
            listeners.clear();
            let application = TcpListener::bind(ANY).await.context("no free port")?;
            let inbound = inbound(&endpoints, application.local_addr()?);
            children.push(starter.start(Sidecar::Server, inbound, scenario).await?);
            Origin::start(vec![application], scenario)
        };
        let outbound = vec!["--outbound".into(), format!("{ANY}={SERVICE}:{SERVICE_PORT}").into()];
        let client = starter.start(Sidecar::Client, outbound, scenario).await?;
        let entry = client.address("/outbound/0")?;
        children.push(client);
        let profiled = profiled(scenario, &children, dir.path())?;
        Ok(Self { entry, profiled, _children: children, _origin: origin, _dir: dir })
    }

    /// Where requests go in.
    pub(crate) fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// The sidecar that is looked at.
    pub(crate) fn profiled(&self) -> &Profiled {
        &self.profiled
    }
}

impl Sidecar {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client-sidecar",
            Self::Server => "server-sidecar",
        }
    }

    fn service_account(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "origin",
        }
    }

    fn is_profiled(self, scenario: Scenario) -> bool {
        (self == Self::Server) == (scenario.place() == Place::Server)
    }
}

impl Starter<'_> {
    async fn start(&self, sidecar: Sidecar, listeners: Vec<OsString>, scenario: Scenario) -> Result<Child> {
        let mut words = Vec::new();
        if sidecar.is_profiled(scenario) {
            words = callgrind::prefix(self.dir, sidecar.name());
        }
        words.extend([self.programs.proxy.clone().into(), "run".into()]);
        let flags: [(&str, OsString); 9] = [
            ("--control-plane", format!("http://{}", self.xds).into()),
            ("--namespace", NAMESPACE.into()),
            ("--service-account", sidecar.service_account().into()),
            ("--workload", sidecar.name().into()),
            ("--token-file", self.token(sidecar).await?.into()),
            ("--workers", "1".into()),
            ("--admin", ANY.into()),
            ("--metrics", ANY.into()),
            ("--health", ANY.into()),
        ];
        words.extend(flags.into_iter().flat_map(|(flag, value)| [flag.into(), value]));
        words.extend(listeners);
        Child::start(sidecar.name(), words, self.dir).await
    }

    /// Makes a token as a person would, and returns its file.
    async fn token(&self, sidecar: Sidecar) -> Result<PathBuf> {
        let mut words: Vec<OsString> = vec![self.programs.outrigger.clone().into()];
        words.extend(["token", "create", "--namespace", NAMESPACE].map(Into::into));
        words.extend(["--service-account", sidecar.service_account(), "--data"].map(Into::into));
        words.push(self.dir.join("data").into());
        let output =
            child::command(&words)?.output().await.context("cannot start `outrigger token create`")?;
        if !output.status.success() {
            bail!("`outrigger token create` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let file = self.dir.join(format!("{}.token", sidecar.name()));
        fs::write(&file, output.stdout).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

fn profiled(scenario: Scenario, children: &[Child], dir: &Path) -> Result<Profiled> {
    let sidecar = if scenario.place() == Place::Server { Sidecar::Server } else { Sidecar::Client };
    let child = children.iter().find(|child| child.name() == sidecar.name());
    let child = child.with_context(|| format!("{} was not started", sidecar.name()))?;
    Ok(Profiled::new(child.pid()?, dir, sidecar.name()))
}

async fn start_control_plane(
    scenario: Scenario,
    endpoints: &[SocketAddr],
    (programs, dir): (&Programs, &Path),
) -> Result<Child> {
    let config = dir.join("config");
    let written =
        fs::create_dir(&config).and_then(|()| fs::write(config.join("mesh.yaml"), yaml(scenario, endpoints)));
    written.with_context(|| format!("cannot write to {}", config.display()))?;
    let mut words: Vec<OsString> = vec![programs.outrigger.clone().into(), "run".into()];
    words.extend(["--xds", ANY, "--http", ANY].map(Into::into));
    words.extend(["--config".into(), config.into(), "--data".into(), dir.join("data").into()]);
    Child::start("control-plane", words, dir).await
}

fn inbound(endpoints: &[SocketAddr], application: SocketAddr) -> Vec<OsString> {
    let flag = |endpoint: &SocketAddr| ["--inbound".into(), format!("{endpoint}={application}").into()];
    endpoints.iter().flat_map(flag).collect()
}

/// Listeners at addresses that nobody else has: configuration names them before their owner listens.
async fn free_listeners() -> Result<Vec<TcpListener>> {
    for network in NETWORKS {
        let mut listeners = Vec::new();
        for host in 1..=ENDPOINTS as u8 {
            listeners
                .extend(TcpListener::bind((Ipv4Addr::new(127, network, 0, host), SERVICE_PORT)).await.ok());
        }
        if listeners.len() == ENDPOINTS {
            return Ok(listeners);
        }
    }
    bail!(
        "no free loopback addresses: 127.x.0.1 and 127.x.0.2 with port {SERVICE_PORT}, for x in {NETWORKS:?}"
    )
}

fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>> {
    let addresses: Result<_, _> = listeners.iter().map(TcpListener::local_addr).collect();
    addresses.context("a listener has no address")
}

/// A service with routes and a policy, as in the benches: what a user writes who cares for a service.
fn yaml(scenario: Scenario, endpoints: &[SocketAddr]) -> String {
    let protocol = match scenario.protocol() {
        Protocol::Http1 => "http",
        Protocol::Http2 => "kubernetes.io/h2c",
    };
    let workload = |(place, endpoint): (usize, &SocketAddr)| {
        format!(
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: origin-{place}, namespace: {NAMESPACE}, labels: {{app: origin}}}}\n\
             spec: {{address: {}, ports: {{http: {}}}, serviceAccount: origin, meshed: {}}}\n",
            endpoint.ip(),
            endpoint.port(),
            scenario.place() != Place::Alone,
        )
    };
    let workloads: String = endpoints.iter().enumerate().map(workload).collect();
    include_str!("mesh.yaml").replace("PROTOCOL", protocol) + &workloads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_is_read_without_a_problem() {
        let endpoints = ["127.200.0.1:9080".parse().unwrap(), "127.200.0.2:9080".parse().unwrap()];
        for scenario in Scenario::ALL {
            let parsed = outrigger_resources::parse_yaml("mesh.yaml", &yaml(scenario, &endpoints));
            assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
            assert_eq!(parsed.objects.len(), 7);
        }
    }
}
