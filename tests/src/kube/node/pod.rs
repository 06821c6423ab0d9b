//! The life of a pod: its network, its volumes, its containers in their order, and its end.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::network::Namespace;
use crate::process::{Process, Signal};

use super::agent::Context;
use super::container::{self, Ground};
use super::part::Part;
use super::probe;
use super::services::list;
use super::status::{Role, State, status};
use super::volumes::Volumes;

/// The pause between two looks at a pod.
const TICK: Duration = Duration::from_millis(100);
/// How long a container that has ended waits for its next start.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How often volumes are written anew; the kubelet takes a minute.
const REFRESH: Duration = Duration::from_secs(1);
/// What a pod has for its end unless it says otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// What is wanted of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    /// End within this time.
    End(Duration),
    /// It is gone from the API already.
    Gone,
}

/// Runs a pod until it is ordered to end and has ended.
pub(super) async fn live(context: Arc<Context>, pod: Value, mut orders: watch::Receiver<Order>) {
    let mut life = match Life::begin(Arc::clone(&context), pod) {
        Ok(life) => life,
        Err(error) => return context.say(&format!("a pod cannot begin: {error:#}")),
    };
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Run => life.tick().await,
            Order::End(grace) => return life.end(grace).await,
            Order::Gone => return,
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

struct Life {
    context: Arc<Context>,
    pod: Value,
    // Before the network that they are in.
    parts: Vec<Part>,
    host: Namespace,
    volumes: Volumes,
    refreshed: Option<Instant>,
    reported: Value,
    /// How many programs it has started, so that each has a directory of its own.
    count: u32,
}

impl Life {
    fn begin(context: Arc<Context>, mut pod: Value) -> Result<Self> {
        let name = pod["metadata"]["name"].as_str().context("a pod has a name")?.to_owned();
        let host = context.lend_host(&name)?;
        let address = host.ipv4().to_string();
        pod["status"]["podIP"] = json!(address);
        pod["status"]["podIPs"] = json!([{"ip": address}]);
        pod["status"]["hostIP"] = json!(context.address.to_string());
        let mut parts = Vec::new();
        for spec in list(&pod["spec"]["initContainers"]) {
            let role = if spec["restartPolicy"] == "Always" { Role::Sidecar } else { Role::Init };
            parts.push(Part::new(spec, role));
        }
        parts.extend(list(&pod["spec"]["containers"]).iter().map(|spec| Part::new(spec, Role::App)));
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let volumes = Volumes::new(context.dir.join(uid).join("volumes"));
        Ok(Self { context, pod, parts, host, volumes, refreshed: None, reported: Value::Null, count: 0 })
    }

    async fn tick(&mut self) {
        self.parts.iter_mut().for_each(Part::reap);
        let address = IpAddr::V4(self.host.ipv4());
        for part in &mut self.parts {
            part.probe(address).await;
        }
        match self.keep_volumes().await {
            Ok(()) => self.advance().await,
            Err(error) => self.wait_for(&format!("{error:#}")),
        }
        if self.is_over() {
            self.end_sidecars(Instant::now() + GRACE).await;
        }
        self.report().await;
    }

    /// Makes the volumes before anything else happens, and keeps them as the API has them.
    async fn keep_volumes(&mut self) -> Result<()> {
        let now = Instant::now();
        match self.refreshed {
            None => self.volumes.make(&self.context.api, &self.pod).await?,
            Some(last) if now < last + REFRESH => return Ok(()),
            // What was there stays while the API server is away.
            Some(_) => drop(self.volumes.refresh(&self.context.api, &self.pod).await),
        }
        self.refreshed = Some(now);
        Ok(())
    }

    fn wait_for(&mut self, reason: &str) {
        for part in self.parts.iter_mut().filter(|part| !part.is_running()) {
            part.state = State::Waiting(reason.to_owned());
        }
    }

    /// Starts what may start.
    async fn advance(&mut self) {
        for index in 0..self.parts.len() {
            if self.wants_start(index) {
                self.start(index).await;
            }
            if !self.parts[index].lets_others_start() {
                return;
            }
        }
    }

    fn wants_start(&self, index: usize) -> bool {
        let part = &self.parts[index];
        let may_try = part.tried.is_none_or(|tried| Instant::now() >= tried + BACK_OFF);
        may_try
            && match part.state {
                State::Waiting(_) => true,
                State::Running => false,
                State::Ended(code) => self.restarts(part.role, code) && !self.is_over(),
            }
    }

    fn restarts(&self, role: Role, code: i32) -> bool {
        match (role, self.pod["spec"]["restartPolicy"].as_str()) {
            (Role::Sidecar, _) => true,
            (Role::App, None | Some("Always")) => true,
            (Role::Init | Role::App, policy) => code != 0 && policy != Some("Never"),
        }
    }

    async fn start(&mut self, index: usize) {
        self.parts[index].tried = Some(Instant::now());
        let outcome = self.launch(index);
        let part = &mut self.parts[index];
        match outcome {
            Ok(process) => part.run(process, Instant::now()),
            Err(error) => {
                part.state = State::Waiting(format!("{error:#}"));
                return;
            }
        }
        self.context.register(&self.pod, &self.parts[index]);
        let hook = self.hook(index, "postStart");
        if let Some(hook) = hook {
            self.finish_hook(index, hook, Instant::now() + GRACE).await;
        }
    }

    fn launch(&mut self, index: usize) -> Result<Process> {
        self.count += 1;
        let part = &mut self.parts[index];
        let reference = part.spec["image"].as_str().unwrap_or_default();
        let image = self.context.images.find(reference);
        let namespace = self.pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let uid = self.pod["metadata"]["uid"].as_str().unwrap_or_default();
        let ground = Ground {
            pod: &self.pod,
            image: image.with_context(|| format!("the test node has no image {reference}"))?,
            volumes: &self.volumes,
            network: self.host.file(),
            hosts: &self.context.hosts_file(namespace)?,
            own: self.context.dir.join(uid).join(format!("{}-{}", part.name(), self.count)),
        };
        part.surroundings = container::surroundings(&ground, &part.spec)?;
        container::program(&ground, &part.spec, &part.surroundings)?.start()
    }

    /// Whether nothing of it is going to run any more.
    fn is_over(&self) -> bool {
        self.phase() == "Succeeded" || self.phase() == "Failed"
    }

    fn phase(&self) -> &'static str {
        let never = |part: &Part| match part.state {
            State::Ended(code) => !self.restarts(part.role, code),
            _ => false,
        };
        let failed = |part: &&Part| !matches!(part.state, State::Ended(0));
        if self.parts.iter().any(|part| part.role == Role::Init && failed(&part) && never(part)) {
            return "Failed";
        }
        let mut apps = self.parts.iter().filter(|part| part.role == Role::App);
        if apps.clone().all(never) {
            return if apps.any(|part| failed(&part)) { "Failed" } else { "Succeeded" };
        }
        let is_initialized = self.parts.iter().all(Part::lets_others_start);
        if is_initialized || apps.any(|part| part.process.is_some()) { "Running" } else { "Pending" }
    }

    /// Ends everything in its order, then tells the API server that the pod is gone.
    async fn end(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        // All hooks begin at once; each container waits for its own, and sidecars for the others as well.
        let mut hooks: Vec<_> = (0..self.parts.len()).map(|index| self.hook(index, "preStop")).collect();
        for index in self.with_role(Role::App) {
            if let Some(hook) = hooks[index].take() {
                self.finish_hook(index, hook, deadline).await;
            }
            self.parts[index].signal(Signal::Terminate);
        }
        for index in self.with_role(Role::App) {
            self.await_end(index, deadline).await;
        }
        for index in self.with_role(Role::Sidecar) {
            if let Some(hook) = hooks[index].take() {
                self.finish_hook(index, hook, deadline).await;
            }
        }
        self.end_sidecars(deadline).await;
        let metadata = &self.pod["metadata"];
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}});
        if let Err(error) = self.context.api.delete(&self.path(), &options).await {
            self.context.say(&format!("cannot remove {}: {error:#}", self.path()));
        }
        self.context.forget(&self.pod);
    }

    /// Ends sidecars one after the other, the last one first.
    async fn end_sidecars(&mut self, deadline: Instant) {
        for index in self.with_role(Role::Sidecar).into_iter().rev() {
            self.parts[index].signal(Signal::Terminate);
            self.await_end(index, deadline).await;
        }
    }

    async fn await_end(&mut self, index: usize, deadline: Instant) {
        let part = &mut self.parts[index];
        part.reap();
        while part.is_running() {
            if Instant::now() >= deadline {
                part.signal(Signal::Kill);
            }
            tokio::time::sleep(TICK).await;
            part.reap();
        }
    }

    fn with_role(&self, role: Role) -> Vec<usize> {
        (0..self.parts.len()).filter(|&index| self.parts[index].role == role).collect()
    }

    /// Begins a hook of a container that runs.
    fn hook(&self, index: usize, name: &str) -> Option<Hook> {
        let part = &self.parts[index];
        let pid = part.process.as_ref().filter(|_| part.is_running())?.pid();
        let hook = &part.spec["lifecycle"][name];
        if hook["exec"].is_object() {
            let words: Vec<_> = list(&hook["exec"]["command"]).iter().filter_map(Value::as_str).collect();
            return container::exec(pid, &part.surroundings, &words).start().ok().map(Hook::Exec);
        }
        if let Some(seconds) = hook["sleep"]["seconds"].as_u64() {
            return Some(Hook::Until(Instant::now() + Duration::from_secs(seconds)));
        }
        hook["httpGet"].is_object().then(|| Hook::Http(hook["httpGet"].clone()))
    }

    async fn finish_hook(&self, index: usize, hook: Hook, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let address = IpAddr::V4(self.host.ipv4());
        let finishing = async {
            match hook {
                Hook::Exec(mut process) => process.wait_exit(left).await.map(drop),
                Hook::Until(end) => {
                    tokio::time::sleep_until(end.min(deadline)).await;
                    Ok(())
                }
                Hook::Http(spec) => probe::http(&spec, &self.parts[index].spec, address).await,
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(left, finishing).await {
            self.context.say(&format!("a hook of {} failed: {error:#}", self.path()));
        }
    }

    async fn report(&mut self) {
        let reports: Vec<_> = self.parts.iter().map(Part::report).collect();
        let status = status(self.phase(), &self.host.ipv4().to_string(), &reports);
        if status == self.reported {
            return;
        }
        // When the API server is away, or refuses: the next look tries again.
        match self.context.api.merge_status(&self.path(), &json!({"status": status})).await {
            Ok(_) => self.reported = status,
            Err(error) => self.context.say(&format!("cannot report {}: {error:#}", self.path())),
        }
    }

    fn path(&self) -> String {
        let text = |name: &str| self.pod["metadata"][name].as_str().unwrap_or_default();
        format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let uid = self.pod["metadata"]["uid"].as_str().unwrap_or_default();
        let dir: PathBuf = self.context.dir.join(uid);
        self.parts.clear();
        // What is left goes with the directory of the cluster.
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// A hook that has begun.
enum Hook {
    Exec(Process),
    Until(Instant),
    Http(Value),
}
