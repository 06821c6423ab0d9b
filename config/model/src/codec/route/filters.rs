//! What routes and backends do beyond matching, sending on and changing heads.
//!
//! What Envoy has a field for goes there. What it has none for, another path or mirrors of one backend alone, goes into our
//! extension of the route.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use envoy_types::pb::envoy::config::route::v3::{FilterConfig, Route as Wire, RouteAction};

use super::rewrite::{self, Beside};
use super::{action, cors, fault};
use crate::codec::fault::{Decoded, Fault, at_most, refuse, shorten};
use crate::codec::wire::{self, ours};
use crate::codec::{Any, MAX_MIRRORS, limit, share};
use crate::filter::{Filters, Mirror, OriginMatch, PathChange, Rewrite, Share};
use crate::route::{Action, Backend, Route};

/// The filter that Envoy has for CORS.
const CORS: &str = "envoy.filters.http.cors";
/// The filter that Envoy has for failures made on purpose.
const FAULT: &str = "envoy.filters.http.fault";

/// The filters of a route, into its message.
pub(super) fn encode(filters: &Filters, beside: Beside, wire: &mut Wire) {
    if let Some(policy) = &filters.fault {
        wire.typed_per_filter_config.insert(FAULT.to_owned(), fault::encode(policy));
    }
    if let Some(policy) = &filters.cors {
        wire.typed_per_filter_config.insert(CORS.to_owned(), cors::encode(policy));
    }
    if let Some(WireAction::Route(action)) = &mut wire.action {
        if let Some(rewrite) = &filters.rewrite {
            rewrite::encode(rewrite, beside, action);
        }
        action.request_mirror_policies = filters.mirrors.iter().map(encode_mirror).collect();
    }
}

/// What filters do that only our proxies know.
pub(super) fn encode_own(filters: &Filters, extension: &mut ours::RouteExtension) {
    extension.local_rate_limit = filters.local_rate_limit.as_ref().map(limit::encode_rate);
    extension.global_rate_limit = filters.global_rate_limit.as_ref().map(limit::encode_global);
}

fn decode_own(extension: &ours::RouteExtension, filters: &mut Filters) -> Decoded<()> {
    let local = extension.local_rate_limit.as_ref().map(limit::decode_rate).transpose();
    let global = extension.global_rate_limit.as_ref().map(limit::decode_global).transpose();
    filters.local_rate_limit = local.map_err(|fault| fault.within("local_rate_limit"))?;
    filters.global_rate_limit = global.map_err(|fault| fault.within("global_rate_limit"))?;
    Ok(())
}

/// The filters of a backend for which the standard has fields.
pub(super) fn encode_share(filters: &Filters, wire: &mut ClusterWeight) {
    if let Some(policy) = &filters.fault {
        wire.typed_per_filter_config.insert(FAULT.to_owned(), fault::encode(policy));
    }
    if let Some(policy) = &filters.cors {
        wire.typed_per_filter_config.insert(CORS.to_owned(), cors::encode(policy));
    }
    if let Some(host) = filters.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref()) {
        wire.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.as_ref().into()));
    }
}

/// The filters of backends for which the standard has no field.
pub(super) fn encode_backends(backends: &[Backend]) -> Vec<ours::BackendFilters> {
    let with_filters =
        backends.iter().zip(0..).filter_map(|(backend, at)| Some((at, backend.filters.as_ref()?)));
    let encoded = with_filters.map(|(backend, filters)| ours::BackendFilters {
        backend,
        path: filters.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()).map(encode_path),
        mirrors: filters.mirrors.iter().map(encode_own_mirror).collect(),
    });
    encoded.filter(|filters| filters.path.is_some() || !filters.mirrors.is_empty()).collect()
}

/// Reads the filters of a route.
pub(super) fn decode(wire: &Wire, beside: Beside, extension: &ours::RouteExtension) -> Decoded<Filters> {
    let mut filters = decode_configs(&wire.typed_per_filter_config)?;
    decode_own(extension, &mut filters)?;
    if let Some(WireAction::Route(action)) = &wire.action {
        let within = |fault: Fault| fault.within("route");
        filters.rewrite = rewrite::decode(action, beside).map_err(within)?;
        filters.mirrors = decode_mirrors(action).map_err(within)?;
    }
    Ok(filters)
}

/// Reads the filters of a backend for which the standard has fields.
pub(super) fn decode_share(wire: &ClusterWeight) -> Decoded<Filters> {
    let mut filters = decode_configs(&wire.typed_per_filter_config)?;
    if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &wire.host_rewrite_specifier {
        let host = rewrite::read_host(host).map_err(|fault| fault.within("host_rewrite_literal"))?;
        filters.rewrite = Some(Rewrite { host: Some(host.into()), path: None });
    }
    Ok(filters)
}

/// Reads the filters of backends for which the standard has no field, into the backends of their route.
pub(super) fn decode_backends(wire: &[ours::BackendFilters], route: &mut Route) -> Decoded<()> {
    let Action::Forward(forward) = &mut route.action else { return Ok(()) };
    for (at, own) in wire.iter().enumerate() {
        let within = |fault: Fault| fault.within(format!("metadata.backend_filters[{at}]"));
        let backend = usize::try_from(own.backend).ok().and_then(|at| forward.backends.get_mut(at));
        let backend = backend.ok_or_else(|| within(Fault::new("backend", "is not one of the route")))?;
        let filters = backend.filters.get_or_insert_default();
        if let Some(path) = &own.path {
            filters.rewrite.get_or_insert_default().path = Some(decode_path(path).map_err(within)?);
        }
        filters.mirrors = decode_own_mirrors(&own.mirrors).map_err(within)?;
    }
    Ok(())
}

/// How many regular expressions the filters of a route and of its backends have.
pub(super) fn patterns(route: &Route) -> usize {
    let backends = match &route.action {
        Action::Forward(forward) => forward.backends.as_slice(),
        Action::Redirect(_) | Action::NoBackend { .. } => &[],
    };
    let all = route.filters.iter().chain(backends.iter().filter_map(|backend| backend.filters.as_ref()));
    let origins = all.filter_map(|filters| filters.cors.as_ref()).flat_map(|cors| &cors.allow_origins);
    origins.filter(|origin| matches!(origin, OriginMatch::Regex(_))).count()
}

/// Reads what filters are told by name. What a filter that we do not have would do is refused, unless it says of itself
/// that it may be left out.
pub(super) fn decode_configs(configs: &HashMap<String, Any>) -> Decoded<Filters> {
    let mut filters = Filters::default();
    let mut sorted: Vec<_> = configs.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    for (name, any) in sorted {
        let within = |fault: Fault| fault.within(format!("typed_per_filter_config[{}]", shorten(name)));
        match name.as_str() {
            _ if is_optional(any) => {}
            FAULT => filters.fault = Some(fault::decode(any).map_err(within)?),
            CORS => filters.cors = Some(cors::decode(any).map_err(within)?),
            _ => return Err(within(Fault::whole("is not supported"))),
        }
    }
    Ok(filters)
}

fn is_optional(any: &Any) -> bool {
    wire::unpack::<FilterConfig>(any).is_ok_and(|config| config.is_optional)
}

fn encode_mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: action::encode_target(&mirror.target),
        runtime_fraction: Some(share::encode_fixed(mirror.share)),
        // Otherwise Envoy puts `-shadow` behind the host, which no application expects.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

fn decode_mirrors(wire: &RouteAction) -> Decoded<Vec<Mirror>> {
    at_most("request_mirror_policies", wire.request_mirror_policies.len(), MAX_MIRRORS)?;
    let policies = wire.request_mirror_policies.iter().enumerate();
    let mirrors = policies.map(|(at, policy)| {
        decode_mirror(policy).map_err(|fault| fault.within(format!("request_mirror_policies[{at}]")))
    });
    mirrors.collect()
}

fn decode_mirror(wire: &RequestMirrorPolicy) -> Decoded<Mirror> {
    refuse(&[
        ("cluster_header", !wire.cluster_header.is_empty()),
        ("request_headers_mutations", !wire.request_headers_mutations.is_empty()),
        ("host_rewrite_literal", !wire.host_rewrite_literal.is_empty()),
    ])?;
    let share = wire.runtime_fraction.as_ref().map(share::decode_fixed).transpose();
    let share = share.map_err(|fault| fault.within("runtime_fraction"))?;
    Ok(Mirror {
        target: action::decode_target("cluster", &wire.cluster)?,
        share: share.unwrap_or(Share::ALL),
    })
}

fn encode_own_mirror(mirror: &Mirror) -> ours::Mirror {
    let Share { numerator, denominator } = mirror.share;
    ours::Mirror { cluster: action::encode_target(&mirror.target), numerator, denominator }
}

fn decode_own_mirrors(wire: &[ours::Mirror]) -> Decoded<Vec<Mirror>> {
    at_most("mirrors", wire.len(), MAX_MIRRORS)?;
    let mirrors = wire.iter().enumerate().map(|(at, mirror)| {
        decode_own_mirror(mirror).map_err(|fault| fault.within(format!("mirrors[{at}]")))
    });
    mirrors.collect()
}

fn decode_own_mirror(wire: &ours::Mirror) -> Decoded<Mirror> {
    let ours::Mirror { cluster, numerator, denominator } = wire;
    let share = Share::new(*numerator, *denominator);
    let share = share.ok_or_else(|| {
        Fault::new("numerator", format!("{numerator} of {denominator} is not a part of a whole"))
    })?;
    Ok(Mirror { target: action::decode_target("cluster", cluster)?, share })
}

fn encode_path(path: &PathChange) -> ours::PathChange {
    use ours::path_change::Change;
    let change = match path {
        PathChange::Full(path) => Change::Full(rewrite::whole(path)),
        PathChange::Prefix(replacement) => Change::Prefix(replacement.as_ref().into()),
    };
    ours::PathChange { change: Some(change) }
}

fn decode_path(wire: &ours::PathChange) -> Decoded<PathChange> {
    use ours::path_change::Change;
    match &wire.change {
        Some(Change::Full(path)) => Beside::WholePath.decode(path).map_err(|fault| fault.within("path.full")),
        Some(Change::Prefix(replacement)) if replacement.is_empty() => Ok(PathChange::Prefix("".into())),
        Some(Change::Prefix(replacement)) => {
            Beside::Segments.decode(replacement).map_err(|fault| fault.within("path.prefix"))
        }
        None => Err(Fault::new("path", "says nothing")),
    }
}
