//! What the control plane writes into a cluster, with nothing but the rights of an installation: the leader among three
//! replicas, status and events, the roots that workloads trust, and the authority of the webhooks.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_base::lifecycle::drain::{self, Drain, DrainTrigger};
use outrigger_base::telemetry::metrics::Registry;
use outrigger_control_plane::http::meters::Meters;
use outrigger_control_plane::kubernetes::{names, rbac};
use outrigger_control_plane::status::CONTROLLER_NAME;
use outrigger_control_plane::world::{Change, Changed, World};
use outrigger_control_plane::writer::{Installation, Writer};
use outrigger_control_plane::xds::Hub;
use outrigger_resources::{crd, parse_yaml};
use outrigger_tests::counterparts::{self, Found};
use outrigger_tests::kube::{Cluster, GatewayApi};
use outrigger_tests::process::{Process, Program, Signal};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

/// How long a program may take to be ready, or to end, on a machine that does more beside it.
const PATIENCE: Duration = Duration::from_secs(90);
const ROOT: &str = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n";

/// A cluster that has our kinds; one for all tests of this file.
async fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let found = counterparts::need_cluster(&[])?;
    Some(CLUSTER.get_or_init(async || with_our_kinds(&found).await).await)
}

async fn with_our_kinds(found: &Found) -> Cluster {
    let cluster = Cluster::start(found).await.unwrap();
    cluster.apply_gateway_api(GatewayApi::Experimental).await.unwrap();
    cluster.apply(&list(crd::definitions())).await.unwrap();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    cluster.kubectl(&wait).await.unwrap();
    cluster
}

fn list(items: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// An installation whose replicas only write.
struct Mesh<'c> {
    cluster: &'c Cluster,
    /// The namespace of the control plane; that of the users is `<namespace>-shop`.
    namespace: &'static str,
}

/// One control plane of which only the writer runs.
struct Replica {
    hub: Arc<Hub>,
    drain: DrainTrigger,
    _tasks: JoinSet<()>,
}

impl<'c> Mesh<'c> {
    /// Makes the namespaces, the service account and its rights.
    async fn install(cluster: &'c Cluster, namespace: &'static str) -> Self {
        let mesh = Self { cluster, namespace };
        let named =
            |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        let mut shop = named("Namespace", &mesh.shop());
        shop["metadata"]["labels"] = json!({names::INJECT: "enabled"});
        let mut account = named("ServiceAccount", names::CONTROL_PLANE);
        account["metadata"]["namespace"] = json!(namespace);
        let mut items = vec![named("Namespace", namespace), shop, account];
        items.extend(rights("ClusterRole", namespace, rbac::CLUSTER));
        items.extend(rights("Role", namespace, rbac::OWN_NAMESPACE));
        cluster.apply(&list(items)).await.unwrap();
        mesh
    }

    fn shop(&self) -> String {
        format!("{}-shop", self.namespace)
    }

    /// Starts a replica on the world as it is.
    async fn replica(&self, name: &str) -> Replica {
        let kubeconfig = self.cluster.kubeconfig_for(self.namespace, names::CONTROL_PLANE).await.unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let hub = Hub::new(self.world().await, Meters::new(Registry::new()));
        let (_, authorities) = watch::channel(Arc::from(ROOT));
        let installation =
            Installation { namespace: self.namespace.into(), replica: name.into(), authorities };
        let (trigger, drain) = drain::new(Duration::from_secs(10));
        let mut tasks = JoinSet::new();
        tasks.spawn(Writer::new(client, hub.clone(), installation).run(drain.clone()));
        tasks.spawn(push(hub.clone(), drain));
        Replica { hub, drain: trigger, _tasks: tasks }
    }

    /// Starts a whole control plane, as the pod of this name.
    async fn control_plane(&self, pod: &str) -> Process {
        let kubeconfig = self.cluster.kubeconfig_for(self.namespace, names::CONTROL_PLANE).await.unwrap();
        let kubeconfig = kubeconfig.display().to_string();
        let cluster = ["control-plane", "--kubernetes", "--kubeconfig", &kubeconfig];
        let own = ["--mesh-namespace", self.namespace, "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let program = Program::of_workspace("outrigger").args(cluster).args(own).env("HOSTNAME", pod);
        program.start_ready(PATIENCE).await.unwrap()
    }

    /// The world of the users' namespace, as it is in the cluster now.
    async fn world(&self) -> Arc<World> {
        let kinds = "services,httproutes,backendpolicies";
        let mut items = self.cluster.list_json(kinds, &self.shop(), "").await.unwrap();
        items.push(self.cluster.get_json("namespace", "", &self.shop()).await.unwrap());
        let parsed = parse_yaml("cluster", &list(items));
        let changes = parsed.objects.into_iter().map(Change::from).collect();
        Arc::new(World::default().apply(changes).0.with_problems(parsed.problems))
    }

    /// Tells replicas what is in the cluster now.
    async fn publish(&self, replicas: &[&Replica]) {
        let world = self.world().await;
        for replica in replicas {
            replica.hub.publish(world.clone(), Changed::default());
        }
    }

    async fn apply(&self, kind: Value) {
        let mut object = kind;
        object["metadata"]["namespace"] = json!(self.shop());
        self.cluster.apply(&object.to_string()).await.unwrap();
    }

    /// Who leads, once somebody other than `not` does.
    async fn leader(&self, not: &str) -> String {
        let holder = |lease: &Value| {
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            holder.split('_').next().unwrap_or_default().to_owned()
        };
        let is_new = |lease: &Value| !holder(lease).is_empty() && holder(lease) != not;
        holder(&self.cluster.wait_for("lease", self.namespace, names::LEADER_LEASE, is_new).await.unwrap())
    }

    /// Waits until our entry in the status of a route has a condition with this reason; the route.
    async fn route_with(&self, name: &str, type_: &str, reason: &str) -> Value {
        let is_said = |route: &Value| condition(&ours(route), type_)["reason"] == reason;
        self.cluster.wait_for("httproute", &self.shop(), name, is_said).await.unwrap()
    }
}

async fn push(hub: Arc<Hub>, drain: Drain) {
    hub.run(drain).await;
}

/// A role with these rules, bound to the control plane.
fn rights(kind: &str, namespace: &str, rules: &[rbac::Rule]) -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let metadata =
        json!({"name": namespace, "namespace": if kind == "Role" { Some(namespace) } else { None }});
    let version = format!("{group}/v1");
    [
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": kind, "name": namespace},
            "subjects": [{"kind": "ServiceAccount", "name": names::CONTROL_PLANE, "namespace": namespace}],
        }),
    ]
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}

/// A route for the Service `reviews`.
fn route(name: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "reviews", "port": 80}],
            "rules": [{"matches": [{"path": {"value": format!("/{name}")}}], "backendRefs": [{"name": backend, "port": 80}]}],
        },
    })
}

/// The injector's configuration, which calls nobody.
fn injector(namespace: &str) -> Value {
    let webhook = json!({
        "name": names::INJECT_POD_WEBHOOK, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": names::CONTROL_PLANE, "namespace": namespace, "path": "/inject"}},
        // No namespace has this label.
        "namespaceSelector": {"matchLabels": {"example.com/nowhere": "true"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": names::INJECTOR_WEBHOOK}, "webhooks": [webhook],
    })
}

/// Our entries in the status of a route.
fn ours(route: &Value) -> Value {
    let parents = route["status"]["parents"].as_array().cloned().unwrap_or_default();
    let mut ours = parents.into_iter().filter(|parent| parent["controllerName"] == CONTROLLER_NAME);
    let first = ours.next().unwrap_or_default();
    assert!(ours.next().is_none(), "one parent has one entry: {route:#}");
    first
}

fn condition(status: &Value, type_: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}

#[tokio::test]
async fn of_three_control_planes_one_writes_and_another_when_it_is_killed() {
    // Not the shared one: these programs see all of a cluster.
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let cluster = with_our_kinds(&found).await;
    let mesh = Mesh::install(&cluster, "election").await;
    cluster.apply(&injector(mesh.namespace).to_string()).await.unwrap();
    mesh.apply(service("reviews")).await;
    mesh.apply(route("quiet", "reviews")).await;
    mesh.apply(route("loud", "reviews")).await;
    let mut planes = BTreeMap::new();
    for name in ["replica-0", "replica-1", "replica-2"] {
        planes.insert(name.to_owned(), mesh.control_plane(name).await);
    }
    let first = mesh.leader("").await;
    let quiet = mesh.route_with("quiet", "ResolvedRefs", "ResolvedRefs").await;
    mesh.route_with("loud", "ResolvedRefs", "ResolvedRefs").await;
    let has_root = |found: &Value| found["data"]["ca.crt"].as_str().is_some_and(|text| !text.is_empty());
    let bundle = cluster.wait_for("configmap", &mesh.shop(), names::TRUST_BUNDLE, has_root).await.unwrap();
    let is_trusted = |found: &Value| !found["webhooks"][0]["clientConfig"]["caBundle"].is_null();
    let kind = "mutatingwebhookconfiguration";
    let trusting = cluster.wait_for(kind, "", names::INJECTOR_WEBHOOK, is_trusted).await.unwrap();
    let secret = cluster.get_json("secret", mesh.namespace, names::ROOT_SECRET).await.unwrap();
    assert_eq!(trusting["webhooks"][0]["clientConfig"]["caBundle"], secret["data"]["ca.crt"]);

    // It is killed, and a route changes before anybody else leads.
    planes.remove(&first).unwrap().signal(Signal::Kill).unwrap();
    mesh.apply(route("loud", "gone")).await;
    let second = mesh.leader(&first).await;
    mesh.route_with("loud", "ResolvedRefs", "BackendNotFound").await;

    // It leaves in good order, and the third one goes on.
    let mut leaving = planes.remove(&second).unwrap();
    leaving.signal(Signal::Terminate).unwrap();
    assert_eq!(leaving.wait_exit(PATIENCE).await.unwrap(), 0, "{}", leaving.stderr());
    let third = mesh.leader(&second).await;
    assert!(planes.contains_key(&third), "{third}");
    mesh.apply(route("loud", "reviews")).await;
    mesh.route_with("loud", "ResolvedRefs", "ResolvedRefs").await;

    // Nobody wrote what was right already.
    let now = cluster.get_json("httproute", &mesh.shop(), "quiet").await.unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], quiet["metadata"]["resourceVersion"]);
    let now = cluster.get_json("configmap", &mesh.shop(), names::TRUST_BUNDLE).await.unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], bundle["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_status_has_our_entry_once_and_is_written_only_when_it_changes() {
    let Some(cluster) = cluster().await else { return };
    let mesh = Mesh::install(cluster, "status").await;
    mesh.apply(service("reviews")).await;
    mesh.apply(route("quiet", "reviews")).await;
    mesh.apply(route("loud", "reviews")).await;
    let edge = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"},
        "controllerName": "example.com/edge",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let patch = json!({"status": {"parents": [edge]}}).to_string();
    let shop = mesh.shop();
    let patch =
        ["patch", "httproute", "quiet", "-n", &shop, "--subresource=status", "--type=merge", "-p", &patch];
    cluster.kubectl(&patch).await.unwrap();

    let replica = mesh.replica("replica").await;
    let quiet = mesh.route_with("quiet", "Accepted", "Accepted").await;
    let entry = ours(&quiet);
    assert_eq!(entry["parentRef"], json!({"group": "", "kind": "Service", "name": "reviews", "port": 80}));
    assert_eq!(condition(&entry, "Accepted")["observedGeneration"], 1);
    assert_eq!(quiet["status"]["parents"][0], edge, "what others wrote stays");
    assert_eq!(quiet["status"]["parents"].as_array().map(Vec::len), Some(2));

    // A problem of another route: told in its status and by one event.
    mesh.route_with("loud", "ResolvedRefs", "ResolvedRefs").await;
    mesh.apply(route("loud", "gone")).await;
    mesh.publish(&[&replica]).await;
    let loud = mesh.route_with("loud", "ResolvedRefs", "BackendNotFound").await;
    assert_eq!(condition(&ours(&loud), "ResolvedRefs")["observedGeneration"], 2);
    let are_told = |events: &[Value]| !events.is_empty();
    let events = cluster.wait_for_list("events.events.k8s.io", &shop, "", are_told).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (&event["reason"], &event["regarding"]["name"])).collect();
    assert_eq!(told, [(&json!("BackendNotFound"), &json!("loud"))], "{events:#?}");
    assert_eq!(events[0]["regarding"]["uid"], loud["metadata"]["uid"]);

    // The same again counts up the same event.
    mesh.apply(route("loud", "reviews")).await;
    mesh.publish(&[&replica]).await;
    mesh.route_with("loud", "ResolvedRefs", "ResolvedRefs").await;
    mesh.apply(route("loud", "gone")).await;
    mesh.publish(&[&replica]).await;
    let is_counted = |events: &[Value]| matches!(events, [event] if event["series"]["count"] == 2);
    cluster.wait_for_list("events.events.k8s.io", &shop, "", is_counted).await.unwrap();

    // A successor finds everything as it should be: it writes what changed and nothing else.
    replica.drain.drain_and_wait().await;
    let successor = mesh.replica("successor").await;
    mesh.apply(route("loud", "reviews")).await;
    mesh.publish(&[&successor]).await;
    mesh.route_with("loud", "ResolvedRefs", "ResolvedRefs").await;
    let now = cluster.get_json("httproute", &shop, "quiet").await.unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], quiet["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_policy_of_ours_has_conditions_that_kubectl_waits_for() {
    let Some(cluster) = cluster().await else { return };
    let mesh = Mesh::install(cluster, "policies").await;
    mesh.apply(service("reviews")).await;
    let target = |name| json!({"group": "", "kind": "Service", "name": name});
    let policy = |name: &str, targets: Value| {
        json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "BackendPolicy", "metadata": {"name": name},
            "spec": {"targetRefs": targets, "loadBalancer": {"algorithm": "Random"}},
        })
    };
    mesh.apply(policy("good", json!([target("reviews")]))).await;
    mesh.apply(policy("bad", json!([target("gone")]))).await;
    let _replica = mesh.replica("replica").await;
    let shop = mesh.shop();
    let wait = ["wait", "backendpolicy/good", "-n", &shop, "--for=condition=Accepted", "--timeout=60s"];
    cluster.kubectl(&wait).await.unwrap();
    let is_refused = |policy: &Value| condition(&policy["status"], "Accepted")["status"] == "False";
    let bad = cluster.wait_for("backendpolicy", &shop, "bad", is_refused).await.unwrap();
    assert_eq!(condition(&bad["status"], "Accepted")["reason"], "TargetNotFound");
}

#[tokio::test]
async fn roots_and_authority_are_written_and_repaired() {
    let Some(cluster) = cluster().await else { return };
    let mesh = Mesh::install(cluster, "trust").await;
    let shop = mesh.shop();
    let configuration = injector(mesh.namespace);
    cluster.apply(&configuration.to_string()).await.unwrap();
    let _replica = mesh.replica("replica").await;

    let has_root = |found: &Value| found["data"]["ca.crt"] == ROOT;
    cluster.wait_for("configmap", &shop, names::TRUST_BUNDLE, has_root).await.unwrap();
    let edit =
        ["patch", "configmap", names::TRUST_BUNDLE, "-n", &shop, "-p", r#"{"data": {"ca.crt": "forged"}}"#];
    cluster.kubectl(&edit).await.unwrap();
    cluster.wait_for("configmap", &shop, names::TRUST_BUNDLE, has_root).await.unwrap();
    cluster.kubectl(&["delete", "configmap", names::TRUST_BUNDLE, "-n", &shop]).await.unwrap();
    cluster.wait_for("configmap", &shop, names::TRUST_BUNDLE, has_root).await.unwrap();
    let elsewhere = cluster.get_json("configmap", mesh.namespace, names::TRUST_BUNDLE).await;
    assert!(elsewhere.unwrap_err().to_string().contains("not found"), "only where sidecars are");

    let is_trusted = |found: &Value| {
        found["webhooks"][0]["clientConfig"]["caBundle"].as_str().is_some_and(|it| !it.is_empty())
    };
    let kind = "mutatingwebhookconfiguration";
    let found = cluster.wait_for(kind, "", names::INJECTOR_WEBHOOK, is_trusted).await.unwrap();
    assert_eq!(found["webhooks"][0]["name"], names::INJECT_POD_WEBHOOK);
    assert_eq!(found["webhooks"][0]["clientConfig"]["service"]["path"], "/inject", "the rest stays");
    // Whoever installs again does not take it away.
    cluster.apply(&configuration.to_string()).await.unwrap();
    let again = cluster.get_json(kind, "", names::INJECTOR_WEBHOOK).await.unwrap();
    assert_eq!(again["webhooks"], found["webhooks"]);
}
