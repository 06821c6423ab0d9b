//! A node: it runs the pods of a cluster as processes in network namespaces, exactly as their specs say.
//!
//! Containers have their volumes, users, rights, environment, probes and hooks; init containers, native sidecars and the
//! order of an end are those of the kubelet. Services have their addresses and names. What is not there: images (a table
//! of the test says what program stands for one), limits of resources, host networks, and IPv6 addresses of Services. A
//! spec that asks for something unknown waits with a message in its status.

mod agent;
mod api;
mod container;
mod environment;
mod identity;
mod image;
mod part;
mod pod;
mod probe;
mod services;
mod status;
mod volumes;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::counterparts::{Counterpart, Found};
use crate::eventually;
use crate::network::Network;
use crate::ports::Subnet;
use crate::process::Program;

use super::namespaced::{Namespaced, relay};
use super::servers::{API_PORT, Place};
use super::{Cluster, HOST, client_of};

use agent::{Agent, Context, Seen};
use api::Api;
pub use image::Images;

/// The name of the node.
pub const NODE: &str = "node";
/// Where the node says that it stands.
const ZONE: &str = "zone-a";
/// How long a command in a container may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// What a test of pods needs besides the cluster.
pub const COUNTERPARTS: [Counterpart; 4] =
    [Counterpart::Root, Counterpart::NetworkNamespaces, Counterpart::Ip, Counterpart::Iptables];

/// A cluster whose pods run. It is a [`Cluster`] with one node, in networks of its own.
///
/// ```no_run
/// # use outrigger_tests::counterparts;
/// # use outrigger_tests::kube::node::{COUNTERPARTS, Images, Node};
/// # use outrigger_tests::process::cargo_bin;
/// # async fn example() -> anyhow::Result<()> {
/// let Some(found) = counterparts::need_cluster(&COUNTERPARTS) else { return Ok(()) };
/// let images = Images::default()
///     .program("outrigger/outrigger-proxy", &cargo_bin("outrigger-proxy"), 1337)
///     .command("test/sleep", &["sleep", "1000"], 1000);
/// let node = Node::start(&found, images).await?;
/// node.apply("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: test/sleep}]}}").await?;
/// node.ready("default", "a").await?;
/// let said = node.exec(["default", "a", "c"], &["id", "-u"]).await?;
/// assert_eq!(said.trim(), "1000");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Node {
    // In the order in which they end.
    _agent: Namespaced,
    cluster: Cluster,
    _relay: Namespaced,
    network: Arc<Mutex<Network>>,
    seen: Arc<Seen>,
}

impl Node {
    /// Starts a cluster and a node that runs what these images name.
    ///
    /// # Errors
    /// When a part of it cannot be started.
    ///
    /// # Panics
    /// When the test did not ask for [`COUNTERPARTS`] and [`Counterpart::Kubernetes`].
    pub async fn start(found: &Found, images: Images) -> Result<Self> {
        let subnet = Subnet::claim();
        let [_, second, third, _] = subnet.host(HOST).octets();
        let network = Network::new(found.path(Counterpart::Ip), &format!("kube-{second}-{third}"))?;
        let hub = network.hub().file();
        let api = SocketAddr::new(IpAddr::V4(network.hub().ipv4()), API_PORT);
        let seen_at = subnet.address(HOST, API_PORT);
        let listener = TcpListener::bind(seen_at).context("cannot listen for the API server")?;
        listener.set_nonblocking(true)?;
        let relay = Namespaced::run(&hub, move || relay(listener, api))?;
        let place = Place { address: api.ip(), seen_at, namespace: Some(hub.clone()) };
        let cluster = Cluster::start_at(found, subnet, place).await?;
        cluster.add_node(NODE, ZONE).await?;
        let seen = Arc::new(Seen::default());
        let network = Arc::new(Mutex::new(network));
        let agent = run_agent(&cluster, images, Arc::clone(&network), Arc::clone(&seen))?;
        Ok(Self { _agent: agent, cluster, _relay: relay, network, seen })
    }

    /// Waits until a pod is ready; the pod.
    ///
    /// # Errors
    /// When it does not become ready, with its status.
    pub async fn ready(&self, namespace: &str, pod: &str) -> Result<Value> {
        self.wait_for("pod", namespace, pod, is_ready).await
    }

    /// Waits until as many pods with these labels are ready, and no others are there; the names.
    ///
    /// # Errors
    /// When they do not become ready, with their status.
    pub async fn all_ready(&self, namespace: &str, labels: &str, count: usize) -> Result<Vec<String>> {
        let are_ready = |pods: &[Value]| pods.len() == count && pods.iter().all(is_ready);
        let pods = self.wait_for_list("pods", namespace, labels, are_ready).await?;
        Ok(pods.iter().filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect())
    }

    /// A command in a container (namespace, pod, container), as its user and with its environment; not started yet.
    ///
    /// # Errors
    /// When no such container runs.
    pub fn command(&self, container: [&str; 3], words: &[&str]) -> Result<Program> {
        let seat = self.seen.find(container).with_context(|| format!("no container {container:?} runs"))?;
        Ok(container::exec(seat.pid, &seat.surroundings, words))
    }

    /// Runs a command in a container (namespace, pod, container); what it wrote on its standard output.
    ///
    /// # Errors
    /// When no such container runs, or the command fails.
    pub async fn exec(&self, container: [&str; 3], words: &[&str]) -> Result<String> {
        self.command(container, words)?.output(COMMAND_WITHIN).await
    }

    /// What the program of a container (namespace, pod, container) has written, standard error last.
    #[must_use]
    pub fn logs(&self, container: [&str; 3]) -> String {
        let Some(seat) = self.seen.find(container) else { return String::new() };
        let read = |name: &str| fs::read(seat.output.join(name)).unwrap_or_default();
        let text = [read("stdout"), read("stderr")].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until the program of a container has written something.
    ///
    /// # Errors
    /// When it does not, with what it has written.
    pub async fn logged(&self, container: [&str; 3], what: &str) -> Result<()> {
        let found = eventually(COMMAND_WITHIN, async || self.logs(container).contains(what).then_some(()));
        found
            .await
            .with_context(|| format!("{container:?} has not written {what:?}: {}", self.logs(container)))
    }

    /// A program in the network of the node, from where pods and Services are reached by address.
    pub fn program_on_node(&self, path: impl AsRef<Path>) -> Program {
        let network = self.network.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        network.hub().program(path)
    }

    /// What the node had to say: what failed, and was tried again.
    #[must_use]
    pub fn log(&self) -> String {
        self.seen.log()
    }
}

impl Deref for Node {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the node:\n{}\n---", self.log());
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = services::list(&pod["status"]["conditions"]);
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn run_agent(
    cluster: &Cluster,
    images: Images,
    network: Arc<Mutex<Network>>,
    seen: Arc<Seen>,
) -> Result<Namespaced> {
    let dir = cluster.path().join("node");
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
    let images = images.moved(|program| copied(program, &dir))?;
    let kubeconfig = cluster.keys.kubeconfig("node", &cluster.servers.inner_url())?;
    let place = network.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (hub, address) = (place.hub().file(), IpAddr::V4(place.hub().ipv4()));
    drop(place);
    Namespaced::run(&hub, move || async move {
        match client_of(&kubeconfig).await {
            Ok(client) => {
                let context = Context { api: Api::new(client), images, dir, address, network, seen };
                Agent::new(Arc::new(context), SocketAddr::new(address, API_PORT)).run().await;
            }
            Err(error) => seen.say(&format!("no client: {error:#}")),
        }
    })
}

/// A program where every user may run it: not all may reach the place where programs are built.
fn copied(program: &Path, dir: &Path) -> Result<PathBuf> {
    let copy = dir.join(program.file_name().context("a program has a name")?);
    if !copy.exists() {
        fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    }
    Ok(copy)
}
