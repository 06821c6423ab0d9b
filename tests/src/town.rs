//! A mesh whose workloads a test names: a control plane on YAML, sidecars on addresses of their own, and what those
//! sidecars say of themselves.
//!
//! Every Service listens on [`PORT`] in the namespace `shop`; a Workload belongs to the Service that has its label `app`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::client;
use crate::eventually;
use crate::mesh::{Mesh, READY_WITHIN};
use crate::ports::Subnet;
use crate::process::{Process, Program, Signal};

/// The port of every Service.
pub const PORT: u16 = 9080;
/// The namespace of everything.
pub const NAMESPACE: &str = "shop";
/// How long something may take that is bound to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The file that holds what [`Town::start`] was given.
const FILE: &str = "town.yaml";

/// A running control plane, and where its workloads live. Sidecars belong to the test, and end before it.
#[derive(Debug)]
pub struct Town {
    /// The control plane.
    pub control_plane: Process,
    /// Its directories.
    pub mesh: Mesh,
    /// The addresses of its workloads.
    pub subnet: Subnet,
}

/// A running sidecar. Dropping it ends it at once, without the drain that a test would have to wait for.
#[derive(Debug)]
pub struct Sidecar(Process);

impl Deref for Sidecar {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Sidecar {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.0.signal(Signal::Kill);
    }
}

impl Town {
    /// Starts a control plane on this YAML, which a `MeshConfig` with `mtls: Strict` and an access log precedes.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(subnet: Subnet, yaml: &str) -> Result<Self> {
        let mesh = Mesh::new()?;
        mesh.write("mesh.yaml", &mesh_config("Strict"))?;
        mesh.write(FILE, yaml)?;
        let control_plane = mesh.start_control_plane().await?;
        Ok(Self { control_plane, mesh, subnet })
    }

    /// Replaces the YAML it was started with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewrite(&self, yaml: &str) -> Result<()> {
        self.mesh.write(FILE, yaml)
    }

    /// A sidecar of a workload whose service account has its name, about to be started.
    ///
    /// # Errors
    /// When there is no token for it.
    pub async fn program(&self, workload: &str, flags: &[String]) -> Result<Program> {
        let xds = self.control_plane.address("/xds")?;
        Ok(self.mesh.sidecar(xds, NAMESPACE, workload).await?.args(flags))
    }

    /// A sidecar that is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn sidecar(&self, workload: &str, flags: &[String]) -> Result<Sidecar> {
        self.program(workload, flags).await?.start_ready(READY_WITHIN).await.map(Sidecar)
    }

    /// The sidecar `web`, which dials the Service at this host of the subnet, port 9001; and that address.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn dialling(&self, host: u8, service: &str) -> Result<(Sidecar, SocketAddr)> {
        let entrance = self.subnet.address(host, 9001);
        let process = self.sidecar("web", &[outbound(entrance, service)]).await?;
        Ok((process, entrance))
    }

    /// What `outrigger status -o json` says.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn status(&self) -> Result<Value> {
        let http = self.control_plane.address("/http")?.to_string();
        let status = Program::of_workspace("outrigger").args(["status", "-o", "json", "--http", &http]);
        serde_json::from_str(&status.output(PATIENCE).await?).context("status is not JSON")
    }
}

/// The flag `--inbound`: where others dial, and the application.
#[must_use]
pub fn inbound(listen: SocketAddr, application: SocketAddr) -> String {
    format!("--inbound={listen}={application}")
}

/// The flag `--outbound`: where the application dials, and the Service of the town it reaches there.
#[must_use]
pub fn outbound(listen: SocketAddr, service: &str) -> String {
    format!("--outbound={listen}={service}.{NAMESPACE}:{PORT}")
}

/// A `MeshConfig` with this mode of mutual TLS and an access log in JSON.
#[must_use]
pub fn mesh_config(mtls: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
         metadata: {{name: mesh, namespace: outrigger-system}}\n\
         spec: {{mtls: {mtls}, accessLog: {{enabled: true, format: json}}}}\n"
    )
}

/// A Service of Workloads with the label `app` of its name. `protocol` is its appProtocol: `http`, `tcp`, ...
#[must_use]
pub fn service(name: &str, protocol: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  selector: {{app: {name}}}\n\
         \x20 ports: [{{name: main, port: {PORT}, targetPort: main, appProtocol: {protocol}}}]\n"
    )
}

/// A Workload behind a sidecar, which has the service account of its Service.
#[must_use]
pub fn meshed(name: &str, app: &str, address: SocketAddr) -> String {
    workload(name, app, address) + ", meshed: true}\n"
}

/// A Workload that is dialled without mutual TLS.
#[must_use]
pub fn plain(name: &str, app: &str, address: SocketAddr) -> String {
    workload(name, app, address) + ", meshed: false}\n"
}

/// An `HTTPRoute` of a Service with these rules, each an item of a YAML list on one line.
#[must_use]
pub fn http_route(service: &str, rules: &[String]) -> String {
    let mut text = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {service}, namespace: {NAMESPACE}}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  rules:\n"
    );
    for rule in rules {
        let _ = writeln!(text, "  - {rule}");
    }
    text
}

/// A `BackendPolicy` of a Service; `spec` is the rest of its spec, in YAML flow style without braces.
#[must_use]
pub fn backend_policy(service: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\n\
         metadata: {{name: {service}, namespace: {NAMESPACE}}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, name: {service}}}], {spec}}}\n"
    )
}

fn workload(name: &str, app: &str, address: SocketAddr) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {app}}}}}\n\
         spec: {{address: \"{}\", ports: {{main: {}}}, serviceAccount: {app}",
        address.ip(),
        address.port()
    )
}

/// What a server of a program answers in JSON: the admin server of a sidecar at `/admin`, say.
///
/// # Errors
/// When it does not answer, or not in JSON.
pub async fn ask(process: &Process, server: &str, path: &str) -> Result<Value> {
    let answer = client::get(process.address(server)?, path).await?;
    serde_json::from_slice(&answer.body).with_context(|| format!("{path} did not answer in JSON"))
}

/// The lines of a sidecar's access log so far.
#[must_use]
pub fn access_log(sidecar: &Process) -> Vec<Value> {
    let written = sidecar.stderr();
    let lines = written.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["log"] == "access").collect()
}

/// The access log's line of a request by its path, once it is written; an error names what is there.
///
/// # Errors
/// When no such line comes.
pub async fn logged(sidecar: &Process, path: &str) -> Result<Value> {
    let found =
        eventually(PATIENCE, async || access_log(sidecar).into_iter().find(|line| line["path"] == path))
            .await;
    found.with_context(|| format!("no line of {path} in {}", sidecar.stderr()))
}

/// The sum of all samples of a metric whose labels contain each of `labels`, as `name="value"`.
///
/// # Errors
/// When the program does not answer.
pub async fn metric(process: &Process, server: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let answer = client::get(process.address(server)?, "/metrics").await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let samples = text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
    Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// The resident memory of a process, in KiB, as the kernel counts it.
///
/// # Errors
/// When the process is gone.
pub fn resident_kib(process: &Process) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    number.context("the kernel does not say how much memory is resident")
}
