//! What there is to judge, asked for once.

use std::time::{SystemTime, UNIX_EPOCH};

use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use crate::cluster::{Cluster, items, text};

/// What is true of the cluster, with or without the mesh.
#[derive(Debug)]
pub(super) struct Platform {
    /// `v1.36.3`.
    pub(super) version: String,
    pub(super) minor: u32,
    /// How far the clock of the API server is ahead of ours, in seconds; negative when it is behind.
    pub(super) skew_seconds: Option<i64>,
    /// The CustomResourceDefinitions that are installed.
    pub(super) definitions: Result<Vec<Value>, String>,
    /// The namespace that the injector of an installation serves from.
    pub(super) installed_in: Option<String>,
    /// What we may not do of what an installation needs.
    pub(super) denied: Vec<String>,
}

/// What is true of the mesh.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) namespace: String,
    pub(super) now: SystemTime,
    pub(super) deployment: Found,
    pub(super) cluster_role: Found,
    pub(super) role: Found,
    pub(super) injector: Found,
    pub(super) validator: Found,
    /// What became of a pod that asks for a sidecar and was only rehearsed.
    pub(super) rehearsal: Result<Value, String>,
    /// The trust bundles of all namespaces.
    pub(super) bundles: Result<Vec<Value>, String>,
    pub(super) namespaces: Result<Vec<Value>, String>,
    pub(super) pods: Result<Vec<Value>, String>,
    /// What each pod of the control plane says of itself, by name.
    pub(super) replicas: Vec<Replica>,
}

/// An object that may be missing, or forbidden to see.
pub(super) type Found = Result<Option<Value>, String>;

/// What one pod of the control plane says.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) pod: String,
    /// `/api/v1/version`, and our clock when it came, in seconds of Unix time.
    pub(super) version: Result<(Value, u64), String>,
    pub(super) proxies: Vec<Value>,
    /// `/api/v1/status`.
    pub(super) status: Value,
}

pub(super) async fn platform(cluster: &Cluster) -> anyhow::Result<Platform> {
    let answer = cluster.get("/version").await?;
    let version = text(&answer.body, "/gitVersion").to_owned();
    let minor = text(&answer.body, "/minor").trim_end_matches('+').parse().unwrap_or(0);
    let skew_seconds = answer.date.as_deref().and_then(|date| skew(date, SystemTime::now()));
    let definitions = list(cluster, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await;
    let injector = cluster.find(&injector_path()).await.ok().flatten();
    let installed_in =
        injector.map(|webhook| text(&webhook, "/webhooks/0/clientConfig/service/namespace").to_owned());
    let denied = denied(cluster).await;
    Ok(Platform { version, minor, skew_seconds, definitions, installed_in, denied })
}

/// How far a clock that wrote `date` is ahead, in seconds.
fn skew(date: &str, now: SystemTime) -> Option<i64> {
    let theirs = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(theirs.cast_signed() - unix_seconds(now).cast_signed())
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn injector_path() -> String {
    format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}", names::INJECTOR_WEBHOOK)
}

/// What an installation makes, and the group of each.
const MADE: [(&str, &str); 8] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
];

async fn denied(cluster: &Cluster) -> Vec<String> {
    let mut denied = Vec::new();
    for (group, resource) in MADE {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"group": group, "resource": resource, "verb": "create",
                                            "namespace": cluster.namespace}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = cluster.post(path, &review).await;
        if !answer.is_ok_and(|answer| answer.body["status"]["allowed"] == true) {
            denied.push(resource.to_owned());
        }
    }
    denied
}

pub(super) async fn installation(cluster: &Cluster) -> Facts {
    let own = format!("/namespaces/{}", cluster.namespace);
    let name = names::CONTROL_PLANE;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let validator = format!("{admission}/validatingwebhookconfigurations/{}", names::VALIDATOR_WEBHOOK);
    let replicas = replicas(cluster, &cluster.control_planes().await.unwrap_or_default()).await;
    Facts {
        namespace: cluster.namespace.clone(),
        now: SystemTime::now(),
        deployment: find(cluster, &format!("/apis/apps/v1{own}/deployments/{name}")).await,
        replicas,
        cluster_role: find(cluster, &format!("{rbac}/clusterroles/{name}")).await,
        role: find(cluster, &format!("{rbac}{own}/roles/{name}")).await,
        injector: find(cluster, &injector_path()).await,
        validator: find(cluster, &validator).await,
        rehearsal: rehearse(cluster).await,
        bundles: list(
            cluster,
            &format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}", names::TRUST_BUNDLE),
        )
        .await,
        namespaces: list(cluster, "/api/v1/namespaces").await,
        pods: list(cluster, "/api/v1/pods").await,
    }
}

async fn find(cluster: &Cluster, path: &str) -> Found {
    cluster.find(path).await.map_err(|error| format!("{error:#}"))
}

async fn list(cluster: &Cluster, path: &str) -> Result<Vec<Value>, String> {
    match cluster.get(path).await {
        Ok(answer) => Ok(items(&answer.body).to_vec()),
        Err(error) => Err(format!("{error:#}")),
    }
}

async fn replicas(cluster: &Cluster, pods: &[String]) -> Vec<Replica> {
    let token = cluster.api_token().await;
    let mut replicas = Vec::new();
    for pod in pods {
        let name = pod.clone();
        let replica = match &token {
            Ok(token) => ask(cluster, name, token).await,
            Err(error) => Replica {
                pod: name,
                version: Err(format!("{error:#}")),
                proxies: Vec::new(),
                status: Value::Null,
            },
        };
        replicas.push(replica);
    }
    replicas
}

async fn ask(cluster: &Cluster, pod: String, token: &str) -> Replica {
    let version = cluster.ask_control_plane(&pod, "/api/v1/version", token).await;
    let version = version
        .map(|version| (version, unix_seconds(SystemTime::now())))
        .map_err(|error| format!("{error:#}"));
    let proxies = cluster.ask_control_plane(&pod, "/api/v1/proxies", token).await.unwrap_or_default();
    let status = cluster.ask_control_plane(&pod, "/api/v1/status", token).await.unwrap_or_default();
    let proxies = proxies["proxies"].as_array().cloned().unwrap_or_default();
    Replica { pod, version, proxies, status }
}

/// Creates a pod that asks for a sidecar, as a dry run: the API server asks the injector and keeps nothing.
async fn rehearse(cluster: &Cluster) -> Result<Value, String> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "outrigger-check", "annotations": {names::INJECT: "enabled"}},
        "spec": {"containers": [{"name": "app", "image": "outrigger.dev/check"}]},
    });
    let path = "/api/v1/namespaces/default/pods?dryRun=All";
    match cluster.post(path, &pod).await {
        Ok(answer) if answer.status < 300 => Ok(answer.body),
        Ok(answer) => Err(answer.said().to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}
