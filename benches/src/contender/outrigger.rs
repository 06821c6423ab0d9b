//! Starts Outrigger as users run it: `outrigger run` on a directory of YAML, and a sidecar or two with their tokens.
//!
//! The service has two endpoints, so that balancing has something to choose from. In a pair both are behind the one
//! sidecar of the origin.

use std::fs;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use super::Running;
use super::addresses::{ANY, endpoints};
use super::yaml::{self, NAMESPACE, SERVICE, SERVICE_PORT};
use crate::origin;
use crate::process::{Process, Program};
use crate::scenario::{Path, Scenario};
use crate::site::Site;

/// Who starts sidecars, and for whom.
struct Mesh<'a> {
    site: &'a Site,
    dir: &'a FilePath,
    xds: SocketAddr,
}

/// A sidecar.
struct Sidecar {
    name: &'static str,
    service_account: &'static str,
    /// `--inbound` and `--outbound` with their values.
    listeners: Vec<String>,
}

pub(super) async fn start(scenario: Scenario, site: &Site, dir: TempDir) -> Result<Running> {
    let endpoints = endpoints::<2>()?;
    let place = (site, dir.path());
    let (kind, listen) = match scenario.path() {
        Path::OneHop => (yaml::Origin::Plain, &endpoints[..]),
        Path::Pair => (yaml::Origin::Meshed, &[ANY][..]),
    };
    let origin = origin::start(listen, scenario.work(), place).await?;
    let config = dir.path().join("config");
    let written = fs::create_dir(&config)
        .and_then(|()| fs::write(config.join("mesh.yaml"), yaml::mesh(kind, &endpoints)));
    written.with_context(|| format!("cannot write to {}", config.display()))?;
    let control_plane = start_control_plane(&config, place).await?;
    let mesh = Mesh { site, dir: dir.path(), xds: control_plane.address("/xds")? };
    let mut proxies = Vec::new();
    if scenario.path() == Path::Pair {
        proxies.push(mesh.start(far_sidecar(&endpoints, origin.address("/http/0")?)).await?);
    }
    let near = mesh.start(near_sidecar()).await?;
    let entry = near.address("/outbound/0")?;
    proxies.push(near);
    Ok(Running { entry, host: SERVICE, proxies, origin, control_plane: Some(control_plane), dir })
}

async fn start_control_plane(config: &FilePath, (site, dir): (&Site, &FilePath)) -> Result<Process> {
    let (config, data, any) = (config.display().to_string(), data_dir(dir), ANY.to_string());
    let args = ["run", "--config", &config, "--data", &data, "--xds", &any, "--http", &any];
    let args = args.map(str::to_owned).to_vec();
    let program = Program { name: "control-plane", path: &site.outrigger, args, core: site.cores.work };
    Process::start(program, dir).await
}

/// The sidecar of the load: what it dials is the service.
fn near_sidecar() -> Sidecar {
    let outbound = format!("{ANY}={SERVICE}:{SERVICE_PORT}");
    let listeners = vec!["--outbound".to_owned(), outbound];
    Sidecar { name: "client-sidecar", service_account: "client", listeners }
}

/// The sidecar of the origin: what others dial is the endpoints.
fn far_sidecar(endpoints: &[SocketAddr], application: SocketAddr) -> Sidecar {
    let listener = |endpoint: &SocketAddr| ["--inbound".to_owned(), format!("{endpoint}={application}")];
    let listeners = endpoints.iter().flat_map(listener).collect();
    Sidecar { name: "origin-sidecar", service_account: "origin", listeners }
}

impl Mesh<'_> {
    async fn start(&self, sidecar: Sidecar) -> Result<Process> {
        let token = self.token(&sidecar).await?;
        let (control_plane, any) = (format!("http://{}", self.xds), ANY.to_string());
        let args = ["proxy", "run", "--control-plane", &control_plane, "--namespace", NAMESPACE];
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
        let path = &self.site.outrigger;
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
