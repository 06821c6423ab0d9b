//! A cluster: the endpoints of one destination and how requests get to them.
//!
//! A `Cluster` is one generation of configuration over a `Live` part that outlives it. Leasing an endpoint takes no lock
//! and allocates nothing. What a cluster does not know: connections (see `pool`), routes, and where endpoints come from.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use outrigger_model::cluster::Cluster as Config;
use outrigger_model::endpoint::{Endpoint as EndpointConfig, Endpoints, Locality};
use outrigger_model::policy::LoadBalancer;
use tokio::time::Instant;

use crate::reason::Reason;
use crate::telemetry::Telemetry;

use super::balance::{self, Choice};
use super::endpoint::{Endpoint, EndpointState};
use super::hedging::Hedging;
use super::lease::{Lease, PickContext, Picked};
use super::limits::{ConnectionPermit, Limit, RetryGuard};
use super::live::Live;
use super::metrics::{Metrics, RetryOutcome};
use super::origin::Origin;
use super::pool::Security;
use super::set::{EndpointSet, Purpose};
use super::view::{self, ClusterView};

/// The most endpoints one cluster keeps; more are left out, and that is logged.
pub const MAX_ENDPOINTS: usize = 16_384;

/// One destination's endpoints, limits, budget and statistics.
#[derive(Debug)]
pub struct Cluster {
    config: Arc<Config>,
    label: u32,
    live: Arc<Live>,
    /// TLS to endpoints without a sidecar; `None` is plaintext.
    origin: Option<Arc<Origin>>,
}

impl Cluster {
    /// For the control thread. `previous` is the cluster of the same name before a change: endpoints with their
    /// statistics and ejections, counts and the retry budget are shared with it.
    pub fn new(config: Arc<Config>, previous: Option<&Self>, telemetry: &Telemetry) -> Arc<Self> {
        Self::seen_from(&Locality::default(), config, previous, telemetry)
    }

    /// The same, for a proxy that knows where it runs.
    pub fn seen_from(
        client: &Locality,
        config: Arc<Config>,
        previous: Option<&Self>,
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        let metrics = || Metrics::new(telemetry.registry(), &config.service);
        let live = match previous {
            Some(previous) if previous.config.service == config.service => previous.live.clone(),
            Some(previous) => Arc::new(previous.live.relabelled(metrics())),
            None => Arc::new(Live::new(metrics(), Instant::now(), client.clone())),
        };
        if config.outlier.is_none() {
            live.restore_all();
        }
        if config.health_check.is_none() {
            live.forget_health();
        }
        let label = telemetry.service_label(&config.service);
        let origin = config.tls.as_ref().map(|tls| {
            let same = previous.and_then(|previous| previous.origin.clone()).filter(|it| it.config() == tls);
            same.unwrap_or_else(|| Arc::new(Origin::new(tls.clone())))
        });
        let cluster = Self { config, label, live, origin };
        if previous.is_some_and(|previous| !cluster.is_prepared_like(&previous.config)) {
            let all = cluster.live.endpoints.load().all().to_vec();
            cluster.live.replace(Arc::new(EndpointSet::new(all, cluster.purpose())));
        }
        Arc::new(cluster)
    }

    /// What configuration says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The number telemetry knows the service by.
    pub fn label(&self) -> u32 {
        self.label
    }

    /// How a connection to an endpoint is protected, and who must answer there: its sidecar where it has one.
    pub fn security(&self, endpoint: &EndpointConfig) -> Security {
        match (&endpoint.identity, &self.origin) {
            (Some(identity), _) => Security::Mesh(identity.clone()),
            (None, None) => Security::Plaintext,
            (None, Some(origin)) => Security::Origin(origin.clone()),
        }
    }

    /// For the control thread. Endpoints that stay, by address and identity, keep their state.
    pub fn set_endpoints(&self, endpoints: &Endpoints, telemetry: &Telemetry) {
        if endpoints.endpoints.len() > MAX_ENDPOINTS {
            tracing::warn!(
                cluster.name = &*self.config.name,
                endpoints = endpoints.endpoints.len(),
                "too many endpoints: only the first {MAX_ENDPOINTS} are used"
            );
        }
        let known = self.live.endpoints.load().by_key();
        // Where nobody was before, nobody is new.
        let at = (!known.is_empty()).then(|| self.live.at(Instant::now()));
        let mut listed = HashSet::new();
        let all = endpoints.endpoints.iter().take(MAX_ENDPOINTS).filter_map(|config| {
            let key = (config.address, config.identity.clone());
            let endpoint = self.endpoint(config, known.get(&key), at, telemetry);
            // What is listed twice is one endpoint.
            listed.insert(key).then_some(endpoint)
        });
        let all = all.collect();
        self.live.replace(Arc::new(EndpointSet::new(all, self.purpose())));
    }

    /// Chooses an endpoint and counts a request in flight there until the lease is dropped.
    ///
    /// # Errors
    /// [`Reason::NoEndpoint`] when there is none, [`Reason::Overflow`] when `max_requests` are in flight.
    pub fn lease(self: &Arc<Self>, context: &mut PickContext<'_>) -> Result<Lease, Reason> {
        let set = self.live.endpoints.load();
        if set.candidates().is_empty() {
            return Err(Reason::NoEndpoint);
        }
        if !self.live.counts.enter(Limit::Requests, &self.config.limits) {
            self.live.metrics.overflow(Limit::Requests);
            return Err(Reason::Overflow);
        }
        let at = self.live.at(context.now);
        if context.tried.is_empty() {
            self.live.budget.request(at, &self.config.retry_budget);
        }
        let (index, probe) = self.choose(&set, at, context);
        let endpoint = set.candidates()[index].clone();
        Ok(Lease::new(self.clone(), endpoint, Picked { now: context.now, probe }))
    }

    /// Whether one more retry may be made: within the retry budget and within `max_retries` in flight.
    pub fn allow_retry(&self, now: Instant) -> Option<RetryGuard> {
        let at = self.live.at(now);
        let policy = &self.config.retry_budget;
        if !self.live.budget.allows(at, policy) {
            self.live.metrics.retry(RetryOutcome::Budget);
            return None;
        }
        let guard = RetryGuard::take(&self.live, &self.config.limits)?;
        self.live.budget.retry(at, policy);
        self.live.metrics.retry(RetryOutcome::Allowed);
        Some(guard)
    }

    /// What hedging knows of the destination.
    pub fn hedging(&self) -> &Hedging {
        self.live.hedging.get_or_init(|| Box::new(Hedging::new()))
    }

    /// Counts a request that could be hedged.
    pub fn could_be_hedged(&self, now: Instant) {
        self.hedging().request(self.live.at(now));
    }

    /// Whether a second try may be made beside a slow one: within so many percent of the requests that could have one.
    pub fn allow_hedge(&self, max_extra_percent: f64, now: Instant) -> bool {
        let allowed = self.hedging().allow(self.live.at(now), max_extra_percent);
        let outcome = if allowed { RetryOutcome::Hedged } else { RetryOutcome::HedgeBudget };
        self.live.metrics.retry(outcome);
        allowed
    }

    /// Counts a second try that was answered first.
    pub fn hedge_won(&self) {
        self.live.metrics.retry(RetryOutcome::HedgeWon);
    }

    /// Counts a retry that is left to a proxy before this one.
    pub fn left_to_caller(&self) {
        self.live.metrics.retry(RetryOutcome::LeftToCaller);
    }

    /// A place among the cluster's connections, for a connection that no pool keeps. Held as long as the connection.
    ///
    /// # Errors
    /// [`Reason::Overflow`] when `max_connections` are open.
    pub fn connection_permit(&self) -> Result<ConnectionPermit, Reason> {
        ConnectionPermit::take(&self.live, &self.config.limits).ok_or_else(|| {
            self.live.metrics.overflow(Limit::Connections);
            Reason::Overflow
        })
    }

    /// What an admin sees.
    pub fn view(&self, now: Instant) -> ClusterView {
        view::of(&self.config, &self.live, self.live.at(now))
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// There is at least one candidate, so there is always an answer: the last rule of `pick` takes anybody.
    fn choose(&self, set: &EndpointSet, at: Duration, context: &mut PickContext<'_>) -> (usize, bool) {
        let choice = Choice {
            policy: &self.config.load_balancer,
            slow_start: self.config.slow_start.as_ref(),
            at,
            tried: context.tried,
            affinity: context.affinity,
            turn: &self.live.turn,
            spill: &self.live.spill,
            reported: self.live.reported.load(Relaxed),
        };
        // A session that has its endpoint does not leave it to try another.
        if let Some(index) = balance::in_session(set, &choice) {
            return (index, false);
        }
        if let Some(index) = self.live.start_probe(set, at, context.tried) {
            return (index, true);
        }
        (balance::pick(set, &choice, context.rng).unwrap_or(0), false)
    }

    /// Whether what endpoints say of their load changes anything.
    pub(super) fn wants_reports(&self) -> bool {
        let by_load =
            matches!(self.config.load_balancer, LoadBalancer::LeastRequest | LoadBalancer::PeakEwma { .. });
        by_load || !self.live.endpoints.load().ranks().is_empty()
    }

    fn purpose(&self) -> Purpose<'_> {
        Purpose {
            load_balancer: &self.config.load_balancer,
            slow_start: self.config.slow_start,
            locality: self.config.locality,
            client: &self.live.client,
        }
    }

    /// Whether endpoints that were prepared for another configuration serve this one as they are.
    fn is_prepared_like(&self, other: &Config) -> bool {
        let (one, slow_start, locality) =
            (&self.config.load_balancer, self.config.slow_start, self.config.locality);
        *one == other.load_balancer && slow_start == other.slow_start && locality == other.locality
    }

    /// `known` is the endpoint as it was; one that was not known came to others at `came_at`, or is one of the first.
    fn endpoint(
        &self,
        config: &EndpointConfig,
        known: Option<&Arc<Endpoint>>,
        came_at: Option<Duration>,
        telemetry: &Telemetry,
    ) -> Arc<Endpoint> {
        match known {
            Some(known) if known.config() == config => known.clone(),
            Some(known) => {
                let label = telemetry.endpoint_label(config);
                Arc::new(Endpoint::new(config.clone(), known.number(), label, known.state.clone()))
            }
            None => {
                let number = self.live.next_number.fetch_add(1, Relaxed);
                let label = telemetry.endpoint_label(config);
                let state = came_at.map_or_else(EndpointState::new, EndpointState::newcomer);
                Arc::new(Endpoint::new(config.clone(), number, label, Arc::new(state)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
