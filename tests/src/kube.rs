//! A Kubernetes cluster of real programs: storage, API server and controllers, with RBAC, webhooks and TokenReview.
//!
//! Nothing schedules or runs pods unless there is a [`node::Node`]: otherwise a test binds them to nodes and writes their
//! status itself.
//! It knows nothing of the mesh.

mod keeper;
mod keys;
mod kubectl;
mod pods;
mod namespaced;
pub mod node;
mod servers;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;

use crate::counterparts::{Counterpart, Found};
use crate::eventually;
use crate::ports::Subnet;
use crate::process::{Process, Program, Signal};

use keeper::Keeper;
use keys::Keys;
use servers::{Place, Servers};

/// The programs that make a cluster, and those that people use with one.
pub const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm"];
/// How long a server of the cluster may take to be ready on a machine that compiles beside it.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a server may take to die.
const DEAD_WITHIN: Duration = Duration::from_secs(20);
/// Where the host of a loopback cluster is in its subnet.
const HOST: u8 = 1;

/// Which CRDs of the Gateway API a cluster gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayApi {
    /// What is stable.
    Standard,
    /// All there is.
    Experimental,
}

/// A running cluster. Dropping it ends its programs and removes their files; so does the end of the test program, for
/// a cluster that all tests of a program share and that nobody drops.
///
/// ```no_run
/// # use outrigger_tests::counterparts;
/// # use outrigger_tests::kube::Cluster;
/// # async fn example() -> anyhow::Result<()> {
/// let Some(found) = counterparts::need_cluster(&[]) else { return Ok(()) };
/// let cluster = Cluster::start(&found).await?;
/// cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await?;
/// let shop = cluster.get_json("namespace", "", "shop").await?;
/// assert_eq!(shop["status"]["phase"], "Active");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they end.
    running: Mutex<Running>,
    keys: Keys,
    servers: Servers,
    /// The addresses of a cluster on loopback.
    _subnet: Subnet,
    dir: TempDir,
    keeper: Keeper,
}

#[derive(Debug, Default)]
struct Running {
    controllers: Option<Process>,
    api: Option<Process>,
    etcd: Option<Process>,
}

impl Cluster {
    /// Starts a cluster on loopback addresses that nobody else has. It takes seconds: where tests can share one, they do.
    ///
    /// # Errors
    /// When a program does not become ready, with what it wrote.
    ///
    /// # Panics
    /// When the test did not ask for [`Counterpart::Kubernetes`].
    pub async fn start(found: &Found) -> Result<Self> {
        let subnet = Subnet::claim();
        let address = IpAddr::V4(subnet.host(HOST));
        let seen_at = subnet.address(HOST, servers::API_PORT);
        Self::start_at(found, subnet, Place { address, seen_at, namespace: None }).await
    }

    async fn start_at(found: &Found, subnet: Subnet, place: Place) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("outrigger-kube-")
            .tempdir()
            .context("cannot make a directory")?;
        // Programs of other users may be under it, and know where.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let keeper = Keeper::start(dir.path())?;
        let keys = Keys::make(dir.path(), &[place.address, place.seen_at.ip()])?;
        let servers = Servers::new(found.path(Counterpart::Kubernetes), dir.path(), place);
        let running = Mutex::new(Running::default());
        let cluster = Self { running, keys, servers, _subnet: subnet, dir, keeper };
        cluster.keys.kubeconfig("admin", &cluster.servers.url())?;
        cluster.start_servers().await?;
        Ok(cluster)
    }

    async fn start_servers(&self) -> Result<()> {
        let etcd = self.keep(self.servers.etcd())?;
        self.running().etcd = Some(etcd);
        self.start_api().await?;
        let kubeconfig = self.keys.kubeconfig("controllers", &self.servers.inner_url())?;
        let mut controllers = self.keep(self.servers.controllers(&kubeconfig))?;
        // The first thing they make without being asked; from then on pods may be created.
        let account = ["get", "serviceaccount", "default", "-n", "default"];
        let ready = eventually(READY_WITHIN, async || {
            if controllers.has_ended() {
                return Some(false);
            }
            self.kubectl(&account).await.ok().map(|_| true)
        });
        let state = ready.await;
        expect_ready("the controllers", state, &controllers)?;
        self.running().controllers = Some(controllers);
        Ok(())
    }

    /// The kubeconfig of somebody who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.keys.path("admin.kubeconfig")
    }

    /// A kubeconfig with a real token of a service account, valid for an hour, as a program has it that runs outside
    /// of pods.
    ///
    /// # Errors
    /// When the service account is not there.
    pub async fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let token = self.token(namespace, service_account, "").await?;
        let name = format!("{namespace}-{service_account}");
        self.keys.kubeconfig_with_token(&name, &self.servers.url(), &token)
    }

    /// A client for somebody who may do everything. It belongs to the runtime of the test that asks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn client(&self) -> Result<kube::Client> {
        client_of(&self.kubeconfig()).await
    }

    /// The URL of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers.url()
    }

    /// The authority that has signed the certificate of the API server, in PEM.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.keys.path("ca.crt")
    }

    /// A program of the cluster, one of [`PROGRAMS`], as somebody who may do everything.
    pub fn program(&self, name: &str) -> Program {
        let program = Program::at(self.servers.program(name)).env("KUBECONFIG", self.kubeconfig());
        // What it caches is about this cluster, and nothing of the user's is read.
        program.env("HOME", self.dir.path())
    }

    /// The file of a program of the cluster, one of [`PROGRAMS`].
    #[must_use]
    pub fn program_file(&self, name: &str) -> PathBuf {
        self.servers.program(name)
    }

    /// A directory for files of tests, which goes with the cluster.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the API server in its tracks: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal_api(Signal::Stop)
    }

    /// Lets it go on after [`Cluster::pause`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal_api(Signal::Continue)
    }

    /// Kills the API server: connections break, and new ones are refused. Everything that was stored stays.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop_api(&self) -> Result<()> {
        let taken = self.running().api.take();
        let mut api = taken.context("the API server does not run")?;
        api.signal(Signal::Kill)?;
        api.wait_exit(DEAD_WITHIN).await.map(drop)
    }

    /// Starts the API server, at the address it had, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready, with what it wrote.
    pub async fn start_api(&self) -> Result<()> {
        let mut api = self.keep(self.servers.api(&self.keys))?;
        let client = self.client().await?;
        let ready = eventually(READY_WITHIN, async || {
            if api.has_ended() {
                return Some(false);
            }
            let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
            client.request_text(request).await.ok().map(|_| true)
        });
        let state = ready.await;
        expect_ready("the API server", state, &api)?;
        self.running().api = Some(api);
        Ok(())
    }

    /// Starts a program that ends with the cluster, or with the test program at the latest.
    fn keep(&self, program: Program) -> Result<Process> {
        let process = program.start()?;
        self.keeper.watch(&process)?;
        Ok(process)
    }

    fn signal_api(&self, signal: Signal) -> Result<()> {
        let running = self.running();
        running.api.as_ref().context("the API server does not run")?.signal(signal)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // What a panic leaves behind is still a list of processes.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error unless the server is ready; it has ended when that is false.
fn expect_ready(what: &str, state: Option<bool>, process: &Process) -> Result<()> {
    match state {
        Some(true) => Ok(()),
        Some(false) => bail!("{what} ended before being ready:\n{}", process.stderr()),
        None => bail!("no sign of {what} after {READY_WITHIN:?}:\n{}", process.stderr()),
    }
}

async fn client_of(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    kube::Client::try_from(config).context("cannot make a client")
}
