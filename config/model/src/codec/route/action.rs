//! Where requests go: clusters by weight, the timeout, the retries.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, InternalRedirectAction,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{RouteAction as Wire, WeightedCluster};

use super::filters;
use crate::codec::fault::{Decoded, Fault, at_most, refuse};
use crate::codec::{MAX_BACKENDS, headers, retry, wire};
use crate::name::INVALID_CLUSTER;
use crate::route::{Backend, BackendTarget, Forward};

/// The timeout of a route that does not say, by the standard.
const STANDARD_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn encode(forward: &Forward) -> Wire {
    Wire {
        cluster_specifier: Some(encode_backends(&forward.backends)),
        // An invalid share is a cluster that does not exist, and is answered like any rule without backends.
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError.into(),
        timeout: Some(wire::duration(forward.timeout.unwrap_or_default())),
        retry_policy: forward.retry.as_ref().and_then(retry::encode),
        ..Wire::default()
    }
}

pub(super) fn decode(wire: &Wire) -> Decoded<Forward> {
    refuse_unsupported(wire)?;
    let timeout = wire::optional_duration("timeout", wire.timeout.as_ref())?.unwrap_or(STANDARD_TIMEOUT);
    let retry = wire.retry_policy.as_ref().map(retry::decode).transpose();
    Ok(Forward {
        backends: decode_backends(wire)?,
        timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        retry: retry.map_err(|fault| fault.within("retry_policy"))?,
        session: None,
        hedge: None,
    })
}

/// Fields that would change where a request goes, what it says, or who may send it.
#[expect(deprecated, reason = "control planes still send the old spelling")]
fn refuse_unsupported(wire: &Wire) -> Decoded<()> {
    let stream = wire.max_stream_duration.as_ref();
    let redirects = wire.internal_redirect_action() == InternalRedirectAction::HandleInternalRedirect;
    refuse(&[
        ("metadata_match", wire.metadata_match.is_some()),
        ("path_rewrite_policy", wire.path_rewrite_policy.is_some()),
        ("append_x_forwarded_host", wire.append_x_forwarded_host),
        ("idle_timeout", wire::limits(wire.idle_timeout.as_ref())),
        ("max_grpc_timeout", wire::limits(wire.max_grpc_timeout.as_ref())),
        ("max_stream_duration.max_stream_duration", {
            stream.is_some_and(|it| wire::limits(it.max_stream_duration.as_ref()))
        }),
        ("max_stream_duration.grpc_timeout_header_max", {
            stream.is_some_and(|it| wire::limits(it.grpc_timeout_header_max.as_ref()))
        }),
        ("retry_policy_typed_config", wire.retry_policy_typed_config.is_some()),
        ("priority", wire.priority() != RoutingPriority::Default),
        ("rate_limits", !wire.rate_limits.is_empty()),
        ("cors", wire.cors.is_some()),
        ("upgrade_configs", !wire.upgrade_configs.is_empty()),
        ("internal_redirect_policy", wire.internal_redirect_policy.is_some()),
        ("internal_redirect_action", redirects),
        ("hedge_policy", wire.hedge_policy.is_some()),
    ])
}

fn encode_backends(backends: &[Backend]) -> ClusterSpecifier {
    let plain = |it: &Backend| *it == Backend::plain(it.target.clone(), 1);
    if let [only] = backends
        && plain(only)
    {
        return ClusterSpecifier::Cluster(encode_target(&only.target));
    }
    let weights: Vec<_> = backends.iter().map(|backend| u64::from(backend.weight)).collect();
    let clusters = backends.iter().zip(wire::fit(&weights));
    let clusters = clusters.map(|(backend, weight)| encode_share(backend, weight)).collect();
    ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..WeightedCluster::default() })
}

fn encode_share(backend: &Backend, weight: u32) -> ClusterWeight {
    let request = headers::encode(&backend.request_headers);
    let response = headers::encode(&backend.response_headers);
    let mut share = ClusterWeight {
        name: encode_target(&backend.target),
        weight: wire::number(weight),
        request_headers_to_add: request.add,
        request_headers_to_remove: request.remove,
        response_headers_to_add: response.add,
        response_headers_to_remove: response.remove,
        ..ClusterWeight::default()
    };
    if let Some(filters) = &backend.filters {
        filters::encode_share(filters, &mut share);
    }
    share
}

pub(super) fn encode_target(target: &BackendTarget) -> String {
    match target {
        BackendTarget::Cluster(name) => name.as_ref().into(),
        BackendTarget::Invalid(why) => format!("{INVALID_CLUSTER}{why}"),
    }
}

fn decode_backends(wire: &Wire) -> Decoded<Vec<Backend>> {
    match &wire.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(vec![Backend::plain(decode_target("cluster", name)?, 1)]),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            decode_weighted(weighted).map_err(|fault| fault.within("weighted_clusters"))
        }
        Some(ClusterSpecifier::ClusterHeader(_)) => Err(Fault::new("cluster_header", "is not supported")),
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
            Err(Fault::new("cluster_specifier_plugin", "is not supported"))
        }
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(Fault::new("inline_cluster_specifier_plugin", "is not supported"))
        }
        None => Err(Fault::new("cluster_specifier", "is missing")),
    }
}

fn decode_weighted(weighted: &WeightedCluster) -> Decoded<Vec<Backend>> {
    refuse(&[("random_value_specifier", weighted.random_value_specifier.is_some())])?;
    at_most("clusters", weighted.clusters.len(), MAX_BACKENDS)?;
    let shares = weighted.clusters.iter().enumerate();
    let shares = shares
        .map(|(at, share)| decode_share(share).map_err(|fault| fault.within(format!("clusters[{at}]"))));
    let backends = shares.collect::<Decoded<Vec<_>>>()?;
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    match total {
        0 => Err(Fault::new("clusters", "has no weight above 0")),
        1..=0xffff_ffff => Ok(backends),
        _ => Err(Fault::new("clusters", format!("has weights that add up to {total}, above 4294967295"))),
    }
}

fn decode_share(share: &ClusterWeight) -> Decoded<Backend> {
    refuse(&[
        ("cluster_header", !share.cluster_header.is_empty()),
        ("metadata_match", share.metadata_match.is_some()),
    ])?;
    let weight = share.weight.ok_or_else(|| Fault::new("weight", "is missing"))?;
    let (add, remove) = (&share.request_headers_to_add, &share.request_headers_to_remove);
    let request_headers = headers::decode("request", add, remove)?;
    let (add, remove) = (&share.response_headers_to_add, &share.response_headers_to_remove);
    let response_headers = headers::decode("response", add, remove)?;
    let target = decode_target("name", &share.name)?;
    let filters = filters::decode_share(share)?;
    let filters = (!filters.is_empty()).then(|| Box::new(filters));
    Ok(Backend { target, weight: weight.value, request_headers, response_headers, filters })
}

pub(super) fn decode_target(field: &str, name: &str) -> Decoded<BackendTarget> {
    wire::not_empty(field, name)?;
    Ok(match name.strip_prefix(INVALID_CLUSTER) {
        Some(why) => BackendTarget::Invalid(why.into()),
        None => BackendTarget::Cluster(name.into()),
    })
}
