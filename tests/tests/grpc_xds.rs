//! gRPC's own xDS client (the C core, by way of Python) is configured by our control plane, without a sidecar.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::mesh::Mesh;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use serde_json::json;

use reviews::{PORT, backends, services, workloads};

#[path = "support/reviews.rs"]
mod reviews;

const SERVER: &str = include_str!("python/grpc_server.py");
const CLIENT: &str = include_str!("python/grpc_client.py");
/// How long a change, or a Python program, may take to show.
const PATIENCE: Duration = Duration::from_secs(20);
/// A method that follows the shares, and one that has a rule of its own.
const METHODS: [&str; 2] = ["/shop.Reviews/Get", "/shop.Reviews/Latest"];

/// Three servers, and the mesh that tells clients of two of them.
struct Shop {
    found: Found,
    mesh: Mesh,
    control_plane: Process,
    subnet: Subnet,
    _servers: Vec<Process>,
}

impl Shop {
    async fn start() -> Option<Self> {
        let found = counterparts::need(&[Counterpart::GrpcPython])?;
        let subnet = Subnet::claim();
        let mut servers = Vec::new();
        for (name, host) in [("v1", 1), ("v2", 2), ("v2-new", 3)] {
            servers.push(start_server(&found, subnet.address(host, PORT), name).await);
        }
        let mesh = Mesh::new().unwrap();
        mesh.write("services.yaml", &services("grpc")).unwrap();
        mesh.write("workloads.yaml", &workloads(subnet.address(1, PORT), subnet.address(2, PORT))).unwrap();
        mesh.write("route.yaml", &route(80, 20)).unwrap();
        let control_plane = mesh.start_control_plane().await.unwrap();
        Some(Self { found, mesh, control_plane, subnet, _servers: servers })
    }

    /// Calls until it is dropped.
    fn client(&self, target: &str) -> Process {
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": self.control_plane.address("/xds").unwrap().to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": "grpc~127.0.0.1~web-1.shop~shop.svc.cluster.local", "metadata": {"NAMESPACE": "shop"}},
        });
        python(&self.found)
            .args(["-c", CLIENT, target, "0"])
            .args(METHODS)
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string())
            .start()
            .unwrap()
    }
}

#[tokio::test]
async fn a_grpc_client_follows_shares_method_rules_and_endpoints() {
    let Some(shop) = Shop::start().await else { return };
    let client = shop.client("xds:///reviews.shop:9080");
    let all = answers(&client, 400).await;
    assert_eq!(
        count(&all, METHODS[1]),
        BTreeMap::from([("v2".to_owned(), 200)]),
        "a method rule decides alone"
    );
    let share = count(&all, METHODS[0]);
    // 20 % of 200 calls; six standard deviations to each side.
    assert!(share.keys().eq(["v1", "v2"]) && (6..=74).contains(&share["v2"]), "{share:?}");

    shop.mesh.write("route.yaml", &route(0, 100)).unwrap();
    follows(&client, "v2").await;

    let moved = workloads(shop.subnet.address(1, PORT), shop.subnet.address(3, PORT));
    shop.mesh.write("workloads.yaml", &moved).unwrap();
    follows(&client, "v2-new").await;
    let written = client.stdout();
    let failed: Vec<_> = written.lines().filter(|line| line.starts_with("failed")).collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", shop.control_plane.stderr());
}

#[tokio::test]
async fn short_and_long_names_are_the_same_service() {
    let Some(shop) = Shop::start().await else { return };
    for name in ["reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
        let client = shop.client(&format!("xds:///{name}:9080"));
        let answers = answers(&client, 4).await;
        assert!(answers.iter().all(|line| line.starts_with('v')), "{name}: {answers:?}");
    }
}

async fn start_server(found: &Found, address: SocketAddr, name: &str) -> Process {
    let server = python(found).args(["-c", SERVER, &address.to_string(), name]).start().unwrap();
    let serving = eventually(PATIENCE, async || server.stdout().contains("serving").then_some(()));
    assert!(serving.await.is_some(), "{}", server.stderr());
    server
}

fn python(found: &Found) -> Program {
    Program::at(found.path(Counterpart::GrpcPython))
}

/// The first lines of a client.
async fn answers(client: &Process, number: usize) -> Vec<String> {
    let lines = eventually(PATIENCE, async || {
        let written = client.stdout();
        // The last line may not be complete.
        let complete = written.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let lines: Vec<_> = complete.lines().take(number).map(str::to_owned).collect();
        (lines.len() == number).then_some(lines)
    });
    let lines = lines.await;
    lines.unwrap_or_else(|| panic!("{number} calls took too long:\n{}{}", client.stdout(), client.stderr()))
}

/// Waits until one server answers every call.
async fn follows(client: &Process, server: &str) {
    let prefix = format!("{server} ");
    let settled = eventually(PATIENCE, async || {
        let written = client.stdout();
        let mut last = written.lines().rev().skip(1).take(50);
        last.all(|line| line.starts_with(&prefix)).then_some(())
    });
    assert!(settled.await.is_some(), "not all calls reach {server}:\n{}", client.stdout());
}

/// Which server answered a method how often.
fn count(answers: &[String], method: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (server, asked) in answers.iter().filter_map(|line| line.split_once(' ')) {
        if asked == method {
            *counts.entry(server.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn route(v1: u32, v2: u32) -> String {
    let backends = backends(v1, v2);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: reviews, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: reviews}}]\n  rules:\n\
         \x20 - matches: [{{method: {{service: shop.Reviews, method: Latest}}}}]\n\
         \x20   backendRefs: [{{name: v2, port: {PORT}}}]\n\
         \x20 - backendRefs: {backends}\n"
    )
}
