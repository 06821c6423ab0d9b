//! Endpoints by name: clusters with `Discovery::Dns` are resolved on the control thread, and again when records expire.
//!
//! A name that cannot be resolved keeps the addresses it had (availability over freshness); the failure is logged once
//! until it is over. System configuration (`resolv.conf`, `hosts`) says who is asked. Not here: who gets which endpoint.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use outrigger_model::cluster::{Discovery, DnsName};
use outrigger_model::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::cluster::Cluster;
use crate::worker::Shared;

/// Records are used for so long at least, whatever their time to live says.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Records are used for so long at most.
const TTL_MAX: Duration = Duration::from_secs(300);
/// A name that could not be resolved is tried again after this.
const RETRY: Duration = Duration::from_secs(2);
/// How long one lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many addresses of one name are used.
const MAX_ADDRESSES: usize = 256;

/// Resolves the names of all clusters that are found by DNS, for as long as `clusters` has a sender.
pub async fn run(shared: Arc<Shared>, clusters: watch::Receiver<Vec<Arc<Cluster>>>) {
    resolve_all(shared, clusters, System::new()).await;
}

/// Where addresses come from.
trait Lookup: Clone + Send + Sync + 'static {
    /// The addresses of a name, and until when they may be used.
    fn addresses(&self, host: &str) -> impl Future<Output = Result<Answer, String>> + Send;
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

/// The resolver that the system configuration describes.
#[derive(Clone)]
struct System(Result<TokioResolver, String>);

/// A cluster that is being resolved.
struct Task {
    cluster: Arc<Cluster>,
    abort: AbortHandle,
}

/// A name and what is known of it.
struct Known {
    name: DnsName,
    addresses: Vec<IpAddr>,
    due: Instant,
    failing: bool,
}

impl System {
    fn new() -> Self {
        let build = || {
            let mut builder = TokioResolver::builder_tokio()?;
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.positive_min_ttl = Some(TTL_MIN);
            builder.build()
        };
        let built: Result<_, hickory_resolver::net::NetError> = build();
        Self(built.map_err(|error| {
            format!("the system's DNS configuration (/etc/resolv.conf) cannot be used: {error}")
        }))
    }
}

impl Lookup for System {
    async fn addresses(&self, host: &str) -> Result<Answer, String> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        // A trailing dot keeps search domains away: the name is fully qualified.
        let is_address = host.parse::<IpAddr>().is_ok();
        let name = if is_address || host.ends_with('.') { host.to_owned() } else { format!("{host}.") };
        let found = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok(Answer { addresses: found.iter().collect(), ttl })
    }
}

async fn resolve_all(
    shared: Arc<Shared>,
    mut clusters: watch::Receiver<Vec<Arc<Cluster>>>,
    lookup: impl Lookup,
) {
    let mut running = JoinSet::new();
    let mut tasks: HashMap<Arc<str>, Task> = HashMap::new();
    loop {
        let wanted = clusters.borrow_and_update().clone();
        tasks.retain(|_, task| {
            let stays = wanted.iter().any(|cluster| is_same_work(&task.cluster, cluster));
            if !stays {
                task.abort.abort();
            }
            stays
        });
        for cluster in wanted.into_iter().filter(|cluster| !names(cluster).is_empty()) {
            tasks.entry(cluster.config().name.clone()).or_insert_with(|| {
                let abort = running.spawn(keep_resolved(shared.clone(), cluster.clone(), lookup.clone()));
                Task { cluster, abort }
            });
        }
        tokio::select! {
            changed = clusters.changed() => if changed.is_err() { return },
            Some(Err(error)) = running.join_next(), if !running.is_empty() => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// Whether a task for one does what the other needs: same names, and endpoints that go to the same place.
fn is_same_work(one: &Cluster, other: &Cluster) -> bool {
    Arc::ptr_eq(one.live(), other.live()) && names(one) == names(other)
}

fn names(cluster: &Cluster) -> &[DnsName] {
    match &cluster.config().discovery {
        Discovery::Dns(names) => names,
        Discovery::Eds => &[],
    }
}

async fn keep_resolved(shared: Arc<Shared>, cluster: Arc<Cluster>, lookup: impl Lookup) {
    let new = |name: &DnsName| Known {
        name: name.clone(),
        addresses: Vec::new(),
        due: Instant::now(),
        failing: false,
    };
    let mut all: Vec<Known> = names(&cluster).iter().map(new).collect();
    let mut shown = Vec::new();
    loop {
        let now = Instant::now();
        let due = all.iter_mut().filter(|known| known.due <= now);
        join_all(due.map(|known| refresh(known, &lookup))).await;
        let endpoints = endpoints(&all);
        // Nothing at all is never shown: what the cluster had before is better.
        if !endpoints.is_empty() && endpoints != shown {
            shown.clone_from(&endpoints);
            let cluster_name = cluster.config().name.clone();
            cluster.set_endpoints(&Endpoints { cluster: cluster_name, endpoints }, &shared.telemetry);
        }
        let Some(next) = all.iter().map(|known| known.due).min() else { return };
        sleep_until(next).await;
    }
}

async fn refresh(known: &mut Known, lookup: &impl Lookup) {
    let found = match timeout(LOOKUP_TIMEOUT, lookup.addresses(&known.name.host)).await {
        Err(_) => Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
        Ok(Ok(answer)) if answer.addresses.is_empty() => Err("the name has no addresses".to_owned()),
        Ok(found) => found,
    };
    match found {
        Ok(mut answer) => {
            // Name servers rotate their answers: in order, the same addresses are no change.
            answer.addresses.sort_unstable();
            answer.addresses.dedup();
            answer.addresses.truncate(MAX_ADDRESSES);
            known.addresses = answer.addresses;
            known.due = Instant::now() + answer.ttl.clamp(TTL_MIN, TTL_MAX);
            known.failing = false;
        }
        Err(error) => {
            if !std::mem::replace(&mut known.failing, true) {
                let kept = known.addresses.len();
                tracing::warn!(
                    host = &*known.name.host,
                    error,
                    "name not resolved; its {kept} addresses stay in use"
                );
            }
            known.due = Instant::now() + RETRY;
        }
    }
}

fn endpoints(all: &[Known]) -> Vec<Endpoint> {
    let of = |known: &Known| {
        let port = known.name.port;
        known.addresses.iter().map(move |ip| endpoint(SocketAddr::new(*ip, port))).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// Outside the mesh: no identity, no workload.
fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address,
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        hint_zones: Vec::new(),
        workload: WorkloadRef::default(),
        identity: None,
    }
}

#[cfg(test)]
mod tests;
