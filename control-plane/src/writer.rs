//! What the control plane writes into a cluster: status and events, the roots that workloads trust, and the authority
//! of the webhooks. Only the replica that leads writes; those that follow write nothing.
//!
//! Each part compares what should be there with what is there and writes what differs, so that a new leader repeats
//! nothing of the old one's work. What is decided is pure: [`wanted`], [`merge`] and [`agenda`] for statuses; [`bundles`],
//! [`webhooks`] and [`events`] hold such functions beside what does I/O.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use outrigger_base::lifecycle::drain::Drain;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::leader::{Elector, Leadership};
use crate::xds::Hub;

mod agenda;
mod bundles;
mod events;
mod merge;
mod served;
mod statuses;
mod wanted;
mod webhooks;

/// The least time between two writes of one part of the writer, which bounds what a large change costs the API server.
const PACE: Duration = Duration::from_millis(50);

/// The installation that a writer belongs to.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The name of this replica: its pod's. It is the instance in events, and a part of its name in the Lease.
    pub replica: Arc<str>,
    /// The roots that workloads and webhooks' callers trust, as PEM. Another value is written everywhere.
    pub authorities: watch::Receiver<Arc<str>>,
}

/// Writes into the cluster, while this replica leads.
pub struct Writer {
    client: Client,
    hub: Arc<Hub>,
    installation: Installation,
}

impl Writer {
    /// A writer of what becomes of the world in `hub`.
    pub fn new(client: Client, hub: Arc<Hub>, installation: Installation) -> Self {
        Self { client, hub, installation }
    }

    /// Stands for election and writes whenever it leads, until `drain` starts. Then the Lease is given back.
    pub async fn run(self, drain: Drain) {
        // A container that starts again in its pod is not the one that held the Lease.
        let identity = format!("{}_{:08x}", self.installation.replica, fastrand::u32(..));
        let elector = Elector::new(self.client.clone(), &self.installation.namespace, &identity);
        let leadership = elector.leadership();
        tokio::join!(elector.run(drain), self.follow(leadership));
    }

    /// Writes whenever this replica leads, for as long as there are elections.
    async fn follow(&self, mut leadership: watch::Receiver<Leadership>) {
        let is = |wanted: Leadership| move |now: &Leadership| *now == wanted;
        let mut lost = leadership.clone();
        while leadership.wait_for(is(Leadership::Leading)).await.is_ok() {
            tokio::select! {
                () = self.lead() => {}
                _ = lost.wait_for(is(Leadership::Following)) => {}
            }
        }
    }

    /// Writes all there is to write. Dropped when leadership is lost; nothing is written after that.
    async fn lead(&self) {
        tokio::join!(
            statuses::Statuses::new(&self.client, &self.hub, &self.installation).run(),
            bundles::Bundles::new(&self.client, &self.hub, &self.installation).run(),
            webhooks::Webhooks::new(&self.client, &self.installation).run(),
        );
    }
}

/// Waits for a time, for ever when there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
