//! Any resource a control plane of ours can make.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::{Cluster, Discovery, DnsName, ServiceRef, UpstreamProtocol};
use crate::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use crate::filter::Filters;
use crate::health_check::{HealthCheck, Probe};
use crate::identity::SpiffeId;
use crate::inbound::{AccessLogFormat, Egress, Inbound, InboundPort, MeshSettings, MtlsMode, Protocol};
use crate::listener::{Handling, Listener, NamedRoute, OpaqueBackend, OpaqueRoute, OpaqueRoutes};
use crate::policy::{
    ConnectionPolicy, GrpcCodes, HashCookie, HashOn, Hedge, Limits, LoadBalancer, LocalityMode,
    OutlierDetection, RetryBudget, RetryPolicy, SlowStart,
};
use crate::resource::Resource;
use crate::route::{
    Action, Backend, BackendTarget, Forward, HeaderChanges, HeaderMatch, PathMatch, Pattern, QueryMatch,
    Route, RouteConfig, RouteMatch, ValueMatch,
};
use crate::session::{SessionAffinity, SessionCarrier};
use crate::upstream_tls::{PeerName, Trust, UpstreamTls};

mod filters;
mod limits;
mod protection;

use filters::cors;

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        cluster().prop_map(Resource::Cluster),
        endpoints().prop_map(Resource::Endpoints),
        listener().prop_map(Resource::Listener),
        inbound().prop_map(Resource::Inbound),
        route_config().prop_map(Resource::Route),
    ]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9./:| é-]{1,12}".prop_map(Arc::from)
}

fn maybe_text() -> impl Strategy<Value = Arc<str>> {
    "[a-z0-9./-]{0,8}".prop_map(Arc::from)
}

fn name() -> impl Strategy<Value = Arc<str>> {
    "[a-z]{1,8}\\.[a-z]{1,8}:[1-9][0-9]{0,3}".prop_map(Arc::from)
}

/// Any length, nothing included.
fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), positive()]
}

fn positive() -> impl Strategy<Value = Duration> {
    (1u64..100_000_000_000_000).prop_map(Duration::from_nanos)
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let service = (maybe_text(), maybe_text(), maybe_text());
    let protocol =
        select(vec![UpstreamProtocol::AsDownstream, UpstreamProtocol::Http1, UpstreamProtocol::Http2]);
    let budget = (0.0..=100.0f64, any::<u32>(), duration());
    (
        (text(), service, discovery(), protocol),
        (load_balancer(), connection(), limits(), option::of(outlier()), budget),
        (
            option::of(health_check()),
            option::of(tls()),
            option::of(slow_start()),
            option::of(locality_mode()),
        ),
    )
        .prop_map(|((name, service, discovery, protocol), rest, more)| {
            let (health_check, tls, slow_start, locality) = more;
            let (load_balancer, connection, limits, outlier, budget) = rest;
            let service = ServiceRef { kind: service.0, namespace: service.1, name: service.2 };
            let retry_budget =
                RetryBudget { percent: budget.0, min_retries_per_second: budget.1, interval: budget.2 };
            Cluster {
                name,
                service,
                discovery,
                protocol,
                load_balancer,
                slow_start,
                locality,
                connection,
                limits,
                outlier,
                retry_budget,
                health_check,
                tls: tls.map(Arc::new),
            }
        })
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    let range = (100u16..600, 100u16..600).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let probe = prop_oneof![
        ("/[a-z]{0,4}", vec(range, 1..4))
            .prop_map(|(path, statuses)| Probe::Http { path: path.into(), statuses }),
        maybe_text().prop_map(|service| Probe::Grpc { service }),
        Just(Probe::Tcp),
    ];
    (probe, positive(), positive(), 1u32.., 1u32..).prop_map(
        |(probe, interval, timeout, healthy_threshold, unhealthy_threshold)| HealthCheck {
            probe,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
        },
    )
}

fn tls() -> impl Strategy<Value = UpstreamTls> {
    let trust = prop_oneof![
        Just(Trust::System),
        text().prop_map(Trust::Roots),
        maybe_text().prop_map(Trust::Nobody),
    ];
    let name = prop_oneof![text().prop_map(PeerName::Dns), text().prop_map(PeerName::Uri)];
    (text(), trust, vec(name, 1..4)).prop_map(|(server_name, trust, names)| UpstreamTls {
        server_name,
        trust,
        names,
    })
}

fn discovery() -> impl Strategy<Value = Discovery> {
    let host = "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}";
    let dns = (host, 1u16..).prop_map(|(host, port)| DnsName { host: host.into(), port });
    prop_oneof![Just(Discovery::Eds), vec(dns, 0..4).prop_map(Discovery::Dns)]
}

fn load_balancer() -> impl Strategy<Value = LoadBalancer> {
    let ewma = (duration(), duration());
    prop_oneof![
        ewma.prop_map(|(default_round_trip, decay)| LoadBalancer::PeakEwma { default_round_trip, decay }),
        Just(LoadBalancer::LeastRequest),
        Just(LoadBalancer::RoundRobin),
        Just(LoadBalancer::Random),
        hash_on().prop_map(LoadBalancer::RingHash),
        hash_on().prop_map(LoadBalancer::Maglev),
    ]
}

fn hash_on() -> impl Strategy<Value = HashOn> {
    let cookie = ("[a-zA-Z_]{1,6}", option::of(duration()));
    prop_oneof![
        header_name().prop_map(HashOn::Header),
        cookie.prop_map(|(name, ttl)| HashOn::Cookie(HashCookie { name: name.into(), ttl })),
        Just(HashOn::SourceIp),
    ]
}

fn slow_start() -> impl Strategy<Value = SlowStart> {
    (positive(), 0..=100u32).prop_map(|(window, min_weight_percent)| SlowStart { window, min_weight_percent })
}

fn locality_mode() -> impl Strategy<Value = LocalityMode> {
    select(vec![LocalityMode::PreferLocal, LocalityMode::Strict, LocalityMode::Off])
}

fn connection() -> impl Strategy<Value = ConnectionPolicy> {
    (duration(), positive(), positive(), duration()).prop_map(|(connect, idle, lifetime, user)| {
        ConnectionPolicy {
            connect_timeout: connect,
            idle_timeout: idle,
            max_lifetime: lifetime,
            tcp_user_timeout: user,
        }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<[u32; 4]>().prop_map(|[connections, pending, requests, retries]| Limits {
        max_connections: connections,
        max_pending_requests: pending,
        max_requests: requests,
        max_retries: retries,
    })
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    (any::<[u32; 2]>(), 0.0..=100.0f64, 0..=100u32, (duration(), duration(), duration())).prop_map(
        |([errors, minimum], rate, most, times)| OutlierDetection {
            consecutive_errors: errors,
            success_rate_percent: rate,
            minimum_requests: minimum,
            window: times.0,
            base_ejection_time: times.1,
            max_ejection_time: times.2,
            max_ejection_percent: most,
        },
    )
}

/// Localities differ, and so do addresses; endpoints of one locality stand together.
fn endpoints() -> impl Strategy<Value = Endpoints> {
    let groups = vec((maybe_text(), vec(endpoint(), 1..4)), 0..4);
    (text(), groups).prop_map(|(cluster, groups)| {
        let mut endpoints = Vec::new();
        for (at, (region, group)) in groups.into_iter().enumerate() {
            let locality = Locality { region, zone: format!("z{at}").into() };
            for mut endpoint in group {
                endpoint.locality = locality.clone();
                endpoint.address.set_port(endpoints.len() as u16 + 1);
                endpoints.push(endpoint);
            }
        }
        Endpoints { cluster, endpoints }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let health = select(vec![Health::Healthy, Health::Draining]);
    let identity = option::of(("[a-z]{1,5}", "[a-z]{1,5}"));
    let hints = vec(text(), 0..3);
    (any::<IpAddr>(), 1u32.., health, (maybe_text(), maybe_text()), identity, hints).prop_map(
        |(ip, weight, health, (namespace, name), identity, hint_zones)| Endpoint {
            address: SocketAddr::new(ip, 1),
            weight,
            health,
            locality: Locality::default(),
            hint_zones,
            workload: WorkloadRef { namespace, name },
            identity: identity.map(|(ns, sa)| SpiffeId::new("cluster.local", &ns, &sa).unwrap()),
        },
    )
}

fn listener() -> impl Strategy<Value = Listener> {
    let handling = prop_oneof![
        name().prop_map(|route_config| Handling::Http { route_config }),
        opaque_routes().prop_map(Handling::Opaque),
        (name(), opaque_routes())
            .prop_map(|(route_config, opaque)| Handling::Detect { route_config, opaque }),
    ];
    (name(), handling).prop_map(|(name, handling)| Listener { name, handling })
}

fn opaque_routes() -> impl Strategy<Value = OpaqueRoutes> {
    // Names are unique in a listener; at most one way has none.
    let hosts = btree_set("(\\*\\.)?[a-z]{1,3}\\.[a-z0-9-]{1,4}", 0..6);
    (hosts, vec(opaque(), 0..4), opaque()).prop_map(|(hosts, routes, otherwise)| {
        let mut hosts = hosts.into_iter().map(Arc::<str>::from);
        let named = routes.into_iter().enumerate().map(|(at, route)| {
            let hosts: Vec<_> = if at == 0 { Vec::new() } else { hosts.by_ref().take(2).collect() };
            (at, NamedRoute { hosts, route })
        });
        let named = named.filter(|(at, named)| *at == 0 || !named.hosts.is_empty());
        OpaqueRoutes { by_name: named.map(|(_, named)| named).collect(), otherwise }
    })
}

fn opaque() -> impl Strategy<Value = OpaqueRoute> {
    let backend = (text(), prop_oneof![Just(1), 1u32..1_000_000]);
    let backend = backend.prop_map(|(cluster, weight)| OpaqueBackend { cluster, weight });
    (maybe_text(), vec(backend, 0..4)).prop_map(|(object, backends)| OpaqueRoute { object, backends })
}

fn inbound() -> impl Strategy<Value = Inbound> {
    let protocol = select(vec![Protocol::Detect, Protocol::Http1, Protocol::Http2, Protocol::Opaque]);
    let port = (1u16.., protocol, maybe_text());
    let port = port.prop_map(|(port, protocol, service)| InboundPort { port, protocol, service });
    let mtls = select(vec![MtlsMode::Strict, MtlsMode::Permissive]);
    let locality = (maybe_text(), maybe_text()).prop_map(|(region, zone)| Locality { region, zone });
    let limits = (option::of(limits::inbound()), option::of(maybe_text()), locality);
    let protection = (
        option::of(protection::authorization()),
        option::of(protection::jwt()),
        option::of(protection::trust()),
    );
    let inbound = (mtls, vec(port, 0..4), mesh(), limits, protection);
    inbound.prop_map(|(mtls, ports, mesh, (limits, closed_by, locality), (authorization, jwt, trust))| {
        Inbound {
            mtls,
            ports,
            mesh,
            limits: limits.map(Box::new),
            closed_by,
            locality,
            authorization: authorization.map(Box::new),
            jwt: jwt.map(Box::new),
            trust: trust.map(Arc::new),
        }
    })
}

fn mesh() -> impl Strategy<Value = MeshSettings> {
    let egress = select(vec![Egress::Allow, Egress::Deny]);
    let log = option::of(select(vec![AccessLogFormat::Json, AccessLogFormat::Text]));
    ("[a-z.]{1,8}", egress, btree_set(1u16.., 0..5), log).prop_map(|(domain, egress, ports, access_log)| {
        MeshSettings {
            trust_domain: domain.into(),
            egress,
            opaque_ports: ports.into_iter().collect(),
            access_log,
        }
    })
}

fn route_config() -> impl Strategy<Value = RouteConfig> {
    (name(), vec(route(), 0..4)).prop_map(|(name, routes)| RouteConfig { name, routes })
}

fn route() -> impl Strategy<Value = Route> {
    let changes = (changes(), changes());
    (maybe_text(), route_match(), any::<prop::sample::Index>(), changes).prop_flat_map(
        |(object, matches, kind, (request_headers, response_headers))| {
            let is_prefix = matches!(matches.path, PathMatch::Prefix(_));
            let action = action(kind.index(8), is_prefix);
            action.prop_map(move |(action, filters)| Route {
                object: object.clone(),
                matches: matches.clone(),
                action,
                request_headers: request_headers.clone(),
                response_headers: response_headers.clone(),
                filters: boxed(filters),
            })
        },
    )
}

/// The filters of a route, with the limits that only routes have.
fn with_limits(filters: Filters) -> impl Strategy<Value = Filters> {
    (option::weighted(0.2, limits::rate()), option::weighted(0.2, limits::global())).prop_map(
        move |(local_rate_limit, global_rate_limit)| Filters {
            local_rate_limit,
            global_rate_limit,
            ..filters.clone()
        },
    )
}

/// An action with the filters that mean something beside it.
fn action(kind: usize, is_prefix: bool) -> BoxedStrategy<(Action, Filters)> {
    let answered = |action| (action, option::of(cors()).prop_map(filters::cors_only));
    let plain = match kind {
        0 => answered(maybe_text().prop_map(|why| Action::NoBackend { why }).boxed()).boxed(),
        1 | 2 => answered(filters::redirect(is_prefix).prop_map(Action::Redirect).boxed()).boxed(),
        _ => (forward(is_prefix).prop_map(Action::Forward), filters::filters(is_prefix)).boxed(),
    };
    plain.prop_flat_map(|(action, filters)| (Just(action), with_limits(filters))).boxed()
}

fn boxed(filters: Filters) -> Option<Box<Filters>> {
    (!filters.is_empty()).then(|| Box::new(filters))
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        "/[a-z/]{0,6}".prop_map(|path| PathMatch::Exact(path.into())),
        "(/[a-z]{1,4}){0,3}".prop_map(|path| PathMatch::Prefix(path.into())),
        pattern().prop_map(PathMatch::Regex),
    ];
    let method = option::of(select(vec![Method::GET, Method::POST, Method::from_bytes(b"PURGE").unwrap()]));
    let header = (header_name(), value()).prop_map(|(name, value)| HeaderMatch { name, value });
    let query = (text(), value()).prop_map(|(name, value)| QueryMatch { name, value });
    (path, method, vec(header, 0..3), vec(query, 0..3))
        .prop_map(|(path, method, headers, query)| RouteMatch { path, method, headers, query })
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        maybe_text().prop_map(ValueMatch::Exact),
        pattern().prop_map(ValueMatch::Regex),
        Just(ValueMatch::Present),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let sources = vec!["", "/a.*", "[0-9]+|x", "(?i)ab", "a{2,3}", "\\pL"];
    select(sources).prop_map(|source| Pattern::new(source).unwrap())
}

fn forward(is_prefix: bool) -> impl Strategy<Value = Forward> {
    let first = backend(prop_oneof![Just(1), 1u32..1_000_000].boxed(), is_prefix);
    let rest = vec(backend((0u32..1_000_000).boxed(), is_prefix), 0..3);
    let rules = (option::of(positive()), option::of(retry()), option::of(session()), option::of(hedge()));
    (first, rest, rules).prop_map(|(first, rest, (timeout, retry, session, hedge))| Forward {
        backends: std::iter::once(first).chain(rest).collect(),
        timeout,
        retry,
        session,
        hedge,
    })
}

fn backend(weight: BoxedStrategy<u32>, is_prefix: bool) -> impl Strategy<Value = Backend> {
    let filters = prop_oneof![3 => Just(Filters::default()), 1 => filters::filters(is_prefix)];
    (target(), weight, changes(), changes(), filters).prop_map(
        |(target, weight, request_headers, response_headers, filters)| Backend {
            target,
            weight,
            request_headers,
            response_headers,
            filters: boxed(filters),
        },
    )
}

fn session() -> impl Strategy<Value = SessionAffinity> {
    let cookie = ("[a-zA-Z_-]{1,6}", option::of(duration()));
    let carrier = prop_oneof![
        cookie.prop_map(|(name, max_age)| SessionCarrier::Cookie { name: name.into(), max_age }),
        header_name().prop_map(SessionCarrier::Header),
    ];
    (carrier, option::of(duration()), option::of(duration())).prop_map(
        |(carrier, absolute_timeout, idle_timeout)| SessionAffinity {
            carrier,
            absolute_timeout,
            idle_timeout,
        },
    )
}

fn target() -> impl Strategy<Value = BackendTarget> {
    prop_oneof![
        3 => "outbound|[0-9]{1,4}|[a-z]{1,5}".prop_map(|name| BackendTarget::Cluster(name.into())),
        1 => maybe_text().prop_map(BackendTarget::Invalid),
    ]
}

fn hedge() -> impl Strategy<Value = Hedge> {
    (0.0..=100.0f64, 0.0..=100.0f64)
        .prop_map(|(delay_percentile, max_extra_percent)| Hedge { delay_percentile, max_extra_percent })
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let status = (100u16..600).prop_map(|code| StatusCode::from_u16(code).unwrap());
    let server_errors = (500u16..600).map(|code| StatusCode::from_u16(code).unwrap()).collect::<Vec<_>>();
    let statuses = prop_oneof![3 => vec(status, 0..4), 1 => Just(server_errors)];
    let grpc = vec(0u8..=16, 0..3);
    let grpc = grpc.prop_map(|codes| codes.into_iter().fold(GrpcCodes::default(), GrpcCodes::with));
    let conditions = (statuses, any::<bool>(), grpc, any::<bool>());
    (0u32..4, conditions, option::of(duration()), duration(), duration()).prop_map(
        |(attempts, (statuses, throttled, grpc, on_reset), per_try_timeout, backoff_base, backoff_max)| {
            RetryPolicy {
                attempts,
                statuses,
                throttled,
                grpc,
                on_reset,
                per_try_timeout,
                backoff_base,
                backoff_max,
            }
        },
    )
}

fn changes() -> impl Strategy<Value = HeaderChanges> {
    let value = vec(prop_oneof![Just(b'%'), 32u8..127, 128u8..], 0..6);
    let value = value.prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap());
    let field = (header_name(), value).boxed();
    (vec(header_name(), 0..2), vec(field.clone(), 0..2), vec(field, 0..2))
        .prop_map(|(remove, set, add)| HeaderChanges { remove, set, add })
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z]{1,4}".prop_map(|name| name.parse().unwrap())
}
