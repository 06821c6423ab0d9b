//! What the tests of this module share: clusters, a worker's surroundings, certificates, servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_base::lifecycle::drain;
use outrigger_base::telemetry::access_log;
use outrigger_base::telemetry::metrics::{Format, Registry};
use outrigger_base::tls::{Credentials, MeshTls};
use outrigger_model::cluster::{Cluster as Config, Discovery, ServiceRef, UpstreamProtocol};
use outrigger_model::endpoint::{Endpoint as EndpointConfig, Endpoints, Health, Locality, WorkloadRef};
use outrigger_model::policy::{ConnectionPolicy, Limits, LoadBalancer, OutlierDetection, RetryBudget};
use outrigger_model::trust::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::PrivateKeyDer;

use super::set::{EndpointSet, Purpose};
use super::{Cluster, endpoint};
use crate::demand;
use crate::snapshot::Snapshot;
use crate::telemetry::{Name, Telemetry};
use crate::worker::Shared;

/// The authority of a mesh.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

pub(super) fn telemetry() -> Telemetry {
    let (writer, _) = access_log::open(std::io::sink()).unwrap();
    Telemetry::new(Registry::new(), Name::default(), writer)
}

/// The value of a metric of which there is one series with this label value, or one at all.
pub(super) fn metric(telemetry: &Telemetry, name: &str, label: &str) -> f64 {
    let text = telemetry.registry().render(Format::Prometheus);
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
    let line = line.unwrap_or_else(|| panic!("no {name} with {label} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

pub(super) fn shared() -> Arc<Shared> {
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
    let (_, drain) = drain::new(std::time::Duration::from_secs(1));
    Arc::new(Shared {
        demand: demand::channel(snapshot.clone()).0,
        snapshot,
        tls: ArcSwapOption::empty(),
        telemetry: telemetry(),
        workload: "web-1".into(),
        namespace: "shop".into(),
        interception: crate::worker::Interception::Explicit,
        drains: crate::worker::Drains { inbound: drain.clone(), outbound: drain },
    })
}

pub(super) fn config(change: impl FnOnce(&mut Config)) -> Arc<Config> {
    let mut config = Config {
        name: "outbound|9080|reviews.shop".into(),
        service: ServiceRef { kind: "Service".into(), namespace: "shop".into(), name: "reviews".into() },
        discovery: Discovery::Eds,
        protocol: UpstreamProtocol::AsDownstream,
        load_balancer: LoadBalancer::default(),
        slow_start: None,
        locality: None,
        connection: ConnectionPolicy::default(),
        limits: Limits::default(),
        outlier: Some(OutlierDetection::default()),
        retry_budget: RetryBudget::default(),
        health_check: None,
        tls: None,
    };
    change(&mut config);
    Arc::new(config)
}

/// 10.0.0.`last`:80, healthy, weight 1, outside the mesh.
pub(super) fn endpoint_config(last: u8) -> EndpointConfig {
    at(SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 80)))
}

pub(super) fn at(address: SocketAddr) -> EndpointConfig {
    EndpointConfig {
        address,
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        hint_zones: Vec::new(),
        workload: WorkloadRef::default(),
        identity: None,
    }
}

pub(super) fn endpoints(endpoints: Vec<EndpointConfig>) -> Endpoints {
    Endpoints { cluster: "outbound|9080|reviews.shop".into(), endpoints }
}

/// A set of endpoints with these weights, numbered from 1.
pub(super) fn set(weights: &[u32]) -> EndpointSet {
    set_for(weights, &LoadBalancer::default())
}

/// The same, prepared for a policy.
pub(super) fn set_for(weights: &[u32], load_balancer: &LoadBalancer) -> EndpointSet {
    let endpoint = |(place, weight): (usize, &u32)| {
        let config = EndpointConfig { weight: *weight, ..endpoint_config(place as u8 + 1) };
        let state = Arc::new(endpoint::EndpointState::new());
        Arc::new(endpoint::Endpoint::new(config, place as u32 + 1, 0, state))
    };
    let purpose = Purpose { load_balancer, slow_start: None, locality: None, client: &Locality::default() };
    EndpointSet::new(weights.iter().enumerate().map(endpoint).collect(), purpose)
}

pub(super) fn cluster(telemetry: &Telemetry, change: impl FnOnce(&mut Config), count: u8) -> Arc<Cluster> {
    let cluster = Cluster::new(config(change), None, telemetry);
    cluster.set_endpoints(&endpoints((1..=count).map(endpoint_config).collect()), telemetry);
    cluster
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The certificate of a member of this mesh.
    pub(super) fn member(&self, id: &str) -> Arc<MeshTls> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let credentials = Credentials {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            trust: Trust::alone("cluster.local", [self.0.der().to_vec().into()]),
        };
        Arc::new(MeshTls::build(&credentials).unwrap())
    }
}

/// Keys as requests have them.
pub(super) fn keys() -> impl Iterator<Item = u64> {
    (0..10_000).map(|user: u32| super::hash::xxh64(format!("user-{user}").as_bytes(), 0))
}

/// Who owns each of the keys.
pub(super) fn owners(owner: impl Fn(u64) -> usize) -> Vec<usize> {
    keys().map(owner).collect()
}

/// How much of an equal share of the keys each of some owners has.
pub(super) fn shares(owners: Vec<usize>, count: usize) -> Vec<f64> {
    let mut shares = vec![0.0; count];
    let equal = owners.len() as f64 / count as f64;
    for owner in owners {
        shares[owner] += 1.0 / equal;
    }
    shares
}

/// Addresses with these weights.
pub(super) fn named(weights: &[u32]) -> Vec<(SocketAddr, u64)> {
    let address = |place: usize| SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + place as u32), 80));
    weights.iter().enumerate().map(|(place, weight)| (address(place), u64::from(*weight))).collect()
}
