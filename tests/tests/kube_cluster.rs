//! The cluster that other tests stand on is a real one: it says no, it knows tokens, its controllers work, and it comes
//! back with everything it had.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use outrigger_tests::kube::{Cluster, GatewayApi};
use outrigger_tests::{counterparts, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// How long the cluster may take for what it is bound to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// One for all tests of this file.
async fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let found = counterparts::need_cluster(&[])?;
    Some(CLUSTER.get_or_init(async || Cluster::start(&found).await.unwrap()).await)
}

/// A namespace of one test, once its default service account is there.
async fn namespace(cluster: &Cluster, name: &str) {
    cluster.kubectl(&["create", "namespace", name]).await.unwrap();
    cluster.wait_for("serviceaccount", name, "default", |_| true).await.unwrap();
}

#[tokio::test]
async fn a_service_account_may_do_what_a_role_says_and_nothing_else() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "rights").await;
    let pods = ["get", "pods", "-n", "rights"];
    let refused = cluster.kubectl_as("rights", "default", &pods).await.unwrap_err().to_string();
    assert!(refused.contains("system:serviceaccount:rights:default"), "{refused}");
    assert!(refused.contains("forbidden"), "{refused}");

    let role = ["create", "role", "reader", "--verb=list", "--resource=pods", "-n", "rights"];
    cluster.kubectl(&role).await.unwrap();
    let binding = ["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=rights:default"];
    cluster.kubectl(&[&binding[..], &["-n", "rights"]].concat()).await.unwrap();
    cluster.kubectl_as("rights", "default", &pods).await.unwrap();
    let secrets = cluster.kubectl_as("rights", "default", &["get", "secrets", "-n", "rights"]).await;
    assert!(secrets.unwrap_err().to_string().contains("forbidden"));
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_and_for_as_long_as_its_pod_exists() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "tokens").await;
    cluster.apply(&pod("tokens", "web")).await.unwrap();
    let token = cluster.token_of_pod("tokens", "web", "outrigger").await.unwrap();

    let status = review(cluster, &token, "outrigger").await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:tokens:default");
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));
    let status = review(cluster, &token, "somebody-else").await;
    assert_ne!(status["authenticated"], true, "{status}");

    cluster.kubectl(&["delete", "pod", "web", "-n", "tokens", "--force", "--grace-period=0"]).await.unwrap();
    // The API server remembers a token that was good for ten seconds.
    let refused = eventually(PATIENCE, async || {
        Some(review(cluster, &token, "outrigger").await).filter(|status| status["authenticated"] != true)
    });
    let refused = refused.await.unwrap();
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("invalid")), "{refused}");
}

#[tokio::test]
async fn a_deployment_makes_pods_and_its_service_lists_those_that_are_ready() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "apps").await;
    cluster.apply(DEPLOYMENT).await.unwrap();
    cluster.wait_for("deployment", "apps", "web", |found| found["status"]["replicas"] == 2).await.unwrap();
    let pods = cluster.list_json("pods", "apps", "app=web").await.unwrap();
    assert_eq!(pods.len(), 2);
    cluster.add_node("node-1", "zone-a").await.unwrap();
    for (pod, address) in pods.iter().zip(["10.77.1.2", "10.77.1.3"]) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        cluster.bind_pod("apps", name, "node-1").await.unwrap();
        cluster.set_pod_ready("apps", name, address).await.unwrap();
    }
    cluster
        .wait_for("deployment", "apps", "web", |found| found["status"]["readyReplicas"] == 2)
        .await
        .unwrap();
    let of_web = "kubernetes.io/service-name=web";
    let slices = cluster.wait_for_list("endpointslices", "apps", of_web, |slices| {
        let mut addresses: Vec<_> = slices.iter().flat_map(addresses).collect();
        addresses.sort_unstable();
        addresses == ["10.77.1.2", "10.77.1.3"]
    });
    let slices = slices.await.unwrap();
    assert_eq!(slices[0]["endpoints"][0]["zone"], "zone-a", "{slices:#?}");
}

#[tokio::test]
async fn the_kinds_of_the_gateway_api_can_be_used() {
    let Some(cluster) = cluster().await else { return };
    cluster.apply_gateway_api(GatewayApi::Experimental).await.unwrap();
    namespace(cluster, "routes").await;
    cluster.apply(ROUTE).await.unwrap();
    let route = cluster.get_json("httproute", "routes", "web").await.unwrap();
    assert_eq!(
        route["spec"]["rules"][0]["backendRefs"][0]["weight"], 1,
        "the schema has defaults: {route:#}"
    );
    let refused = cluster.apply(&ROUTE.replace("port: 80", "port: 800000")).await.unwrap_err().to_string();
    assert!(refused.contains("spec.rules[0].backendRefs[0].port"), "{refused}");
}

#[tokio::test]
async fn what_is_stored_outlives_the_api_server() {
    // Not the shared one: its API server is away for a while.
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let cluster = Cluster::start(&found).await.unwrap();
    let url = cluster.url();
    cluster.kubectl(&["create", "namespace", "kept"]).await.unwrap();
    cluster.stop_api().await.unwrap();
    let refused = cluster.get_json("namespace", "", "kept").await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
    cluster.start_api().await.unwrap();
    assert_eq!(cluster.url(), url);
    cluster.get_json("namespace", "", "kept").await.unwrap();

    cluster.pause().unwrap();
    let silent = cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=1s"]).await;
    cluster.resume().unwrap();
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"]).await.unwrap(), "ok");
    // The controllers have found it again.
    cluster.wait_for("serviceaccount", "kept", "default", |_| true).await.unwrap();
}

/// What a TokenReview says of a token.
async fn review(cluster: &Cluster, token: &str, audience: &str) -> Value {
    let client = cluster.client().await.unwrap();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]}});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes());
    let answer: Value = client.request(request.unwrap()).await.unwrap();
    answer["status"].clone()
}

/// The addresses of the endpoints of a slice that are ready.
fn addresses(slice: &Value) -> Vec<String> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready.filter_map(|endpoint| Some(endpoint["addresses"][0].as_str()?.to_owned())).collect()
}

fn pod(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{containers: [{{name: app, image: test/app}}]}}\n"
    )
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: apps}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: test/app, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: routes}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
";
