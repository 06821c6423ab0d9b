//! The limits in force, for the control thread: what configuration does not change keeps its counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use outrigger_base::telemetry::metrics::{Counter, Gauge, Kind, MetricSpec, Registry};
use outrigger_model::filter::RateLimit;
use outrigger_model::inbound::{ConcurrencyLimit, Inbound as InboundConfig, Priorities};
use tokio::time::Instant;

use super::gate::Gate;
use super::rate::RateLimiter;

/// The metrics of this module.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: "outrigger_inbound_concurrency_limit",
        kind: Kind::Gauge,
        help: "How many requests the application gets at once at most; 0 without an InboundPolicy that says so.",
        labels: &[],
    },
    MetricSpec {
        name: "outrigger_rate_limit_service_errors_total",
        kind: Kind::Counter,
        help: "Requests for which a rate limit service gave no usable answer in time.",
        labels: &[],
    },
];

/// What stands before the local application.
#[derive(Debug)]
pub struct Inbound {
    /// A policy that cannot be applied: nothing is let in.
    pub closed_by: Option<Arc<str>>,
    /// Requests in time.
    pub rate: Option<Arc<RateLimiter>>,
    /// Requests at once.
    pub gate: Option<Arc<Gate>>,
    /// Who is refused first by the gate.
    pub priorities: Option<Priorities>,
}

/// Finds the live limit of a configuration, or makes it. Limits that nobody holds any more are forgotten.
#[derive(Debug, Default)]
pub struct Limits {
    rates: BTreeMap<Arc<str>, Weak<RateLimiter>>,
    gate: Weak<Gate>,
}

impl Limits {
    /// The limit of this name, with its counts unless it was changed.
    pub fn rate(&mut self, config: &RateLimit, now: Instant) -> Arc<RateLimiter> {
        let known = self.rates.get(&config.name).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.config() == config) {
            return known;
        }
        let made = Arc::new(RateLimiter::new(config.clone(), now));
        self.rates.insert(config.name.clone(), Arc::downgrade(&made));
        made
    }

    /// What stands before the local application; `None` when nothing does.
    pub fn inbound(
        &mut self,
        config: &InboundConfig,
        now: Instant,
        registry: &Registry,
    ) -> Option<Arc<Inbound>> {
        let limits = config.limits.as_deref();
        let rate = limits.and_then(|limits| limits.rate.as_ref()).map(|rate| self.rate(rate, now));
        let concurrency = limits.and_then(|limits| limits.concurrency.as_ref());
        let gate = concurrency.map(|concurrency| self.gate(concurrency, now, registry));
        if gate.is_none() && self.gate.strong_count() > 0 {
            concurrency_limit(registry).set(0.0);
        }
        let closed_by = config.closed_by.clone();
        let priorities = limits.and_then(|limits| limits.priorities.clone());
        let open = closed_by.is_none() && rate.is_none() && gate.is_none();
        (!open).then(|| Arc::new(Inbound { closed_by, rate, gate, priorities }))
    }

    /// Forgets what no snapshot holds any more.
    pub fn forget_unused(&mut self) {
        self.rates.retain(|_, limit| limit.strong_count() > 0);
    }

    fn gate(&mut self, config: &ConcurrencyLimit, now: Instant, registry: &Registry) -> Arc<Gate> {
        if let Some(known) = self.gate.upgrade().filter(|known| known.config() == config) {
            return known;
        }
        let made = Gate::new(config.clone(), now, fastrand::u64(..), concurrency_limit(registry));
        self.gate = Arc::downgrade(&made);
        made
    }
}

fn concurrency_limit(registry: &Registry) -> Gauge {
    registry.declare(METRICS);
    registry.gauge("outrigger_inbound_concurrency_limit", Vec::new())
}

/// Counts calls of rate limit services without a usable answer.
pub fn service_errors(registry: &Registry) -> Counter {
    registry.declare(METRICS);
    registry.counter("outrigger_rate_limit_service_errors_total", Vec::new())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_model::inbound::{InboundLimits, MtlsMode};

    use super::*;

    fn rate(requests: u32) -> RateLimit {
        let per = Duration::from_secs(3600);
        RateLimit { name: "InboundPolicy/shop/a".into(), requests, per, burst: 1, key: Vec::new() }
    }

    fn inbound(rate: RateLimit, max: u32) -> InboundConfig {
        let concurrency = ConcurrencyLimit { name: "InboundPolicy/shop/a".into(), min: 1, max };
        let limits = InboundLimits { rate: Some(rate), concurrency: Some(concurrency), priorities: None };
        InboundConfig { limits: Some(Box::new(limits)), ..InboundConfig::plain(MtlsMode::Strict) }
    }

    #[test]
    fn counts_live_through_changes_of_other_things() {
        let (mut limits, registry, now) = (Limits::default(), Registry::new(), Instant::now());
        let mut of = |config: &InboundConfig| limits.inbound(config, now, &registry).unwrap();
        let first = of(&inbound(rate(1), 10));
        let _slot = first.gate.as_ref().unwrap().enter(now, 0).unwrap();
        let other_mode = InboundConfig { mtls: MtlsMode::Permissive, ..inbound(rate(1), 10) };
        let second = of(&other_mode);
        assert!(Arc::ptr_eq(first.rate.as_ref().unwrap(), second.rate.as_ref().unwrap()));
        assert_eq!(second.gate.as_ref().unwrap().in_flight(), 1);
        let third = of(&inbound(rate(2), 10));
        assert!(!Arc::ptr_eq(first.rate.as_ref().unwrap(), third.rate.as_ref().unwrap()), "another limit");
        assert_eq!(third.gate.as_ref().unwrap().in_flight(), 1, "the same gate");
        let fourth = of(&inbound(rate(2), 11));
        assert_eq!(fourth.gate.as_ref().unwrap().in_flight(), 0, "another gate");
        assert!(limits.inbound(&InboundConfig::plain(MtlsMode::Strict), now, &registry).is_none());
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut limits = Limits::default();
        let held = limits.rate(&rate(1), Instant::now());
        limits.forget_unused();
        assert_eq!(limits.rates.len(), 1);
        drop(held);
        limits.forget_unused();
        assert!(limits.rates.is_empty());
    }
}
