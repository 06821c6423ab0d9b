//! Which endpoint is taken. To clients that are not ours every cluster says round robin, the one policy that all of
//! gRPC's clients take; ours reads the extension.

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Wire;
use envoy_types::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use prost::Name;

use crate::codec::fault::{Decoded, Fault};
use crate::codec::wire::ours::load_balancer::{self as wire_policy, Policy};
use crate::codec::wire::{self, ours};
use crate::policy::LoadBalancer;

pub(super) fn encode(balancer: &LoadBalancer) -> ours::LoadBalancer {
    let policy = match balancer {
        LoadBalancer::PeakEwma { default_round_trip, decay } => Policy::PeakEwma(wire_policy::PeakEwma {
            default_round_trip: Some(wire::duration(*default_round_trip)),
            decay: Some(wire::duration(*decay)),
        }),
        LoadBalancer::LeastRequest => Policy::LeastRequest(wire_policy::LeastRequest {}),
        LoadBalancer::RoundRobin => Policy::RoundRobin(wire_policy::RoundRobin {}),
        LoadBalancer::Random => Policy::Random(wire_policy::Random {}),
    };
    ours::LoadBalancer { policy: Some(policy) }
}

pub(super) fn decode(wire: &Wire, extension: Option<&ours::ClusterExtension>) -> Decoded<LoadBalancer> {
    match extension.and_then(|extension| extension.load_balancer.as_ref()) {
        Some(balancer) => decode_ours(balancer),
        None => decode_standard(wire),
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
        None => Err(Fault::new("load_balancer", "is a policy that is not known here")),
    }
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
