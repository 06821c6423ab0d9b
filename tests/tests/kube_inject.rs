//! A real API server asks the control plane: pods get their sidecars, objects of ours are judged, and what the cluster
//! needs for itself never waits for us.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_resources::yaml_values;
use outrigger_tests::counterparts;
use outrigger_tests::kube::Cluster;
use outrigger_tests::process::{Process, Program, cargo_bin};
use serde_json::{Value, json};

/// How long a program may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the API server may take to see that a configuration of webhooks has changed.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// A cluster, and a control plane beside it whose webhooks it asks.
struct Mesh {
    control_plane: Process,
    home: tempfile::TempDir,
    cluster: Cluster,
}

/// What `outrigger install` prints of some kinds.
async fn installed(kinds: &[&str]) -> Vec<Value> {
    let install = Program::at(cargo_bin("outrigger")).args(["install"]).output(PATIENCE).await.unwrap();
    let mut objects = yaml_values(&install).unwrap();
    objects.retain(|object| kinds.contains(&object["kind"].as_str().unwrap()));
    objects
}

/// The same webhooks with all their selectors, at an address outside of the cluster.
fn outside(mut configuration: Value, address: SocketAddr, authority: &str) -> Value {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
        let url = format!("https://{address}{path}");
        webhook["clientConfig"] = json!({"url": url, "caBundle": authority});
    }
    configuration
}

impl Mesh {
    async fn start(cluster: Cluster) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("config")).unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        let free = "127.0.0.1:0";
        let control_plane = Program::of_workspace("outrigger-control-plane")
            .args(["--config", &path("config"), "--data", &path("data")])
            .args(["--xds", free, "--http", free, "--webhook", free])
            .start_ready(PATIENCE)
            .await
            .unwrap();
        let mesh = Self { control_plane, home, cluster };
        mesh.install().await;
        mesh
    }

    async fn install(&self) {
        let authority = std::fs::read(self.home.path().join("data/root-cert.pem")).unwrap();
        let authority = STANDARD.encode(authority);
        let address = self.control_plane.address("/webhook").unwrap();
        self.apply(&installed(&["CustomResourceDefinition"]).await).await.unwrap();
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
        self.cluster.kubectl(&wait).await.unwrap();
        let webhooks = installed(&[MUTATING, VALIDATING]).await;
        assert_eq!(webhooks.len(), 2);
        let webhooks: Vec<_> = webhooks.into_iter().map(|it| outside(it, address, &authority)).collect();
        self.apply(&webhooks).await.unwrap();
        for (name, labels) in [
            ("shop", json!({"outrigger.dev/inject": "enabled"})),
            ("plain", json!({})),
            ("off", json!({"outrigger.dev/inject": "disabled"})),
            (
                "guarded",
                json!({"outrigger.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}),
            ),
        ] {
            let metadata = json!({"name": name, "labels": labels});
            self.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})])
                .await
                .unwrap();
            self.cluster.wait_for("serviceaccount", name, "default", |_| true).await.unwrap();
        }
    }

    async fn apply(&self, objects: &[Value]) -> anyhow::Result<String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cluster.apply(&list.to_string()).await
    }

    /// The names of the init containers of a pod that is made anew, or why it cannot be made.
    async fn made(&self, pod: Value) -> Result<String, String> {
        self.apply(std::slice::from_ref(&pod)).await.map_err(|error| error.to_string())?;
        let text = |key: &str| pod["metadata"][key].as_str().unwrap().to_owned();
        let made = self.cluster.get_json("pod", &text("namespace"), &text("name")).await.unwrap();
        let names = made["spec"]["initContainers"].as_array().into_iter().flatten();
        Ok(names.map(|it| it["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" "))
    }

    /// Waits until the API server asks the control plane.
    async fn asked(&self) {
        let asked = outrigger_tests::eventually(SEEN_WITHIN, async || {
            let name = format!("first-{}", fastrand::u32(..));
            let made = self.made(pod("shop", &name, json!({}))).await;
            made.is_ok_and(|names| names.starts_with(OURS)).then_some(())
        });
        asked.await.expect("the API server asks the control plane");
    }
}

const OURS: &str = "outrigger-redirect outrigger-proxy";

fn pod(namespace: &str, name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations, "labels": {"app": "web"}},
        "spec": {"containers": [{
            "name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}],
            "livenessProbe": {"tcpSocket": {"port": "http"}},
        }]},
    })
}

/// Who gets a sidecar, by the labels of namespaces and the annotations of pods.
async fn check_who_is_injected(mesh: &Mesh) {
    let enabled = json!({"outrigger.dev/inject": "enabled"});
    let disabled = json!({"outrigger.dev/inject": "disabled"});
    for (namespace, name, annotations, want) in [
        ("shop", "by-label", json!({"other.example/a": "b"}), OURS),
        ("shop", "opted-out", disabled, ""),
        ("plain", "by-annotation", enabled.clone(), OURS),
        ("plain", "not-asked", json!({}), ""),
        ("off", "not-asked", json!({}), ""),
        ("kube-system", "of-the-cluster", enabled, ""),
    ] {
        let made = mesh.made(pod(namespace, name, annotations)).await;
        assert_eq!(made.as_deref(), Ok(want), "{namespace}/{name}");
    }
}

/// What the API server keeps of a pod with a sidecar is what was meant.
async fn check_the_pod(mesh: &Mesh) {
    let pod = mesh.cluster.get_json("pod", "shop", "by-label").await.unwrap();
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
    let probe = &pod["spec"]["containers"][0]["livenessProbe"]["httpGet"];
    assert_eq!((&probe["path"], &probe["port"]), (&json!("/app-health/web/liveness"), &json!(15021)));
    let token = &pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "outrigger-token")
        .unwrap();
    assert_eq!(token["projected"]["sources"][0]["serviceAccountToken"]["audience"], "outrigger");
    // Cluster and command agree on what is ours.
    let written = self::pod("shop", "by-label", json!({"other.example/a": "b"}));
    let file = mesh.home.path().join("pod.json");
    std::fs::write(&file, written.to_string()).unwrap();
    let injected = inject(&file).await;
    for container in 0..2 {
        let (of_command, of_webhook) =
            (&injected["spec"]["initContainers"][container], &pod["spec"]["initContainers"][container]);
        for field in ["name", "image", "args", "env", "securityContext", "resources"] {
            // To other fields the API server adds defaults, and to mounts the one of the service account.
            assert_eq!(of_command[field], of_webhook[field], "{field}");
        }
    }
}

async fn inject(file: &Path) -> Value {
    let file = file.display().to_string();
    let program = Program::at(cargo_bin("outrigger")).args(["inject", "-o", "json", "-f", &file]);
    serde_json::from_str(&program.output(PATIENCE).await.unwrap()).unwrap()
}

/// Controllers make pods like anybody else, and Jobs are Jobs.
async fn check_templates(mesh: &Mesh) {
    let template = json!({"metadata": {"labels": {"app": "made"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
    let mut ending = template.clone();
    ending["metadata"]["labels"]["app"] = "ending".into();
    ending["spec"]["restartPolicy"] = "Never".into();
    let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
    let selector = json!({"matchLabels": {"app": "made"}});
    mesh.apply(&[
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("made"), "spec": {"selector": selector, "template": template}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata("ending"), "spec": {"template": ending}}),
    ])
    .await
    .unwrap();
    for labels in ["app=made", "app=ending"] {
        let has_sidecar = |pods: &[Value]| {
            pods.first().is_some_and(|pod| pod["spec"]["initContainers"][1]["name"] == "outrigger-proxy")
        };
        mesh.cluster.wait_for_list("pods", "shop", labels, has_sidecar).await.unwrap();
    }
}

/// Who is refused is told what to do.
async fn check_refusals(mesh: &Mesh) {
    let bad =
        mesh.made(pod("shop", "bad", json!({"outrigger.dev/skip-inbound-ports": "ssh"}))).await.unwrap_err();
    assert!(
        bad.contains("denied the request") && bad.contains("skip-inbound-ports") && bad.contains("9100-9110"),
        "{bad}"
    );
    // The redirect step needs what the stricter levels of Pod Security refuse; the message names the container.
    let guarded = mesh.made(pod("guarded", "web", json!({}))).await.unwrap_err();
    assert!(
        guarded.contains("PodSecurity")
            && guarded.contains("outrigger-redirect")
            && guarded.contains("NET_ADMIN"),
        "{guarded}"
    );

    let policy = json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "BackendPolicy", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "loadBalancer": {"algorithm": "RingHash"},
        },
    });
    let refused = mesh.apply(std::slice::from_ref(&policy)).await.unwrap_err().to_string();
    let file = mesh.home.path().join("policy.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    let file = file.display().to_string();
    let validate = Program::at(cargo_bin("outrigger")).args(["validate", "-o", "json", &file]);
    let report = validate.output(PATIENCE).await.unwrap_err().to_string();
    let message = "BackendPolicy/shop/p: spec.loadBalancer.hashOn: missing; write header, cookie or sourceIp";
    assert!(refused.contains(message) && report.contains(message), "{refused}\n{report}");
    let mut good = policy;
    good["spec"]["loadBalancer"]["hashOn"] = json!({"sourceIp": true});
    mesh.apply(&[good]).await.unwrap();
}

/// Without a control plane nobody slips by without a sidecar, and the cluster goes on.
async fn check_without_a_control_plane(mesh: Mesh) {
    let Mesh { control_plane, home: _home, cluster } = mesh;
    drop(control_plane);
    let apply = async |pod: Value| cluster.apply(&pod.to_string()).await.map_err(|error| error.to_string());
    let refused = apply(pod("shop", "later", json!({}))).await.unwrap_err();
    assert!(
        refused.contains("failed calling webhook") && refused.contains("inject.outrigger.dev"),
        "{refused}"
    );
    for namespace in ["kube-system", "outrigger-system", "plain", "off"] {
        if namespace == "outrigger-system" {
            cluster.kubectl(&["create", "namespace", namespace]).await.unwrap();
            cluster
                .kubectl(&["label", "namespace", namespace, "outrigger.dev/inject=enabled"])
                .await
                .unwrap();
            cluster.wait_for("serviceaccount", namespace, "default", |_| true).await.unwrap();
        }
        apply(pod(namespace, "later", json!({}))).await.unwrap();
    }
}

#[tokio::test]
async fn pods_get_their_sidecars_from_a_real_api_server_and_the_cluster_never_waits_for_us() {
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let mesh = Mesh::start(Cluster::start(&found).await.unwrap()).await;
    mesh.asked().await;
    check_who_is_injected(&mesh).await;
    check_the_pod(&mesh).await;
    check_templates(&mesh).await;
    check_refusals(&mesh).await;
    check_without_a_control_plane(mesh).await;
}
