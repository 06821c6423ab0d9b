//! What the steps of a request need around them: a cluster's configuration, endpoints, telemetry, what workers share.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_base::lifecycle::drain;
use outrigger_base::telemetry::access_log;
use outrigger_base::telemetry::metrics::Registry;
use outrigger_model::cluster::{Cluster, Discovery, ServiceRef, UpstreamProtocol};
use outrigger_model::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use outrigger_model::policy::{ConnectionPolicy, Limits, LoadBalancer, OutlierDetection, RetryBudget};
use outrigger_proxy::demand;
use outrigger_proxy::snapshot::Snapshot;
use outrigger_proxy::telemetry::{Name, Telemetry};
use outrigger_proxy::worker::{Drains, Interception, Shared};

/// The cluster of everything here.
pub(crate) const CLUSTER: &str = "outbound|9080|reviews.shop";

pub(crate) fn cluster_config() -> Cluster {
    Cluster {
        name: CLUSTER.into(),
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
    }
}

/// Endpoints in the mesh, each a workload of its own.
pub(crate) fn endpoints(count: usize) -> Endpoints {
    let identity =
        "spiffe://cluster.local/ns/shop/sa/reviews".parse().expect("it is a SPIFFE id of a workload");
    let endpoint = |place: usize| {
        // At most thousands: two octets hold them.
        let [.., high, low] = place.to_be_bytes();
        Endpoint {
            address: SocketAddr::from((Ipv4Addr::new(10, 1, high, low), 9080)),
            weight: 1,
            health: Health::Healthy,
            locality: Locality::default(),
            hint_zones: Vec::new(),
            workload: WorkloadRef { namespace: "shop".into(), name: format!("reviews-{place}").into() },
            identity: Some(Clone::clone(&identity)),
        }
    };
    Endpoints { cluster: CLUSTER.into(), endpoints: (0..count).map(endpoint).collect() }
}

pub(crate) fn telemetry() -> Telemetry {
    let (writer, _) = access_log::open(io::sink()).expect("a thread can be started");
    Telemetry::new(Registry::new(), Name::default(), writer)
}

pub(crate) fn shared() -> Arc<Shared> {
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
    let (_, drain) = drain::new(Duration::from_secs(1));
    Arc::new(Shared {
        demand: demand::channel(snapshot.clone()).0,
        snapshot,
        tls: ArcSwapOption::empty(),
        telemetry: telemetry(),
        workload: "web-1".into(),
        namespace: "shop".into(),
        interception: Interception::Explicit,
        drains: Drains { inbound: drain.clone(), outbound: drain },
    })
}
