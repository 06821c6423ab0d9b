//! Which endpoint is taken. To clients that are not ours every cluster that does not hash says round robin, the one
//! policy that all of gRPC's clients take; ours reads the extension.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    LbConfig, LbPolicy, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy as ListedPolicy;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Wire, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::{
    RingHash, ring_hash::HashFunction,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::envoy::r#type::v3::Percent;
use prost::Name;

use crate::cluster::Cluster;
use crate::codec::fault::{Decoded, Fault, refuse};
use crate::codec::wire::ours::hash_on::{self as wire_hash, Key};
use crate::codec::wire::ours::load_balancer::{self as wire_policy, Policy};
use crate::codec::wire::{self, ours};
use crate::policy::{HashCookie, HashOn, LoadBalancer, LocalityMode, SlowStart};

/// The smallest share of its weight that Envoy gives a new endpoint unless told, in percent.
const STANDARD_MIN_WEIGHT_PERCENT: f64 = 10.0;

/// Writes what clients that are not ours go by.
pub(super) fn encode_standard(cluster: &Cluster, to: &mut Wire) {
    match &cluster.load_balancer {
        LoadBalancer::RingHash(_) => {
            to.lb_policy = LbPolicy::RingHash.into();
            to.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig::default()));
        }
        // gRPC's clients refuse a cluster whose policy says Maglev, but pass over it in a list (gRFC A52).
        LoadBalancer::Maglev(_) => {
            let ring = RingHash { hash_function: HashFunction::XxHash.into(), ..RingHash::default() };
            let listed = [wire::pack(&Maglev::default()), wire::pack(&ring)];
            let policies =
                ["envoy.load_balancing_policies.maglev", "envoy.load_balancing_policies.ring_hash"]
                    .into_iter()
                    .zip(listed)
                    .map(|(name, any)| ListedPolicy {
                        typed_extension_config: Some(TypedExtensionConfig {
                            name: name.to_owned(),
                            typed_config: Some(any),
                        }),
                    });
            to.load_balancing_policy = Some(LoadBalancingPolicy { policies: policies.collect() });
        }
        LoadBalancer::PeakEwma { .. }
        | LoadBalancer::LeastRequest
        | LoadBalancer::RoundRobin
        | LoadBalancer::Random => {
            to.lb_config = cluster.slow_start.as_ref().map(|slow_start| {
                let slow_start_config = Some(encode_slow_start(slow_start));
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config })
            });
        }
    }
}

fn encode_slow_start(slow_start: &SlowStart) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: Some(wire::duration(slow_start.window)),
        aggression: None,
        min_weight_percent: Some(Percent { value: slow_start.min_weight_percent.into() }),
    }
}

pub(super) fn encode(balancer: &LoadBalancer) -> ours::LoadBalancer {
    let policy = match balancer {
        LoadBalancer::PeakEwma { default_round_trip, decay } => Policy::PeakEwma(wire_policy::PeakEwma {
            default_round_trip: Some(wire::duration(*default_round_trip)),
            decay: Some(wire::duration(*decay)),
        }),
        LoadBalancer::LeastRequest => Policy::LeastRequest(wire_policy::LeastRequest {}),
        LoadBalancer::RoundRobin => Policy::RoundRobin(wire_policy::RoundRobin {}),
        LoadBalancer::Random => Policy::Random(wire_policy::Random {}),
        LoadBalancer::RingHash(on) => {
            Policy::RingHash(wire_policy::RingHash { hash_on: Some(encode_hash_on(on)) })
        }
        LoadBalancer::Maglev(on) => Policy::Maglev(wire_policy::Maglev { hash_on: Some(encode_hash_on(on)) }),
    };
    ours::LoadBalancer { policy: Some(policy) }
}

pub(super) fn encode_exact_slow_start(slow_start: &SlowStart) -> ours::SlowStart {
    ours::SlowStart {
        window: Some(wire::duration(slow_start.window)),
        min_weight_percent: slow_start.min_weight_percent,
    }
}

pub(super) fn encode_locality(mode: Option<LocalityMode>) -> ours::LocalityMode {
    match mode {
        None => ours::LocalityMode::Unspecified,
        Some(LocalityMode::PreferLocal) => ours::LocalityMode::PreferLocal,
        Some(LocalityMode::Strict) => ours::LocalityMode::Strict,
        Some(LocalityMode::Off) => ours::LocalityMode::Off,
    }
}

fn encode_hash_on(on: &HashOn) -> ours::HashOn {
    let key = match on {
        HashOn::Header(name) => Key::Header(name.as_str().to_owned()),
        HashOn::Cookie(cookie) => Key::Cookie(wire_hash::Cookie {
            name: cookie.name.as_ref().into(),
            ttl: cookie.ttl.map(wire::duration),
        }),
        HashOn::SourceIp => Key::SourceIp(wire_hash::SourceIp {}),
    };
    ours::HashOn { key: Some(key) }
}

pub(super) fn decode(wire: &Wire, extension: Option<&ours::ClusterExtension>) -> Decoded<LoadBalancer> {
    match extension.and_then(|extension| extension.load_balancer.as_ref()) {
        Some(balancer) => decode_ours(balancer),
        None => decode_standard(wire),
    }
}

pub(super) fn decode_slow_start(
    wire: &Wire,
    extension: Option<&ours::ClusterExtension>,
) -> Decoded<Option<SlowStart>> {
    if let Some(exact) = extension.and_then(|extension| extension.slow_start.as_ref()) {
        let window = wire::optional_duration("slow_start.window", exact.window.as_ref())?;
        return slow_start(window.unwrap_or_default(), exact.min_weight_percent).map(Some);
    }
    let standard = match &wire.lb_config {
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
        _ => None,
    };
    let decoded = standard.map(decode_standard_slow_start).transpose();
    decoded.map(Option::flatten).map_err(|fault| fault.within("lb_config.slow_start_config"))
}

/// A window of 0 turns it off.
fn decode_standard_slow_start(standard: &SlowStartConfig) -> Decoded<Option<SlowStart>> {
    let steep = standard.aggression.as_ref().is_some_and(|aggression| aggression.default_value != 1.0);
    refuse(&[("aggression", steep)])?;
    let window = wire::optional_duration("slow_start_window", standard.slow_start_window.as_ref())?;
    let percent = standard.min_weight_percent.as_ref();
    let percent = percent.map_or(STANDARD_MIN_WEIGHT_PERCENT, |percent| percent.value);
    let percent = wire::percent("min_weight_percent", percent)?;
    match window.filter(|window| !window.is_zero()) {
        Some(window) => slow_start(window, percent.ceil() as u32).map(Some),
        None => Ok(None),
    }
}

fn slow_start(window: std::time::Duration, min_weight_percent: u32) -> Decoded<SlowStart> {
    if window.is_zero() {
        return Err(Fault::new("slow_start.window", "is missing or 0"));
    }
    wire::percent("slow_start.min_weight_percent", min_weight_percent.into())?;
    Ok(SlowStart { window, min_weight_percent })
}

pub(super) fn decode_locality(extension: Option<&ours::ClusterExtension>) -> Decoded<Option<LocalityMode>> {
    let mode = extension.map_or(0, |extension| extension.locality);
    match ours::LocalityMode::try_from(mode) {
        Ok(ours::LocalityMode::Unspecified) => Ok(None),
        Ok(ours::LocalityMode::PreferLocal) => Ok(Some(LocalityMode::PreferLocal)),
        Ok(ours::LocalityMode::Strict) => Ok(Some(LocalityMode::Strict)),
        Ok(ours::LocalityMode::Off) => Ok(Some(LocalityMode::Off)),
        Err(_) => Err(Fault::new("locality", format!("{mode} is not known here"))),
    }
}

fn decode_ours(balancer: &ours::LoadBalancer) -> Decoded<LoadBalancer> {
    match &balancer.policy {
        Some(Policy::PeakEwma(ewma)) => {
            let missing = |field| move || Fault::new(field, "is missing");
            let round_trip = "load_balancer.peak_ewma.default_round_trip";
            let decay = "load_balancer.peak_ewma.decay";
            Ok(LoadBalancer::PeakEwma {
                default_round_trip: wire::optional_duration(round_trip, ewma.default_round_trip.as_ref())?
                    .ok_or_else(missing(round_trip))?,
                decay: wire::optional_duration(decay, ewma.decay.as_ref())?.ok_or_else(missing(decay))?,
            })
        }
        Some(Policy::LeastRequest(_)) => Ok(LoadBalancer::LeastRequest),
        Some(Policy::RoundRobin(_)) => Ok(LoadBalancer::RoundRobin),
        Some(Policy::Random(_)) => Ok(LoadBalancer::Random),
        Some(Policy::RingHash(ring)) => {
            let on = decode_hash_on(ring.hash_on.as_ref());
            on.map(LoadBalancer::RingHash).map_err(|fault| fault.within("load_balancer.ring_hash"))
        }
        Some(Policy::Maglev(maglev)) => {
            let on = decode_hash_on(maglev.hash_on.as_ref());
            on.map(LoadBalancer::Maglev).map_err(|fault| fault.within("load_balancer.maglev"))
        }
        None => Err(Fault::new("load_balancer", "is a policy that is not known here")),
    }
}

fn decode_hash_on(on: Option<&ours::HashOn>) -> Decoded<HashOn> {
    match on.and_then(|on| on.key.as_ref()) {
        Some(Key::Header(name)) => {
            let parsed = name.parse().map_err(|_| Fault::new("hash_on.header", "is not a field name"));
            parsed.map(HashOn::Header)
        }
        Some(Key::Cookie(cookie)) => decode_cookie(cookie).map(HashOn::Cookie),
        Some(Key::SourceIp(_)) => Ok(HashOn::SourceIp),
        None => Err(Fault::new("hash_on", "is missing")),
    }
}

fn decode_cookie(cookie: &wire_hash::Cookie) -> Decoded<HashCookie> {
    wire::token("hash_on.cookie.name", &cookie.name)?;
    let ttl = wire::optional_duration("hash_on.cookie.ttl", cookie.ttl.as_ref())?;
    Ok(HashCookie { name: cookie.name.as_str().into(), ttl })
}

fn decode_standard(wire: &Wire) -> Decoded<LoadBalancer> {
    if let Some(policy) = &wire.load_balancing_policy {
        return decode_list(policy);
    }
    match LbPolicy::try_from(wire.lb_policy) {
        Ok(LbPolicy::RoundRobin) => Ok(LoadBalancer::RoundRobin),
        Ok(LbPolicy::LeastRequest) => Ok(LoadBalancer::LeastRequest),
        Ok(LbPolicy::Random) => Ok(LoadBalancer::Random),
        Ok(other) => Err(Fault::new("lb_policy", format!("{} is not supported", other.as_str_name()))),
        Err(_) => Err(Fault::new("lb_policy", format!("{} is not known here", wire.lb_policy))),
    }
}

/// The first policy of the list that we know, as gRFC A52 says.
fn decode_list(list: &LoadBalancingPolicy) -> Decoded<LoadBalancer> {
    let configs = list.policies.iter().filter_map(|policy| policy.typed_extension_config.as_ref());
    let mut urls = configs.filter_map(|config| config.typed_config.as_ref()).map(|any| &any.type_url);
    let known = urls.find_map(|url| match url {
        url if *url == RoundRobin::type_url() => Some(LoadBalancer::RoundRobin),
        url if *url == LeastRequest::type_url() => Some(LoadBalancer::LeastRequest),
        url if *url == Random::type_url() => Some(LoadBalancer::Random),
        _ => None,
    });
    known.ok_or_else(|| Fault::new("load_balancing_policy", "has no policy that is supported"))
}
