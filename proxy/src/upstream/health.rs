//! Active health checks: endpoints that fail them are not chosen, until they pass again.
//!
//! Checks run on the control thread, through the same TLS and the same verification as traffic, so that behind a sidecar it
//! is the application that answers. An endpoint counts as healthy until `unhealthyThreshold` checks in a row have failed.
//! When fewer than [`PANIC_PERCENT`] of the endpoints are healthy all of them are used: so many failures say more about the
//! check, or about the network between, than about endpoints (Envoy's panic threshold).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use outrigger_model::health_check::HealthCheck;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use crate::worker::Shared;

mod agenda;
mod probe;
mod vitals;

pub(super) use vitals::Vitals;

use agenda::Agenda;
use probe::ProbeError;

/// Below this share of healthy endpoints, in percent, all are used.
pub const PANIC_PERCENT: usize = 50;

/// The most checks of this proxy that are under way at one time; others wait.
const MAX_CONCURRENT: usize = 64;

/// The most endpoints of one cluster that are checked; the others count as healthy, and that is logged.
const MAX_CHECKED: usize = 1024;

/// How often a cluster is looked at for endpoints that came.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Whether the unhealthy ones of some endpoints are left out.
pub(super) fn leaves_out(total: usize, unhealthy: usize) -> bool {
    (total - unhealthy) * 100 >= total * PANIC_PERCENT
}

/// A cluster whose endpoints are checked.
struct Task {
    cluster: Arc<Cluster>,
    abort: AbortHandle,
}

/// Checks the endpoints of all clusters that ask for it, for as long as `clusters` has a sender.
pub async fn run(shared: Arc<Shared>, mut clusters: watch::Receiver<Vec<Arc<Cluster>>>) {
    let room = Arc::new(Semaphore::new(MAX_CONCURRENT));
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
        for cluster in wanted {
            let Some(check) = cluster.config().health_check.clone() else { continue };
            tasks.entry(cluster.config().name.clone()).or_insert_with(|| {
                let checks = Checks { shared: shared.clone(), cluster: cluster.clone(), check };
                let abort = running.spawn(checks.go_on(room.clone()));
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

/// Whether a task for one does what the other needs.
fn is_same_work(one: &Cluster, other: &Cluster) -> bool {
    let (a, b) = (one.config(), other.config());
    let same_way = (a.protocol, &a.tls, &a.connection) == (b.protocol, &b.tls, &b.connection);
    Arc::ptr_eq(one.live(), other.live()) && a.health_check == b.health_check && same_way
}

/// The checks of one cluster.
struct Checks {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    check: HealthCheck,
}

impl Checks {
    async fn go_on(self, room: Arc<Semaphore>) {
        let mut rng = fastrand::Rng::new();
        let mut agenda = Agenda::new(self.check.interval);
        let mut running = FuturesUnordered::new();
        let mut told = false;
        loop {
            let set = self.cluster.live().endpoints.load_full();
            if set.all().len() > MAX_CHECKED && !std::mem::replace(&mut told, true) {
                let cluster = &*self.cluster.config().name;
                tracing::warn!(cluster.name = cluster, "only {MAX_CHECKED} endpoints are checked");
            }
            let now = Instant::now();
            let checked = set.all().iter().take(MAX_CHECKED);
            agenda.follow(checked.clone().map(|endpoint| endpoint.number()), now, &mut rng);
            for endpoint in checked.filter(|endpoint| agenda.start(endpoint.number(), now)) {
                running.push(self.once(endpoint.clone(), room.clone()));
            }
            tokio::select! {
                Some(number) = running.next(), if !running.is_empty() => {
                    agenda.done(number, Instant::now(), &mut rng);
                }
                () = sleep_until(agenda.next().unwrap_or(now + LOOK_AGAIN).min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    /// One check of one endpoint, and what follows from it.
    async fn once(&self, endpoint: Arc<Endpoint>, room: Arc<Semaphore>) -> u32 {
        let Ok(_place) = room.acquire().await else { return endpoint.number() };
        let asking = Box::pin(probe::probe(&self.shared, &self.cluster, &endpoint, &self.check));
        let result = timeout(self.check.timeout, asking).await.unwrap_or(Err(ProbeError::TimedOut));
        self.judge(&endpoint, result);
        endpoint.number()
    }

    fn judge(&self, endpoint: &Endpoint, result: Result<(), ProbeError>) {
        let before = endpoint.state.vitals();
        let after = before.after(&self.check, result.is_ok());
        endpoint.state.set_vitals(after);
        if before.is_healthy() == after.is_healthy() {
            return;
        }
        self.cluster.live().obey_health();
        let addr = endpoint.config().address;
        let cluster = &*self.cluster.config().name;
        match result {
            Ok(()) => {
                tracing::info!(cluster.name = cluster, endpoint.addr = %addr, "endpoint passes its health check")
            }
            Err(error) => {
                tracing::warn!(cluster.name = cluster, endpoint.addr = %addr, %error, "endpoint fails its health check");
            }
        }
    }
}

#[cfg(test)]
mod tests;
