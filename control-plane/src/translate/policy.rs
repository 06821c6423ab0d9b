//! BackendPolicies: which one counts for a destination, and what it says.

use outrigger_model::health_check::{HealthCheck, Probe};
use outrigger_model::policy::{
    ConnectionPolicy, HashCookie, HashOn, Limits, LoadBalancer, LocalityMode, OutlierDetection, RetryBudget,
    SlowStart,
};
use outrigger_resources::backend_policy::{self as resources, BackendPolicy, BackendPolicySpec};
use outrigger_resources::x_backend_traffic_policy::{RetryConstraint, XBackendTrafficPolicy};
use outrigger_resources::{Kind, Object, ObjectRef};

use crate::world::{Held, Term, World, policy_target, policy_targets};

/// How a destination is treated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Treatment {
    pub(crate) load_balancer: LoadBalancer,
    pub(crate) slow_start: Option<SlowStart>,
    pub(crate) locality: Option<LocalityMode>,
    pub(crate) connection: ConnectionPolicy,
    pub(crate) limits: Limits,
    pub(crate) outlier: Option<OutlierDetection>,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) health_check: Option<HealthCheck>,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            load_balancer: LoadBalancer::default(),
            slow_start: None,
            locality: None,
            connection: ConnectionPolicy::default(),
            limits: Limits::default(),
            outlier: Some(OutlierDetection::default()),
            retry_budget: RetryBudget::default(),
            health_check: None,
        }
    }
}

impl Treatment {
    /// What the policies that count for a port say; defaults where nothing is said.
    pub(super) fn of(world: &World, target: &ObjectRef, port_name: &str) -> Self {
        let policy = in_force(world, Kind::BackendPolicy, target, port_name).and_then(|held| policy(held));
        let mut treatment = policy.map(|policy| Self::from(&*policy.spec)).unwrap_or_default();
        let constraint = standard(world, target, port_name).and_then(|policy| policy.spec.retry_constraint);
        if let Some(constraint) =
            constraint.filter(|_| policy.is_none_or(|policy| !says_budget(&policy.spec)))
        {
            treatment.retry_budget = constrained(&constraint);
        }
        treatment
    }
}

/// Whether a BackendPolicy has its own words for the budget of retries; they count before the standard's.
pub(crate) fn says_budget(spec: &BackendPolicySpec) -> bool {
    spec.retry_budget != resources::RetryBudget::default()
}

/// What the standard's policy says that counts for a port.
pub(super) fn standard<'w>(
    world: &'w World,
    target: &ObjectRef,
    port_name: &str,
) -> Option<&'w XBackendTrafficPolicy> {
    match &in_force(world, Kind::XBackendTrafficPolicy, target, port_name)?.object {
        Object::XBackendTrafficPolicy(policy) => Some(policy),
        _ => None,
    }
}

/// A rate that is no whole number a second is rounded up.
fn constrained(constraint: &RetryConstraint) -> RetryBudget {
    let rate = constraint.min_retry_rate;
    RetryBudget {
        percent: f64::from(constraint.budget.percent),
        min_retries_per_second: (f64::from(rate.count) / rate.interval.as_secs_f64()).ceil() as u32,
        interval: constraint.budget.interval,
    }
}

/// The policy of a kind that counts for a port: one that names the port before one for all ports, then the oldest.
pub(crate) fn in_force<'w>(
    world: &'w World,
    kind: Kind,
    target: &ObjectRef,
    port_name: &str,
) -> Option<&'w Held> {
    let found = world.find(&Term::PolicyOf(target.clone())).filter(|held| held.object.kind() == kind);
    let meant = found.filter_map(|held| Some((names_port(held, target, port_name)?, held)));
    meant.min_by_key(|(names_port, held)| (!names_port, held.age.clone())).map(|(_, held)| held.as_ref())
}

/// Whether a policy means this port by name; `None` when it does not mean it at all.
fn names_port(held: &Held, target: &ObjectRef, port_name: &str) -> Option<bool> {
    let namespace = &held.object.meta().namespace;
    let refs = policy_targets(&held.object).iter();
    let mut meant = refs.filter(|to| policy_target(to, namespace).as_ref() == Some(target));
    let named = |to: &&outrigger_resources::route::TargetRef| to.section_name.as_deref() == Some(port_name);
    match meant.clone().any(|to| named(&to)) {
        true => Some(true),
        false => meant.any(|to| to.section_name.is_none()).then_some(false),
    }
}

/// The fields of a policy that this version reads and does not apply.
pub(crate) fn not_applied(spec: &BackendPolicySpec) -> Vec<&'static str> {
    let hashes = matches!(
        spec.load_balancer,
        Some(resources::LoadBalancer::RingHash(_) | resources::LoadBalancer::Maglev(_))
    );
    // A hash names its endpoint, whether that is new or far.
    let fields = [
        (hashes && spec.slow_start.is_some(), "spec.slowStart"),
        (hashes && spec.locality.is_some_and(|mode| mode != resources::LocalityMode::Off), "spec.locality"),
    ];
    fields.into_iter().filter(|(set, _)| *set).map(|(_, field)| field).collect()
}

fn policy(held: &Held) -> Option<&BackendPolicy> {
    match &held.object {
        Object::BackendPolicy(policy) => Some(policy),
        _ => None,
    }
}

impl From<&BackendPolicySpec> for Treatment {
    fn from(spec: &BackendPolicySpec) -> Self {
        Self {
            load_balancer: spec.load_balancer.as_ref().map(load_balancer).unwrap_or_default(),
            slow_start: spec.slow_start.map(slow_start),
            locality: spec.locality.map(locality),
            connection: connection(&spec.connection),
            limits: limits(&spec.circuit_breaker),
            outlier: spec.outlier_detection.enabled.then(|| outlier(&spec.outlier_detection)),
            retry_budget: retry_budget(&spec.retry_budget),
            health_check: spec.health_check.as_ref().map(health_check),
        }
    }
}

fn load_balancer(wanted: &resources::LoadBalancer) -> LoadBalancer {
    match wanted {
        resources::LoadBalancer::PeakEwma(wanted) => peak_ewma(wanted),
        resources::LoadBalancer::LeastRequest => LoadBalancer::LeastRequest,
        resources::LoadBalancer::RoundRobin => LoadBalancer::RoundRobin,
        resources::LoadBalancer::Random => LoadBalancer::Random,
        resources::LoadBalancer::RingHash(on) => LoadBalancer::RingHash(hash_on(on)),
        resources::LoadBalancer::Maglev(on) => LoadBalancer::Maglev(hash_on(on)),
    }
}

fn peak_ewma(wanted: &resources::PeakEwma) -> LoadBalancer {
    let mut ewma = LoadBalancer::default();
    if let LoadBalancer::PeakEwma { default_round_trip, decay } = &mut ewma {
        *default_round_trip = wanted.default_round_trip.unwrap_or(*default_round_trip);
        *decay = wanted.decay.unwrap_or(*decay);
    }
    ewma
}

fn hash_on(wanted: &resources::HashOn) -> HashOn {
    match wanted {
        resources::HashOn::Header(name) => HashOn::Header(name.clone()),
        resources::HashOn::Cookie { name, ttl } => {
            HashOn::Cookie(HashCookie { name: name.as_str().into(), ttl: *ttl })
        }
        resources::HashOn::SourceIp => HashOn::SourceIp,
    }
}

fn slow_start(wanted: resources::SlowStart) -> SlowStart {
    SlowStart { window: wanted.window, min_weight_percent: wanted.min_weight_percent }
}

fn locality(wanted: resources::LocalityMode) -> LocalityMode {
    match wanted {
        resources::LocalityMode::PreferLocal => LocalityMode::PreferLocal,
        resources::LocalityMode::Strict => LocalityMode::Strict,
        resources::LocalityMode::Off => LocalityMode::Off,
    }
}

fn health_check(wanted: &resources::HealthCheck) -> HealthCheck {
    let probe = match &wanted.probe {
        resources::Probe::Http { path, statuses } => {
            Probe::Http { path: path.as_str().into(), statuses: statuses.clone() }
        }
        resources::Probe::Grpc { service } => Probe::Grpc { service: service.as_str().into() },
        resources::Probe::Tcp => Probe::Tcp,
    };
    HealthCheck {
        probe,
        interval: wanted.interval,
        timeout: wanted.timeout,
        healthy_threshold: wanted.healthy_threshold,
        unhealthy_threshold: wanted.unhealthy_threshold,
    }
}

fn connection(wanted: &resources::Connection) -> ConnectionPolicy {
    let default = ConnectionPolicy::default();
    ConnectionPolicy {
        connect_timeout: wanted.connect_timeout.unwrap_or(default.connect_timeout),
        idle_timeout: wanted.idle_timeout.unwrap_or(default.idle_timeout),
        max_lifetime: wanted.max_lifetime.unwrap_or(default.max_lifetime),
        tcp_user_timeout: wanted.tcp_user_timeout.unwrap_or(default.tcp_user_timeout),
    }
}

fn limits(wanted: &resources::CircuitBreaker) -> Limits {
    let default = Limits::default();
    Limits {
        max_connections: wanted.max_connections.unwrap_or(default.max_connections),
        max_pending_requests: wanted.max_pending_requests.unwrap_or(default.max_pending_requests),
        max_requests: wanted.max_requests.unwrap_or(default.max_requests),
        max_retries: wanted.max_retries.unwrap_or(default.max_retries),
    }
}

fn outlier(wanted: &resources::OutlierDetection) -> OutlierDetection {
    let default = OutlierDetection::default();
    OutlierDetection {
        consecutive_errors: wanted.consecutive_errors.unwrap_or(default.consecutive_errors),
        success_rate_percent: wanted.success_rate_percent.unwrap_or(default.success_rate_percent),
        minimum_requests: wanted.minimum_requests.unwrap_or(default.minimum_requests),
        window: wanted.window.unwrap_or(default.window),
        base_ejection_time: wanted.base_ejection_time.unwrap_or(default.base_ejection_time),
        max_ejection_time: wanted.max_ejection_time.unwrap_or(default.max_ejection_time),
        max_ejection_percent: wanted.max_ejection_percent.unwrap_or(default.max_ejection_percent),
    }
}

fn retry_budget(wanted: &resources::RetryBudget) -> RetryBudget {
    let default = RetryBudget::default();
    RetryBudget {
        percent: wanted.percent.unwrap_or(default.percent),
        min_retries_per_second: wanted.min_retries_per_second.unwrap_or(default.min_retries_per_second),
        interval: wanted.interval.unwrap_or(default.interval),
    }
}
