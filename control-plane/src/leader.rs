//! Which replica writes: leader election by a Lease (`coordination.k8s.io/v1`), as other controllers do it.
//!
//! Every replica serves every proxy; only what is written into the cluster needs one author. [`decide`] is a pure
//! function of what was seen of the Lease and when. Time is that of this process: clocks of replicas may differ, so a
//! Lease counts as expired when it has not changed for its duration since it was first seen as it is.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use outrigger_base::lifecycle::drain::Drain;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kubernetes::names::LEADER_LEASE;
use crate::kubernetes::timed::{CallError, call_within};
use decide::{Action, Seen, claim, decide, released};

mod decide;

/// How long a Lease holds after it was renewed last.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews it, with jitter.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// When a leader that cannot renew stops to lead: well before anybody else may start to.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often who follows looks whether the Lease is free, with jitter.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How soon a failed call is made again, with jitter.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long one call may take: three fit before [`RENEW_DEADLINE`].
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// By which share waits are longer or shorter, so that replicas do not ask at the same moment.
const JITTER: f64 = 0.2;

/// Whether this replica writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// It does, and no other.
    Leading,
    /// Another one does, or nobody.
    Following,
}

/// Stands for election for as long as the process lives.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    me: String,
    seen: Seen,
    leadership: watch::Sender<Leadership>,
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    /// Whether a failure was logged that is not over.
    failing: bool,
}

impl Elector {
    /// Stands for election under a name that no other process has, by the Lease in `namespace`.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            me: identity.to_owned(),
            seen: Seen::nothing(Instant::now()),
            leadership: watch::Sender::new(Leadership::Following),
            renewed: Instant::now(),
            failing: false,
        }
    }

    /// Whether this replica leads, from now on. Closed when [`run`](Self::run) has ended.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Stands for election until `drain` starts; then gives the Lease back, so that another replica leads at once.
    pub async fn run(mut self, drain: Drain) {
        let _unit = drain.guard();
        while !drain.is_started() {
            let outcome = self.turn().await;
            let pause = jittered(self.settle(outcome), fastrand::f64());
            // A leader looks at its own deadline even when everything fails.
            let pause = if self.leads() { pause.min(self.left()) } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = drain.started() => {}
            }
        }
        self.resign().await;
    }

    /// Looks at the Lease, and takes or renews it where that is right.
    async fn turn(&mut self) -> Result<Leadership, CallError> {
        let begun = Instant::now();
        let timeout = if self.leads() { CALL_TIMEOUT.min(self.left()) } else { CALL_TIMEOUT };
        call_within(timeout, async {
            let found = self.api.get_opt(LEADER_LEASE).await?;
            self.seen.observe(found, begun);
            let action = decide(begun, &self.seen, &self.me);
            if action == Action::Wait {
                return Ok(Leadership::Following);
            }
            let lease = claim(self.seen.lease(), &self.me, Timestamp::now());
            let params = PostParams::default();
            let written = match action {
                Action::Create => self.api.create(&params, &lease).await?,
                _ => self.api.replace(LEADER_LEASE, &params, &lease).await?,
            };
            self.seen.observe(Some(written), begun);
            self.renewed = begun;
            Ok(Leadership::Leading)
        })
        .await
    }

    /// Draws the conclusion of a turn. Gives how long to wait for the next one.
    fn settle(&mut self, outcome: Result<Leadership, CallError>) -> Duration {
        match outcome {
            Ok(leadership) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the Lease {LEADER_LEASE} can be read and written again");
                }
                self.tell(leadership);
                if leadership == Leadership::Leading { RENEW_INTERVAL } else { LOOK_INTERVAL }
            }
            // Somebody else was quicker; the next look says who.
            Err(error) if error.is_conflict() => self.give_up_in_time(),
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "the Lease {LEADER_LEASE} cannot be read or written, so that no status is written unless another \
                         replica can: {error}; if it says forbidden, install the Role again (`outrigger install`)"
                    );
                }
                self.give_up_in_time()
            }
        }
    }

    /// Stops to lead when nothing could be renewed for too long.
    fn give_up_in_time(&self) -> Duration {
        if self.left().is_zero() {
            self.tell(Leadership::Following);
        }
        RETRY_INTERVAL
    }

    /// How long this replica may go on to lead without renewing.
    fn left(&self) -> Duration {
        (self.renewed + RENEW_DEADLINE).saturating_duration_since(Instant::now())
    }

    fn leads(&self) -> bool {
        *self.leadership.borrow() == Leadership::Leading
    }

    fn tell(&self, leadership: Leadership) {
        let changed = self.leadership.send_if_modified(|known| {
            let changed = *known != leadership;
            *known = leadership;
            changed
        });
        match (changed, leadership) {
            (true, Leadership::Leading) => {
                tracing::info!(identity = self.me, "this replica leads: it writes status")
            }
            (true, Leadership::Following) => tracing::info!("this replica does not lead any more"),
            (false, _) => {}
        }
    }

    /// Gives the Lease back.
    async fn resign(&self) {
        if !self.leads() {
            return;
        }
        self.tell(Leadership::Following);
        let Some(lease) = self.seen.lease().and_then(|lease| released(lease, Timestamp::now())) else {
            return;
        };
        let params = PostParams::default();
        if let Err(error) = call_within(CALL_TIMEOUT, self.api.replace(LEADER_LEASE, &params, &lease)).await {
            tracing::warn!(
                "the Lease {LEADER_LEASE} is not given back, another replica leads when it expires: {error}"
            );
        }
    }
}

/// A wait that is somewhat longer or shorter, by a random number between 0 and 1.
fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
mod tests;
