//! The ordinary life of pods with sidecars in a real cluster: they are probed and scraped under `Strict`, replaced without
//! the loss of a request, and start before the control plane does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use outrigger_resources::yaml_values;
use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::kube::GatewayApi;
use outrigger_tests::kube::node::{COUNTERPARTS, Images, Node};
use outrigger_tests::process::{Program, cargo_bin};
use serde_json::Value;

/// How long a command may take that waits for pods.
const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(200);
/// How long a change may take until everybody has heard of it.
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// An application with an answer, and with metrics.
const SHOP: &str = include_str!("python/shop.py");
/// Clients that ask it all the time.
const CUSTOMERS: &str = include_str!("python/customers.py");
/// The container of a pod with a sidecar that asks others.
const MESHED: [&str; 3] = ["shop", "client", "main"];
/// That of a pod without.
const STRANGER: [&str; 3] = ["default", "stranger", "main"];
/// What ends the customers.
const ENOUGH: &str = "/tmp/enough";

#[tokio::test]
async fn pods_with_sidecars_live_as_pods_do() {
    let wanted = [&COUNTERPARTS[..], &[Counterpart::Curl, Counterpart::GrpcPython]].concat();
    let Some(found) = counterparts::need_cluster(&wanted) else { return };
    let python = found.path(Counterpart::GrpcPython).display().to_string();
    let node = installed(&found, &python).await;
    strict_workloads_are_probed_and_closed_to_strangers(&node).await;
    metrics_of_both_are_in_one_place(&node).await;
    a_rollout_loses_no_request(&node, &python).await;
    a_pod_waits_for_the_control_plane(&node).await;
}

async fn installed(found: &Found, python: &str) -> Node {
    let images = Images::default()
        .program("outrigger/outrigger-control-plane", &cargo_bin("outrigger-control-plane"), 65532)
        .program("outrigger/outrigger-proxy", &cargo_bin("outrigger-proxy"), 1337)
        .command("test/shop", &[python, "-c", SHOP], 1000)
        .command("test/shell", &["sh", "-c"], 1000);
    let node = Node::start(found, images).await.unwrap();
    node.apply_gateway_api(GatewayApi::Standard).await.unwrap();
    let manifests = Program::at(cargo_bin("outrigger")).args(["install"]).output(HEARD_WITHIN).await.unwrap();
    node.apply(&manifests).await.unwrap();
    rolled_out(&node, "outrigger-system", "outrigger-control-plane").await;
    node
}

async fn strict_workloads_are_probed_and_closed_to_strangers(node: &Node) {
    node.apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {outrigger.dev/inject: enabled}}}",
    )
    .await
    .unwrap();
    // The API server hears of a validator that has begun to serve a moment later than its Deployment.
    let strict = eventually(HEARD_WITHIN, async || node.apply(STRICT).await.ok());
    strict.await.expect("a policy is taken");
    node.apply(SHOP_DEPLOYMENT).await.unwrap();
    node.apply(CLIENTS).await.unwrap();
    rolled_out(node, "shop", "shop").await;
    node.ready("shop", "client").await.unwrap();
    node.ready("default", "stranger").await.unwrap();

    let pod = &node.list_json("pods", "shop", "app=shop").await.unwrap()[0];
    let container = &pod["spec"]["containers"][0];
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], 15021, "{container:#}");
    }
    assert_eq!(status(node, MESHED, "http://shop/").await, "200");
    let at_the_pod = format!("http://{}:8080/", pod["status"]["podIP"].as_str().unwrap());
    let refused = eventually(HEARD_WITHIN, async || {
        let status = status(node, STRANGER, &at_the_pod).await;
        ["401", "000"].iter().any(|refused| status.starts_with(refused)).then_some(())
    });
    refused.await.expect("who has no identity is turned away");
    // They have gone on being probed while strangers were turned away.
    node.all_ready("shop", "app=shop", 2).await.unwrap();
}

async fn metrics_of_both_are_in_one_place(node: &Node) {
    for pod in node.list_json("pods", "shop", "app=shop").await.unwrap() {
        let annotations = &pod["metadata"]["annotations"];
        assert_eq!(annotations["prometheus.io/port"], "15020", "{annotations:#}");
        assert_eq!(annotations["prometheus.io/path"], "/metrics", "{annotations:#}");
        let metrics = from_node(node, &pod, ":15020/metrics").await;
        for name in ["outrigger_build_info{", "shop_greetings_total 1"] {
            assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}: {metrics}");
        }
    }
}

async fn a_rollout_loses_no_request(node: &Node, python: &str) {
    let asking = node.command(MESHED, &[python, "-c", CUSTOMERS, "shop", ENOUGH]).unwrap();
    let mut customers = asking.start().unwrap();
    let all_ask = async |times: u32| {
        let asked =
            |number| customers.stdout().contains(&format!("customer {number} has asked {times} times"));
        let found = eventually(HEARD_WITHIN, async || (0..8).all(asked).then_some(()));
        found.await.unwrap_or_else(|| panic!("not {times} times: {}", customers.stdout()));
    };
    all_ask(20).await;
    let before = names(&node.list_json("pods", "shop", "app=shop").await.unwrap());
    node.kubectl(&["rollout", "restart", "deployment", "shop", "-n", "shop"]).await.unwrap();
    rolled_out(node, "shop", "shop").await;
    let are_others = |pods: &[Value]| names(pods).iter().all(|name| !before.contains(name));
    node.wait_for_list("pods", "shop", "app=shop", are_others).await.unwrap();
    node.exec(MESHED, &["touch", ENOUGH]).await.unwrap();
    let code = customers.wait_exit(HEARD_WITHIN).await.unwrap();
    let said = customers.stdout();
    assert!(code == 0 && !said.contains("failed"), "{said}\n{}", customers.stderr());
    eprintln!("a rollout: {}", said.lines().last().unwrap_or_default());
}

async fn a_pod_waits_for_the_control_plane(node: &Node) {
    scale_control_plane(node, 0).await;
    node.apply(&injected(node, EARLY).await).await.unwrap();
    let is_there = |pod: &Value| pod["status"]["podIP"].is_string();
    let pod = node.wait_for("pod", "shop", "early", is_there).await.unwrap();
    let waits = eventually(HEARD_WITHIN, async || {
        let said = from_node(node, &pod, ":15021/healthz/ready").await;
        (said.contains("waiting for") && said.contains("control plane")).then_some(())
    });
    if waits.await.is_none() {
        let said = from_node(node, &pod, ":15021/healthz/ready").await;
        panic!("{said}\n{}", node.logs(["shop", "early", "outrigger-proxy"]));
    }
    scale_control_plane(node, 1).await;
    let pod = node.ready("shop", "early").await.unwrap();
    assert!(
        pod["status"]["initContainerStatuses"].as_array().unwrap().iter().all(|one| one["restartCount"] == 0)
    );
    let early = ["shop", "early", "main"];
    let mut said = Vec::new();
    let answered = eventually(HEARD_WITHIN, async || {
        said.push(status(node, early, "http://shop/").await);
        (said.last()? == "200").then_some(())
    });
    let is_answered = answered.await.is_some();
    // While the control plane begins anew, the first question may come too early.
    eprintln!("an early pod: {said:?}");
    assert!(is_answered, "{said:?}\n{}", node.logs(["shop", "early", "outrigger-proxy"]));
}

/// A pod with a sidecar from the command line, so that no webhook is asked.
async fn injected(node: &Node, pod: &str) -> String {
    let file = node.path().join("early.yaml");
    std::fs::write(&file, pod).unwrap();
    let inject = Program::at(cargo_bin("outrigger")).args(["inject", "-f"]).args([&file]);
    let printed = inject.output(HEARD_WITHIN).await.unwrap();
    let mut pod = yaml_values(&printed).unwrap().remove(0);
    pod["metadata"]["annotations"]["outrigger.dev/inject"] = "disabled".into();
    pod.to_string()
}

async fn scale_control_plane(node: &Node, replicas: usize) {
    let name = "deployment/outrigger-control-plane";
    let replicas_flag = format!("--replicas={replicas}");
    node.kubectl(&["scale", name, "-n", "outrigger-system", &replicas_flag]).await.unwrap();
    node.all_ready("outrigger-system", "app.kubernetes.io/component=control-plane", replicas).await.unwrap();
}

async fn rolled_out(node: &Node, namespace: &str, deployment: &str) {
    let name = format!("deployment/{deployment}");
    let words = ["rollout", "status", &name, "-n", namespace, "--timeout=180s"];
    if let Err(error) = node.program("kubectl").args(words).output(ROLLED_OUT_WITHIN).await {
        panic!("{error:#}\n{}", state(node).await);
    }
}

/// What a person would look at next.
async fn state(node: &Node) -> String {
    let mut state = node.kubectl(&["get", "pods", "-A", "-o", "wide"]).await.unwrap_or_default();
    for pod in node.list_json("pods", "shop", "").await.unwrap_or_default() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for probe in ["readiness", "liveness"] {
            let said = from_node(node, &pod, &format!(":15021/app-health/shop/{probe}")).await;
            state.push_str(&format!("--- {name} {probe}: {said}\n"));
        }
        for container in ["outrigger-proxy", "main", "shop"] {
            let logs = node.logs(["shop", name, container]);
            state.push_str(&format!("--- {name} {container}\n{logs}\n"));
        }
    }
    state
}

fn names(pods: &[Value]) -> Vec<String> {
    pods.iter().filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect()
}

/// The status that a container is answered with; `000` and the reason when there is no answer.
async fn status(node: &Node, container: [&str; 3], url: &str) -> String {
    let curl = format!(
        "curl --silent --noproxy '*' --max-time 10 --output /dev/null --write-out '%{{http_code}} %{{errormsg}}' {url} || true"
    );
    node.exec(container, &["sh", "-c", &curl]).await.unwrap().trim().to_owned()
}

/// What a pod answers a program of its node, whatever the status is; nothing where nobody listens.
async fn from_node(node: &Node, pod: &Value, port_and_path: &str) -> String {
    let url = format!("http://{}{port_and_path}", pod["status"]["podIP"].as_str().unwrap());
    let curl = node.program_on_node("curl").args(["--silent", "--noproxy", "*", "--max-time", "10", &url]);
    curl.output(HEARD_WITHIN).await.unwrap_or_default()
}

const STRICT: &str = "{apiVersion: outrigger.dev/v1alpha1, kind: InboundPolicy, metadata: {name: strict, namespace: shop}, spec: {mtls: Strict}}";

const SHOP_DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata:
      labels: {app: shop}
      annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '8080', prometheus.io/path: /metrics}
    spec:
      containers:
      - name: shop
        image: test/shop:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1, timeoutSeconds: 5}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 10}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http, appProtocol: http}]}
";

const CLIENTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {containers: [{name: main, image: test/shell, args: ['exec sleep 3000']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default}
spec: {containers: [{name: main, image: test/shell, args: ['exec sleep 3000']}]}
";

const EARLY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: early, namespace: shop}
spec: {containers: [{name: main, image: test/shell, args: ['exec sleep 3000']}]}
";
