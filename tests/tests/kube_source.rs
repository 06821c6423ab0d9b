//! The control plane in a real cluster: with the rights that an installation gives it and no others, it sees what is
//! there, keeps it while the API is away, and knows workloads by the tokens of their pods.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger_base::ca::IstioCertificateRequest;
use outrigger_base::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use outrigger_base::identity::peer_identity;
use outrigger_base::keys::parse_chain_pem;
use outrigger_tests::kube::{Cluster, GatewayApi};
use outrigger_tests::process::{Process, Program};
use outrigger_tests::{client, counterparts, eventually};
use serde_json::Value;
use tokio::sync::OnceCell;
use tonic::Code;

/// How long the control plane may take for what it is bound to do, on a machine that does more beside it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where an installation lives.
const MESH: &str = "outrigger-system";

/// One for the tests of this file that take nothing away from it.
async fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let found = counterparts::need_cluster(&[])?;
    let start = async || {
        let cluster = Cluster::start(&found).await.unwrap();
        cluster.apply_gateway_api(GatewayApi::Standard).await.unwrap();
        install(&cluster).await;
        cluster
    };
    Some(CLUSTER.get_or_init(start).await)
}

/// What an installation consists of, without what runs in pods and what would call it.
async fn install(cluster: &Cluster) {
    let installation = Program::of_workspace("outrigger").args(["install"]).output(PATIENCE).await.unwrap();
    let wanted = [
        "CustomResourceDefinition",
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let is_wanted = |object: &&str| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
        wanted.contains(&kind)
    };
    let objects: Vec<&str> = installation.split("\n---\n").filter(is_wanted).collect();
    assert!(objects.len() > 10, "{installation}");
    // Definitions need a moment before their kinds can be used; nothing here uses them yet.
    cluster.apply(&objects.join("\n---\n")).await.unwrap();
    cluster.wait_for("serviceaccount", MESH, "outrigger-control-plane", |_| true).await.unwrap();
}

/// The control plane as a program, with the rights of its service account.
struct Plane {
    process: Process,
}

impl Plane {
    async fn start(cluster: &Cluster) -> Self {
        let kubeconfig = cluster.kubeconfig_for(MESH, "outrigger-control-plane").await.unwrap();
        Self { process: program(&kubeconfig, &[]).start_ready(PATIENCE).await.unwrap() }
    }

    async fn api(&self, path: &str) -> Value {
        client::get(self.process.address("/http").unwrap(), path).await.unwrap().json()
    }

    async fn count(&self, kind: &str) -> u64 {
        self.api("/api/v1/status").await["counts"][kind].as_u64().unwrap_or_default()
    }

    /// The names of resources that clients may ask for.
    async fn names(&self, kind: &str) -> Vec<String> {
        let answer = self.api(&format!("/api/v1/config?kind={kind}")).await;
        answer["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    async fn has(&self, kind: &str, part: &str) -> bool {
        self.names(kind).await.iter().any(|name| name.contains(part))
    }

    /// Waits until a resource is there, or is not.
    async fn until(&self, kind: &str, part: &str, there: bool) {
        let seen = eventually(PATIENCE, async || (self.has(kind, part).await == there).then_some(()));
        assert!(seen.await.is_some(), "{part}: {:?}\n{}", self.names(kind).await, self.process.stderr());
    }

    /// Who a certificate is for that is given for a token.
    async fn certificate(&self, token: &str) -> Result<String, tonic::Status> {
        let uri = format!("http://{}", self.process.address("/xds").unwrap());
        let channel = tonic::transport::Channel::from_shared(uri).unwrap().connect().await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let mut request = tonic::Request::new(IstioCertificateRequest { csr, ..Default::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
        let chain = answer.into_inner().cert_chain.concat();
        Ok(peer_identity(&parse_chain_pem(chain.as_bytes()).unwrap()[0]).unwrap().to_string())
    }
}

fn program(kubeconfig: &Path, more: &[&str]) -> Program {
    let mut args: Vec<OsString> =
        ["control-plane", "--kubernetes", "--kubeconfig"].map(OsString::from).into();
    args.push(kubeconfig.into());
    args.extend(
        ["--xds", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-format", "text"].map(OsString::from),
    );
    args.extend(more.iter().map(OsString::from));
    Program::of_workspace("outrigger").args(args)
}

async fn namespace(cluster: &Cluster, name: &str) {
    cluster.kubectl(&["create", "namespace", name]).await.unwrap();
    cluster.wait_for("serviceaccount", name, "default", |_| true).await.unwrap();
}

fn service(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: None, selector: {{app: web}}, ports: [{{name: http, port: 9080}}]}}\n"
    )
}

fn pod(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: web}}}}\n\
         spec: {{containers: [{{name: app, image: test/app}}]}}\n"
    )
}

#[tokio::test]
async fn it_sees_the_cluster_with_the_rights_of_an_installation() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "seen").await;
    cluster.apply(&service("seen", "reviews")).await.unwrap();
    let plane = Plane::start(cluster).await;
    assert!(plane.has("cluster", "outbound|9080|reviews.seen.").await, "all is there when it is ready");
    cluster.apply(&service("seen", "ratings")).await.unwrap();
    plane.until("cluster", "ratings.seen.", true).await;
    cluster.kubectl(&["delete", "service", "ratings", "-n", "seen"]).await.unwrap();
    plane.until("cluster", "ratings.seen.", false).await;

    let secret = cluster.get_json("secret", MESH, "outrigger-ca").await.unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let log = plane.process.stderr();
    for bad in ["forbidden", "cannot be read", "refused", "defect"] {
        assert!(!log.contains(bad), "{log}");
    }
}

#[tokio::test]
async fn a_pod_is_at_the_zone_of_its_node_and_is_no_endpoint_after_it_has_finished() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "zones").await;
    cluster.add_node("zones-1", "eu-a").await.unwrap();
    cluster.apply(&format!("{}---\n{}", service("zones", "web"), pod("zones", "web-1"))).await.unwrap();
    cluster.bind_pod("zones", "web-1", "zones-1").await.unwrap();
    cluster.set_pod_ready("zones", "web-1", "10.77.9.2").await.unwrap();
    let plane = Plane::start(cluster).await;
    let endpoints = "/api/v1/config?kind=endpoints&name=outbound%7C9080%7Cweb.zones.svc.cluster.local";
    let zone = eventually(PATIENCE, async || {
        let text = plane.api(endpoints).await["text"].as_str()?.to_owned();
        (text.contains("10.77.9.2") && text.contains("eu-a")).then_some(())
    });
    assert!(zone.await.is_some(), "{:#}", plane.api(endpoints).await);
    let done = r#"{"status":{"phase":"Succeeded"}}"#;
    let patch = ["patch", "pod", "web-1", "-n", "zones", "--subresource=status", "--type=merge", "-p", done];
    cluster.kubectl(&patch).await.unwrap();
    let gone = eventually(PATIENCE, async || {
        let text = plane.api(endpoints).await["text"].as_str()?.to_owned();
        (!text.contains("10.77.9.2")).then_some(())
    });
    assert!(gone.await.is_some(), "{:#}", plane.api(endpoints).await);
}

#[tokio::test]
async fn a_certificate_is_for_the_token_of_a_pod_and_for_no_other() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "who").await;
    cluster.apply(&pod("who", "web-1")).await.unwrap();
    let plane = Plane::start(cluster).await;
    let token = cluster.token_of_pod("who", "web-1", "outrigger").await.unwrap();
    assert_eq!(plane.certificate(&token).await.unwrap(), "spiffe://cluster.local/ns/who/sa/default");

    let foreign = cluster.token_of_pod("who", "web-1", "somebody-else").await.unwrap();
    let unbound = cluster.token("who", "default", "outrigger").await.unwrap();
    for (what, token) in
        [("of another audience", foreign.as_str()), ("not bound", &unbound), ("forged", "a.b.c")]
    {
        let status = plane.certificate(token).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status}");
    }
    cluster.kubectl(&["delete", "pod", "web-1", "-n", "who", "--force", "--grace-period=0"]).await.unwrap();
    // The answer of before counts for a minute; who asks that often is told to be patient first.
    let refused = eventually(PATIENCE, async || {
        plane.certificate(&token).await.err().filter(|status| status.code() == Code::Unauthenticated)
    });
    assert!(refused.await.is_some(), "{}", plane.process.stderr());
}

#[tokio::test]
async fn a_thousand_services_come_and_go() {
    const SERVICES: usize = 1000;
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "many").await;
    let plane = Plane::start(cluster).await;
    let before = plane.count("Service").await;
    let all: Vec<String> = (0..SERVICES).map(|number| service("many", &format!("s{number}"))).collect();
    let all = all.join("---\n");
    let since = Instant::now();
    cluster.apply(&all).await.unwrap();
    let applied = since.elapsed();
    let there = before + SERVICES as u64;
    let seen = eventually(PATIENCE, async || (plane.count("Service").await == there).then_some(()));
    assert!(seen.await.is_some(), "{} of {there}\n{}", plane.count("Service").await, plane.process.stderr());
    eprintln!(
        "{SERVICES} Services were applied in {applied:?} and seen {:?} later",
        since.elapsed() - applied
    );
    cluster.kubectl(&["delete", "services", "--all", "-n", "many", "--wait=false"]).await.unwrap();
    let gone = eventually(PATIENCE, async || (plane.count("Service").await == before).then_some(()));
    assert!(gone.await.is_some(), "{} of {before}", plane.count("Service").await);
}

#[tokio::test]
async fn it_keeps_what_it_knows_while_the_api_is_away_and_finds_kinds_that_are_installed_later() {
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let cluster = Cluster::start(&found).await.unwrap();
    install(&cluster).await;
    namespace(&cluster, "shop").await;
    cluster.apply(&service("shop", "reviews")).await.unwrap();
    cluster.apply(&pod("shop", "web-1")).await.unwrap();
    let plane = Plane::start(&cluster).await;
    assert!(plane.has("cluster", "reviews.shop.").await, "kinds that are not installed hold nothing up");

    cluster.apply_gateway_api(GatewayApi::Standard).await.unwrap();
    cluster.apply(ROUTE).await.unwrap();
    let seen = eventually(PATIENCE, async || (plane.count("HTTPRoute").await == 1).then_some(()));
    assert!(seen.await.is_some(), "{}", plane.process.stderr());

    let token = cluster.token_of_pod("shop", "web-1", "outrigger").await.unwrap();
    cluster.stop_api().await.unwrap();
    assert!(plane.has("cluster", "reviews.shop.").await);
    let status = plane.certificate(&token).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "proxies try again: {status}");
    cluster.start_api().await.unwrap();
    cluster.apply(&service("shop", "ratings")).await.unwrap();
    cluster.kubectl(&["delete", "httproute", "reviews", "-n", "shop"]).await.unwrap();
    plane.until("cluster", "ratings.shop.", true).await;
    let gone = eventually(PATIENCE, async || (plane.count("HTTPRoute").await == 0).then_some(()));
    assert!(gone.await.is_some(), "{}", plane.process.stderr());
    assert!(plane.has("cluster", "reviews.shop.").await);
    plane.certificate(&token).await.unwrap();
    let log = plane.process.stderr();
    assert_eq!(log.matches("the Kubernetes API is away").count(), 1, "{log}");
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_named_with_the_fix() {
    let Some(cluster) = cluster().await else { return };
    namespace(cluster, "broken").await;
    cluster.apply(BROKEN_SECRET).await.unwrap();
    let admin = cluster.kubeconfig();
    let refused = async |more: &[&str]| {
        let mut process = program(&admin, more).start().unwrap();
        (process.wait_exit(PATIENCE).await.unwrap(), process.stderr())
    };
    let (code, log) = refused(&["--mesh-namespace", "broken"]).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("Secret/broken/outrigger-ca: tls.key: is not a private key"), "{log}");

    cluster.apply(INJECTOR).await.unwrap();
    let (code, log) = refused(&["--mesh-namespace", "second"]).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains(MESH) && log.contains("second") && log.contains("a cluster has one"), "{log}");
    let (code, log) = refused(&["--config", "."]).await;
    assert_eq!(code, 2, "{log}");
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules: [{backendRefs: [{name: reviews, port: 9080}]}]
";

const BROKEN_SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: outrigger-ca, namespace: broken}
type: kubernetes.io/tls
stringData: {tls.crt: nothing, tls.key: nothing}
";

/// Of an installation in the usual namespace; it is for no object that is there.
const INJECTOR: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: outrigger-injector}
webhooks:
- name: namespace.inject.outrigger.dev
  clientConfig: {service: {name: outrigger-control-plane, namespace: outrigger-system, path: /inject}}
  rules: [{apiGroups: [nothing.example], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
  sideEffects: None
  admissionReviewVersions: [v1]
";
