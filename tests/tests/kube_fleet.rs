//! Many sidecars and one route: how long it takes from `kubectl apply` until a change is in force in each of them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger_tests::kube::{Cluster, GatewayApi};
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::{client, counterparts};

/// How many sidecars there are: a hundred are for a release build (`cargo test --release --test kube_fleet`), which is
/// what people run.
const PROXIES: usize = if cfg!(debug_assertions) { 25 } else { 100 };
/// How often the route is changed.
const CHANGES: usize = 20;
/// How long a program may take to be ready while a hundred others start.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// The target is a second. Here the sidecars, the API server and tests beside this one may share two cores.
const WITHIN: Duration = Duration::from_secs(10);
/// Where an installation lives.
const MESH: &str = "outrigger-system";

#[tokio::test]
async fn a_route_is_in_force_in_all_proxies_soon_after_it_is_applied() {
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let cluster = Cluster::start(&found).await.unwrap();
    cluster.apply_gateway_api(GatewayApi::Standard).await.unwrap();
    install(&cluster).await;
    cluster.apply(FLEET).await.unwrap();
    cluster.wait_for("serviceaccount", "fleet", "default", |_| true).await.unwrap();
    cluster.apply(POD).await.unwrap();
    cluster.apply(&route(0)).await.unwrap();
    let token = cluster.path().join("fleet.token");
    std::fs::write(&token, cluster.token_of_pod("fleet", "client", "outrigger").await.unwrap()).unwrap();

    let plane = control_plane(&cluster).await;
    let proxies = start(&plane, &token).await;
    let fleet: Vec<_> = proxies.iter().map(|proxy| proxy.address("/outbound/0").unwrap()).collect();
    for address in &fleet {
        until(*address, 0, Instant::now() + READY_WITHIN).await;
    }

    let (mut all, mut alone) = (Vec::new(), Vec::new());
    for change in 1..=CHANGES {
        let begun = Instant::now();
        cluster.apply(&route(change)).await.unwrap();
        alone.push(begun.elapsed());
        all.extend(in_force(&fleet, change, begun).await);
    }
    // One after the other they would take their time to drain.
    proxies.iter().for_each(|proxy| proxy.signal(Signal::Kill).unwrap());
    all.sort_unstable();
    alone.sort_unstable();
    let (p50, p99) = (all[all.len() / 2], all[all.len() * 99 / 100]);
    println!(
        "from the start of kubectl apply to being in force, {CHANGES} changes in {PROXIES} proxies: p50 {p50:?}, p99 {p99:?}; \
         kubectl itself takes {:?}",
        alone[alone.len() / 2]
    );
    assert!(p99 < WITHIN, "p99 is {p99:?}");
}

/// All sidecars, once each of them is ready.
async fn start(plane: &Process, token: &Path) -> Vec<Process> {
    let programs: Vec<_> = (0..PROXIES).map(|number| proxy(plane, token, number)).collect();
    let local = tokio::task::LocalSet::new();
    let starting = programs.into_iter().map(|program| local.spawn_local(program.start_ready(READY_WITHIN)));
    let starting: Vec<_> = starting.collect();
    local
        .run_until(async {
            let mut proxies = Vec::new();
            for starting in starting {
                proxies.push(starting.await.unwrap().unwrap());
            }
            proxies
        })
        .await
}

/// How long each sidecar took, seen from outside: by the answer it gives.
async fn in_force(fleet: &[SocketAddr], change: usize, begun: Instant) -> Vec<Duration> {
    let deadline = begun + WITHIN * 2;
    let mut took = Vec::new();
    for address in fleet {
        until(*address, change, deadline).await;
        took.push(begun.elapsed());
    }
    took
}

/// Waits until a sidecar redirects to the place that this change names.
async fn until(address: SocketAddr, change: usize, deadline: Instant) {
    let wanted = format!("/change-{change}");
    loop {
        let answer = client::get(address, "/").await.map(|answer| answer.header("location").to_owned());
        if answer.as_ref().is_ok_and(|location| location.ends_with(&wanted)) {
            return;
        }
        assert!(Instant::now() < deadline, "{address} does not redirect to {wanted}: {answer:?}");
        tokio::task::yield_now().await;
    }
}

/// What an installation consists of, without what runs in pods and what would call it.
async fn install(cluster: &Cluster) {
    let installation =
        Program::of_workspace("outrigger").args(["install"]).output(READY_WITHIN).await.unwrap();
    let called = [
        "Deployment",
        "Service",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "MeshConfig",
    ];
    let is_called = |object: &&str| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
        called.contains(&kind)
    };
    let objects: Vec<&str> = installation.split("\n---\n").filter(|object| !is_called(object)).collect();
    cluster.apply(&objects.join("\n---\n")).await.unwrap();
    cluster.wait_for("serviceaccount", MESH, "outrigger-control-plane", |_| true).await.unwrap();
}

async fn control_plane(cluster: &Cluster) -> Process {
    let kubeconfig = cluster.kubeconfig_for(MESH, "outrigger-control-plane").await.unwrap();
    let program = Program::of_workspace("outrigger").args(["control-plane", "--kubernetes", "--kubeconfig"]);
    let program = program.args([kubeconfig]).args(["--xds", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    program.start_ready(READY_WITHIN).await.unwrap()
}

fn proxy(plane: &Process, token: &Path, number: usize) -> Program {
    let control_plane = format!("http://{}", plane.address("/xds").unwrap());
    let mut args: Vec<OsString> = ["run", "--control-plane", &control_plane].map(OsString::from).into();
    args.extend(["--namespace", "fleet", "--workers", "1", "--token-file"].map(OsString::from));
    args.push(token.into());
    args.extend(["--workload".into(), format!("client-{number}").into()]);
    args.extend(["--outbound", "127.0.0.1:0=reviews.fleet:9080"].map(OsString::from));
    args.extend(["--admin", "127.0.0.1:0", "--metrics", "off", "--health", "off"].map(OsString::from));
    Program::of_workspace("outrigger-proxy").args(args)
}

/// A route that answers by itself, with the number of the change.
fn route(change: usize) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: fleet}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: reviews, port: 9080}}]\n  rules:\n  - filters:\n    \
         - type: RequestRedirect\n      requestRedirect: {{path: {{type: ReplaceFullPath, \
         replaceFullPath: /change-{change}}}}}\n"
    )
}

const FLEET: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: fleet}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: fleet}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080, appProtocol: http}]}
";

/// Whose token the sidecars show.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: fleet}
spec: {containers: [{name: app, image: test/app}]}
";
