//! All endpoints of a cluster at one moment, prepared for choosing: who may be chosen, their shares, and what the policy
//! needs beyond them. Made on the control thread when endpoints or the policy change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use outrigger_model::endpoint::{Health, Locality};
use outrigger_model::identity::SpiffeId;
use outrigger_model::policy::{LoadBalancer, LocalityMode, SlowStart};

use super::endpoint::{Endpoint, UNRANKED};
use super::locality::{Nearness, Preference, View};
use super::maglev::Table;
use super::ring::Ring;
use super::shares::Shares;
use super::spill::Carried;

/// What of the policy a set is prepared for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) load_balancer: &'a LoadBalancer,
    pub(super) slow_start: Option<SlowStart>,
    pub(super) locality: Option<LocalityMode>,
    /// Where this proxy runs.
    pub(super) client: &'a Locality,
}

/// The endpoints of a cluster.
#[derive(Debug, Default)]
pub(super) struct EndpointSet {
    all: Vec<Arc<Endpoint>>,
    /// So many at the front of `all` may be chosen.
    candidates: usize,
    /// Of all candidates.
    whole: Shares,
    /// Of the candidates by nearness; empty where that does not matter.
    ranks: Vec<Shares>,
    hashes: Option<Hashes>,
    /// Nobody is new from this moment on.
    new_until: Duration,
}

/// What keys are looked up in.
#[derive(Debug)]
pub(super) enum Hashes {
    Ring(Ring),
    Maglev(Table),
}

impl EndpointSet {
    /// The healthy ones are candidates; when there is none, the draining ones are.
    pub(super) fn new(mut all: Vec<Arc<Endpoint>>, purpose: Purpose<'_>) -> Self {
        let view = View::new(purpose.locality, purpose.client, all.iter().map(|endpoint| endpoint.config()));
        let ranked = view.preference != Preference::Nobody && purpose.load_balancer.hash_on().is_none();
        let nearness = |endpoint: &Endpoint| ranked.then(|| view.nearness(endpoint.config()));
        let strict = ranked && view.preference == Preference::OnlyZone;
        let outside = |endpoint: &Endpoint| strict && nearness(endpoint) != Some(Nearness::Zone);
        all.sort_by_key(|endpoint| {
            (outside(endpoint), endpoint.config().health == Health::Draining, nearness(endpoint))
        });
        let inside = all.iter().filter(|endpoint| !outside(endpoint)).count();
        let healthy = all[..inside].iter().filter(|it| it.config().health == Health::Healthy).count();
        let candidates = if healthy == 0 { inside } else { healthy };
        let mut set = Self { candidates, whole: shares(&all, 0..candidates), ..Self::default() };
        if ranked && !strict {
            set.ranks = ranks(&all[..candidates], nearness);
        }
        set.mark_ranks(&all);
        set.hashes = Hashes::new(purpose.load_balancer, &all[..candidates]);
        if let Some(slow_start) = &purpose.slow_start {
            let since = all[..candidates].iter().filter_map(|endpoint| endpoint.state.new_since());
            set.new_until = since.max().map_or(Duration::ZERO, |since| since + slow_start.window);
        }
        set.all = all;
        set
    }

    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    pub(super) fn candidates(&self) -> &[Arc<Endpoint>] {
        &self.all[..self.candidates]
    }

    /// The shares of all candidates.
    pub(super) fn whole(&self) -> &Shares {
        &self.whole
    }

    /// The shares by nearness, the nearest first; none where that does not matter.
    pub(super) fn ranks(&self) -> &[Shares] {
        &self.ranks
    }

    pub(super) fn hashes(&self) -> Option<&Hashes> {
        self.hashes.as_ref()
    }

    /// Whether somebody may still be new.
    pub(super) fn has_new(&self, at: Duration) -> bool {
        at < self.new_until
    }

    /// What a rank of nearness carries, but for how long its answers take.
    pub(super) fn carried(&self, rank: usize, at: Duration) -> Carried {
        let Some(shares) = self.ranks.get(rank) else { return Carried::default() };
        let endpoints = &self.all[shares.range()];
        let in_use = endpoints.iter().filter(|endpoint| endpoint.state.takes_requests(at));
        let reported: Vec<f64> =
            in_use.clone().filter_map(|endpoint| endpoint.state.load.utilisation(at)).collect();
        let mean = reported.iter().sum::<f64>() / reported.len().max(1) as f64;
        Carried {
            endpoints: endpoints.len(),
            in_use: in_use.count(),
            utilisation: (!reported.is_empty()).then_some(mean),
            ..Carried::default()
        }
    }

    /// The endpoints by what makes them the same endpoint.
    pub(super) fn by_key(&self) -> HashMap<(SocketAddr, Option<SpiffeId>), Arc<Endpoint>> {
        let key = |endpoint: &Arc<Endpoint>| (endpoint.config().address, endpoint.config().identity.clone());
        self.all.iter().map(|endpoint| (key(endpoint), endpoint.clone())).collect()
    }

    /// Each endpoint knows its rank, so that its answers are counted there.
    fn mark_ranks(&self, all: &[Arc<Endpoint>]) {
        for endpoint in all {
            endpoint.state.rank.store(UNRANKED, Relaxed);
        }
        for (rank, shares) in self.ranks.iter().enumerate() {
            for endpoint in &all[shares.range()] {
                endpoint.state.rank.store(rank as u8, Relaxed);
            }
        }
    }
}

impl Hashes {
    fn new(load_balancer: &LoadBalancer, candidates: &[Arc<Endpoint>]) -> Option<Self> {
        let weighted = || -> Vec<_> {
            let weight = |endpoint: &Endpoint| u64::from(endpoint.config().weight.max(1));
            candidates.iter().map(|endpoint| (endpoint.config().address, weight(endpoint))).collect()
        };
        match load_balancer {
            LoadBalancer::RingHash(_) => Some(Self::Ring(Ring::new(&weighted()))),
            LoadBalancer::Maglev(_) => Some(Self::Maglev(Table::new(&weighted()))),
            LoadBalancer::PeakEwma { .. }
            | LoadBalancer::LeastRequest
            | LoadBalancer::RoundRobin
            | LoadBalancer::Random => None,
        }
    }

    /// The first one for a key that fits: its owner as a rule.
    pub(super) fn find(&self, key: u64, fits: impl FnMut(&usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(ring) => ring.from(key).find(fits),
            Self::Maglev(table) => table.from(key).find(fits),
        }
    }
}

fn shares(all: &[Arc<Endpoint>], range: std::ops::Range<usize>) -> Shares {
    let weights: Vec<_> = all[range.clone()].iter().map(|endpoint| endpoint.config().weight).collect();
    Shares::new(range.start, &weights)
}

/// Runs of equal nearness among candidates in its order.
fn ranks<K: PartialEq>(candidates: &[Arc<Endpoint>], nearness: impl Fn(&Endpoint) -> K) -> Vec<Shares> {
    let runs = candidates.chunk_by(|one, other| nearness(one) == nearness(other));
    let mut start = 0;
    let ranks = runs.map(|run| {
        let range = start..start + run.len();
        start = range.end;
        shares(candidates, range)
    });
    ranks.collect()
}
