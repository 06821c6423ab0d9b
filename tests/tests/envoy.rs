//! Envoy takes clusters, endpoints and a route from our control plane, over ADS in both of its forms.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::mesh::Mesh;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use serde_json::{Value, json};

use reviews::{PORT, backends, services, workloads};

#[path = "support/reviews.rs"]
mod reviews;

/// How long Envoy may take to start, and a change to show.
const PATIENCE: Duration = Duration::from_secs(20);
const ADMIN_PORT: u16 = 9901;
const ROUTE: &str = "reviews.shop.svc.cluster.local:9080";
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Envoy in front of two versions of reviews.
struct Gateway {
    found: Found,
    mesh: Mesh,
    subnet: Subnet,
    control_plane: Process,
    envoy: Process,
    _origins: Vec<Origin>,
}

impl Gateway {
    /// `api_type` is Envoy's word for the form of xDS.
    async fn start(api_type: &str) -> Option<Self> {
        let found = counterparts::need(&[Counterpart::Envoy, Counterpart::Curl])?;
        let subnet = Subnet::claim();
        let mut origins = Vec::new();
        for (name, host) in [("v1", 1), ("v2", 2), ("v2-new", 3)] {
            origins.push(Origin::start(name, subnet.address(host, PORT)).await.unwrap());
        }
        let mesh = Mesh::new().unwrap();
        mesh.write("services.yaml", &services("http")).unwrap();
        mesh.write("workloads.yaml", &workloads(origins[0].address(), origins[1].address())).unwrap();
        mesh.write("route.yaml", &route(75, 25)).unwrap();
        let control_plane = mesh.start_control_plane().await.unwrap();
        let file = bootstrap_file(&mesh, api_type, control_plane.address("/xds").unwrap(), &subnet);
        let args = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"];
        let envoy = Program::at(found.path(Counterpart::Envoy)).args(args).args([file]).start().unwrap();
        Some(Self { found, mesh, subnet, control_plane, envoy, _origins: origins })
    }

    async fn curl(&self, args: &[&str]) -> anyhow::Result<String> {
        let always = ["--silent", "--noproxy", "*", "--max-time", "10"];
        Program::at(self.found.path(Counterpart::Curl)).args(always).args(args).output(PATIENCE).await
    }

    /// Which origin answered how many of `number` requests; `None` when one had another answer.
    async fn shares(&self, number: usize) -> Option<BTreeMap<String, usize>> {
        let url = format!("http://{}/[1-{number}]", self.subnet.address(9, PORT));
        let text = self.curl(&["--fail", "--header", "host: reviews.shop:9080", &url]).await.ok()?;
        let mut shares = BTreeMap::new();
        for answer in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            *shares.entry(answer.ok()?["origin"].as_str()?.to_owned()).or_default() += 1;
        }
        (shares.values().sum::<usize>() == number).then_some(shares)
    }

    async fn settles_at(&self, expected: &str) {
        let settled = eventually(PATIENCE, async || {
            let shares = self.shares(20).await?;
            shares.keys().eq([expected]).then_some(())
        });
        assert!(
            settled.await.is_some(),
            "not all reach {expected}: {:?}\n{}",
            self.shares(20).await,
            self.logs()
        );
    }

    /// The counters whose name contains this.
    async fn counters(&self, part: &str) -> BTreeMap<String, u64> {
        let url = format!("http://{}/stats?filter={part}", self.subnet.address(9, ADMIN_PORT));
        let text = self.curl(&[&url]).await.unwrap();
        let counters = text.lines().filter_map(|line| line.split_once(": "));
        counters.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    fn logs(&self) -> String {
        format!("{}\n{}", self.envoy.stderr(), self.control_plane.stderr())
    }
}

#[tokio::test]
async fn envoy_is_configured_with_state_of_the_world() {
    envoy_is_configured("GRPC").await;
}

#[tokio::test]
async fn envoy_is_configured_with_deltas() {
    envoy_is_configured("DELTA_GRPC").await;
}

async fn envoy_is_configured(api_type: &str) {
    let Some(gateway) = Gateway::start(api_type).await else { return };
    let ready = eventually(PATIENCE, async || gateway.shares(1).await);
    assert!(ready.await.is_some(), "{}", gateway.logs());
    let shares = gateway.shares(400).await.expect("every request is answered");
    // 25 % of 400 requests; six standard deviations to each side.
    assert!(shares.keys().eq(["v1", "v2"]) && (48..=152).contains(&shares["v2"]), "{shares:?}");

    gateway.mesh.write("route.yaml", &route(0, 1)).unwrap();
    gateway.settles_at("v2").await;
    let moved = workloads(gateway.subnet.address(1, PORT), gateway.subnet.address(3, PORT));
    gateway.mesh.write("workloads.yaml", &moved).unwrap();
    gateway.settles_at("v2-new").await;

    let rejected = gateway.counters("update_rejected").await;
    for kind in ["cluster_manager.cds.", "cluster.outbound|9080|v2.shop", "rds."] {
        assert!(rejected.keys().any(|name| name.contains(kind)), "{kind} is not counted: {rejected:?}");
    }
    assert!(rejected.values().all(|count| *count == 0), "{rejected:?}\n{}", gateway.logs());
    let clusters = gateway.counters("cluster_manager.active_clusters").await;
    // The control plane's, and every Service of the mesh: the wildcard.
    assert_eq!(clusters["cluster_manager.active_clusters"], 4, "{}", gateway.logs());
}

/// Envoy reads JSON as well as YAML.
fn bootstrap_file(mesh: &Mesh, api_type: &str, xds: SocketAddr, subnet: &Subnet) -> PathBuf {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let bootstrap = json!({
        "node": {"id": "envoy~127.0.0.1~gateway.shop~shop.svc.cluster.local", "cluster": "gateway"},
        "admin": {"address": socket_address(subnet.address(9, ADMIN_PORT))},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
            },
            "cds_config": ads,
        },
        "static_resources": {
            "listeners": [listener(subnet.address(9, PORT), &ads)],
            "clusters": [control_plane_cluster(xds)],
        },
    });
    let file = mesh.path().join("envoy.json");
    fs::write(&file, bootstrap.to_string()).unwrap();
    file
}

fn listener(address: SocketAddr, ads: &Value) -> Value {
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}});
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "gateway",
        "rds": {"route_config_name": ROUTE, "config_source": ads},
        "http_filters": [router],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({"name": "gateway", "address": socket_address(address), "filter_chains": [{"filters": [filter]}]})
}

fn control_plane_cluster(xds: SocketAddr) -> Value {
    let http2 = json!({
        "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    let endpoint = json!({"endpoint": {"address": socket_address(xds)}});
    json!({
        "name": "control-plane",
        "type": "STATIC",
        "typed_extension_protocol_options": {HTTP_OPTIONS: http2},
        "load_assignment": {"cluster_name": "control-plane", "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn route(v1: u32, v2: u32) -> String {
    let backends = backends(v1, v2);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: reviews}}]\n  rules:\n  - backendRefs: {backends}\n"
    )
}
