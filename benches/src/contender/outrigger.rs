//! Starts Outrigger as users run it: `outrigger run` on a directory of YAML, and a sidecar or two with their tokens.
//!
//! The service has two endpoints, so that balancing has something to choose from. In a pair both are behind the one
//! sidecar of the origin.

use std::fs;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use outrigger_base::tls::RESUMABLE_ENDPOINTS;
use tempfile::TempDir;
use tokio::process::Command;

use super::addresses::{ANY, block};
use super::hop::Service;
use super::yaml::{self, Balancing, NAMESPACE, Rules, SERVICE, SERVICE_PORT};
use super::{Door, Running};
use crate::origin;
use crate::process::{Process, Program};
use crate::scenario::{Path, Scenario, Work};
use crate::site::Site;

/// Endpoints of the service.
const ENDPOINTS: usize = 2;
/// Endpoints of the service where every connection is to cost a full handshake. Sidecars resume sessions, and there is
/// no switch for it; but a client remembers those of [`RESUMABLE_ENDPOINTS`] endpoints only, the oldest goes first. With
/// more endpoints than that, one after the other, it never remembers the one whose turn it is.
const ENDPOINTS_NOT_RESUMED: usize = RESUMABLE_ENDPOINTS + 44;

/// Who starts sidecars, and for whom.
struct Mesh<'a> {
    site: &'a Site,
    dir: &'a FilePath,
    control_plane: Process,
}

/// A sidecar.
struct Sidecar {
    name: &'static str,
    service_account: &'static str,
    /// `--inbound` and `--outbound` with their values.
    listeners: Vec<String>,
}

pub(super) async fn start(
    scenario: Scenario,
    rules: Rules,
    (site, dir): (&Site, TempDir),
) -> Result<Running> {
    let (number, balancing) = match scenario.work() {
        Work::Handshakes { .. } => (ENDPOINTS_NOT_RESUMED, Balancing::RoundRobin),
        _ => (ENDPOINTS, Balancing::PeakEwma),
    };
    let endpoints = block(number)?;
    let place = (site, dir.path());
    let (kind, listen) = match scenario.path() {
        Path::OneHop => (yaml::Origin::Plain, &endpoints[..]),
        Path::Pair => (yaml::Origin::Meshed, &[ANY][..]),
    };
    let origin = origin::start(listen, scenario.work(), place).await?;
    let text = yaml::mesh(scenario.protocol(), kind, (balancing, &endpoints)) + &yaml::authorization(rules);
    let mesh = Mesh::start(&text, place).await?;
    let (mut proxies, mut beside) = (Vec::new(), Vec::new());
    if scenario.path() == Path::Pair {
        proxies.push(mesh.sidecar(far_sidecar(&endpoints, origin.address("/http/0")?)).await?);
    }
    let near = mesh.sidecar(near_sidecar([SERVICE])).await?;
    let entry = near.address("/outbound/0")?;
    // What rules cost is spent where requests come in.
    if scenario == Scenario::S10 {
        beside.push(near)
    } else {
        proxies.push(near)
    }
    beside.push(mesh.control_plane);
    Ok(Running { entry, host: SERVICE, proxies, origin, beside, dir })
}

/// A sidecar in a large mesh, with a listener for each of the services that are dialled: the first `dialled`.
pub(super) async fn start_large(
    (site, dir): (&Site, TempDir),
    (origin, services, dialled): (Process, &[Service], usize),
) -> Result<(Running, Vec<Door>)> {
    let mesh = Mesh::start(&yaml::large_mesh(services), (site, dir.path())).await?;
    let hosts: Vec<&str> = services.iter().take(dialled).map(|service| service.name.as_str()).collect();
    let near = mesh.sidecar(near_sidecar(hosts.iter().copied())).await?;
    let door = |(place, host): (usize, &&str)| {
        near.address(&format!("/outbound/{place}")).map(|address| Door { address, host: (*host).to_owned() })
    };
    let doors = hosts.iter().enumerate().map(door).collect::<Result<Vec<Door>>>()?;
    let entry = near.address("/outbound/0")?;
    let (proxies, beside) = (vec![near], vec![mesh.control_plane]);
    Ok((Running { entry, host: SERVICE, proxies, origin, beside, dir }, doors))
}

/// The sidecar of the load: what it dials is the services.
fn near_sidecar<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Sidecar {
    let listener = |host| ["--outbound".to_owned(), format!("{ANY}={host}:{SERVICE_PORT}")];
    let listeners = hosts.into_iter().flat_map(listener).collect();
    Sidecar { name: "client-sidecar", service_account: "client", listeners }
}

/// The sidecar of the origin: what others dial is the endpoints.
fn far_sidecar(endpoints: &[SocketAddr], application: SocketAddr) -> Sidecar {
    let listener = |endpoint: &SocketAddr| ["--inbound".to_owned(), format!("{endpoint}={application}")];
    let listeners = endpoints.iter().flat_map(listener).collect();
    Sidecar { name: "origin-sidecar", service_account: "origin", listeners }
}

impl<'a> Mesh<'a> {
    /// Starts the control plane on this YAML.
    async fn start(yaml: &str, (site, dir): (&'a Site, &'a FilePath)) -> Result<Self> {
        let config = dir.join("config");
        let written = fs::create_dir(&config).and_then(|()| fs::write(config.join("mesh.yaml"), yaml));
        written.with_context(|| format!("cannot write to {}", config.display()))?;
        let (config, data, any) = (config.display().to_string(), data_dir(dir), ANY.to_string());
        let args = ["run", "--config", &config, "--data", &data, "--xds", &any, "--http", &any];
        let args = args.map(str::to_owned).to_vec();
        let program = Program { name: "control-plane", path: &site.outrigger, args, core: site.cores.work };
        Ok(Self { site, dir, control_plane: Process::start(program, dir).await? })
    }

    async fn sidecar(&self, sidecar: Sidecar) -> Result<Process> {
        let token = self.token(&sidecar).await?;
        let control_plane = format!("http://{}", self.control_plane.address("/xds")?);
        let any = ANY.to_string();
        let args = ["run", "--control-plane", &control_plane, "--namespace", NAMESPACE];
        let mut args = args.map(str::to_owned).to_vec();
        let flags = [
            ("--service-account", sidecar.service_account),
            ("--workload", sidecar.name),
            ("--token-file", &token),
            ("--label", &format!("app={}", sidecar.service_account)),
            ("--workers", "1"),
            ("--admin", &any),
            ("--metrics", &any),
            ("--health", &any),
        ];
        args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]));
        args.extend(sidecar.listeners);
        let path = &self.site.sidecar;
        Process::start(Program { name: sidecar.name, path, args, core: self.site.cores.proxies }, self.dir)
            .await
    }

    /// Makes a token as a person would, and returns its file.
    async fn token(&self, sidecar: &Sidecar) -> Result<String> {
        let mut command = Command::new(&self.site.outrigger);
        command.args(["token", "create", "--data", &data_dir(self.dir), "--namespace", NAMESPACE]);
        command.args(["--service-account", sidecar.service_account]).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("cannot start `outrigger token create`")?;
        if !output.status.success() {
            bail!("`outrigger token create` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let file = self.dir.join(format!("{}.token", sidecar.name));
        fs::write(&file, output.stdout).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file.display().to_string())
    }
}

fn data_dir(dir: &FilePath) -> String {
    dir.join("data").display().to_string()
}
