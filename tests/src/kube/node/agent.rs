//! What a node does all the time: it looks at the API, gives every pod its life, and makes Services reachable.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::network::{Namespace, Network};
use crate::process::Program;

use super::NODE;
use super::api::Api;
use super::image::Images;
use super::part::Part;
use super::pod::{self, Order};
use super::services::{self, CHAIN};

/// The pause between two looks at the API.
const TICK: Duration = Duration::from_millis(150);
/// How long a program that changes rules may take.
const RULES_WITHIN: Duration = Duration::from_secs(20);
/// What a pod has for its end unless it says otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// How many lines of its log a node keeps.
const LOG_LINES: usize = 500;
/// What sends packets for Services to the rules of their chain, and answers the way they came.
const JUMPS: [&[&str]; 4] = [
    &["-N", CHAIN],
    &["-A", "PREROUTING", "-j", CHAIN],
    &["-A", "OUTPUT", "-j", CHAIN],
    &["-A", "POSTROUTING", "-m", "conntrack", "--ctstate", "DNAT", "-j", "MASQUERADE"],
];

/// What all pods of a node share.
pub(super) struct Context {
    pub(super) api: Api,
    pub(super) images: Images,
    /// Where pods have their files.
    pub(super) dir: PathBuf,
    /// The address of the node.
    pub(super) address: IpAddr,
    pub(super) network: Arc<Mutex<Network>>,
    pub(super) seen: Arc<Seen>,
}

/// What tests see of a node.
#[derive(Debug, Default)]
pub(super) struct Seen {
    containers: Mutex<BTreeMap<[String; 3], Seat>>,
    log: Mutex<Vec<String>>,
}

/// Where the program of a container runs.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) pid: u32,
    pub(super) surroundings: Vec<String>,
    /// Where its output is.
    pub(super) output: PathBuf,
}

impl Seen {
    /// The program of a container by namespace, pod and container.
    pub(super) fn find(&self, names: [&str; 3]) -> Option<Seat> {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.get(&names.map(str::to_owned)).cloned()
    }

    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    pub(super) fn say(&self, line: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_LINES && log.last().is_none_or(|last| last != line) {
            log.push(line.to_owned());
        }
    }
}

impl Context {
    pub(super) fn say(&self, line: &str) {
        self.seen.say(line);
    }

    pub(super) fn lend_host(&self, name: &str) -> Result<Namespace> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner).lend_host(name)
    }

    pub(super) fn register(&self, pod: &Value, part: &Part) {
        let Some(process) = &part.process else { return };
        let output = process.directory().to_owned();
        let seat = Seat { pid: process.pid(), surroundings: part.surroundings.clone(), output };
        let mut containers = self.seen.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.insert(names(pod, part.name()), seat);
    }

    pub(super) fn forget(&self, pod: &Value) {
        let [namespace, name, _] = names(pod, "");
        let mut containers = self.seen.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.retain(|[of, pod, _], _| *of != namespace || *pod != name);
    }

    /// The file that pods of a namespace see as `/etc/hosts`.
    pub(super) fn hosts_file(&self, namespace: &str) -> Result<PathBuf> {
        let file = self.dir.join("hosts").join(namespace);
        if !file.exists() {
            write_hosts(&file, "127.0.0.1 localhost\n")?;
        }
        Ok(file)
    }
}

fn names(pod: &Value, container: &str) -> [String; 3] {
    let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    [text("namespace"), text("name"), container.to_owned()]
}

/// Changes a file in place: it is mounted into pods as this file.
fn write_hosts(file: &Path, text: &str) -> Result<()> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The work of a node, in the network namespace that pods reach each other through.
pub(super) struct Agent {
    context: Arc<Context>,
    /// Where pods are sent that look for the API server.
    api_server: SocketAddr,
    orders: BTreeMap<String, watch::Sender<Order>>,
    lives: JoinSet<()>,
    rules: String,
}

impl Agent {
    pub(super) fn new(context: Arc<Context>, api_server: SocketAddr) -> Self {
        Self { context, api_server, orders: BTreeMap::new(), lives: JoinSet::new(), rules: String::new() }
    }

    /// Works for ever.
    pub(super) async fn run(mut self) {
        if let Err(error) = prepare_network().await {
            self.context.say(&format!("the network of the node: {error:#}"));
        }
        loop {
            if let Err(error) = self.tick().await {
                self.context.say(&format!("the node: {error:#}"));
            }
            while self.lives.try_join_next().is_some() {}
            tokio::time::sleep(TICK).await;
        }
    }

    async fn tick(&mut self) -> Result<()> {
        let pods = self.context.api.list("/api/v1/pods").await?;
        for pod in &pods {
            self.look_at(pod).await?;
        }
        let is_there = |uid: &String| pods.iter().any(|pod| pod["metadata"]["uid"] == **uid);
        for (_, order) in self.orders.extract_if(.., |uid, _| !is_there(uid)) {
            // Whoever lives no longer does not listen, which is as well.
            let _ = order.send(Order::Gone);
        }
        self.keep_services().await
    }

    async fn look_at(&mut self, pod: &Value) -> Result<()> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let grace = pod["metadata"]["deletionTimestamp"].is_string().then(|| {
            let seconds = pod["metadata"]["deletionGracePeriodSeconds"].as_u64();
            seconds.map_or(GRACE, Duration::from_secs)
        });
        match (self.orders.get(uid), grace) {
            (Some(orders), Some(grace)) => {
                orders.send_if_modified(|order| std::mem::replace(order, Order::End(grace)) == Order::Run);
            }
            (None, None) if pod["spec"]["nodeName"].is_null() => self.bind(pod).await?,
            (None, None) if pod["spec"]["nodeName"] == NODE => self.begin(uid, pod),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, uid: &str, pod: &Value) {
        let (order, orders) = watch::channel(Order::Run);
        self.orders.insert(uid.to_owned(), order);
        self.lives.spawn_local(pod::live(Arc::clone(&self.context), pod.clone(), orders));
    }

    async fn bind(&self, pod: &Value) -> Result<()> {
        let [namespace, name, _] = names(pod, "");
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        self.context.api.post(&path, &binding).await.map(drop)
    }

    async fn keep_services(&mut self) -> Result<()> {
        let services = self.context.api.list("/api/v1/services").await?;
        let slices = self.context.api.list("/apis/discovery.k8s.io/v1/endpointslices").await?;
        for entry in fs::read_dir(self.context.dir.join("hosts")).into_iter().flatten().flatten() {
            let text = services::hosts(&services, &entry.file_name().to_string_lossy());
            if fs::read_to_string(entry.path()).is_ok_and(|found| found != text) {
                write_hosts(&entry.path(), &text)?;
            }
        }
        let rules = services::rules(&services, &slices, self.api_server);
        if rules != self.rules {
            let file = self.context.dir.join("rules");
            fs::write(&file, &rules)?;
            let restore = Program::at("iptables-restore").args(["-w", "--noflush"]).args([&file]);
            restore.output(RULES_WITHIN).await?;
            self.rules = rules;
        }
        Ok(())
    }
}

async fn prepare_network() -> Result<()> {
    // Packets for a Service come in and go out at the bridge, and nobody is to learn a shorter way.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    for link in ["all", "default", "br0"] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{link}/send_redirects"), "0")?;
    }
    for jump in JUMPS {
        Program::at("iptables").args(["-w", "-t", "nat"]).args(jump).output(RULES_WITHIN).await?;
    }
    Ok(())
}
